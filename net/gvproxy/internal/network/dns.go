package network

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/egress"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/names"
	"gateway.local/gvproxy/internal/relay"
)

const (
	lookupTimeout = 15 * time.Second
	// serviceTTL is the time in seconds for which a name of the host services may be remembered.
	serviceTTL = 5
)

// serviceNames stand for the host services' address while a service is open. They never leave this
// program: what the host or its resolver makes of them does not count.
var serviceNames = map[string]bool{
	"host.openshell.internal.": true, "host.docker.internal.": true, "host.gateway.internal.": true,
}

// nameServer answers the guest's DNS questions: names of the host services by itself, everything else
// with what the host's resolver says.
type nameServer struct {
	services  *relay.Services
	serviceIP net.IP
	egress    *egress.Policy
	host      *names.Resolver
	lookups   atomic.Int64 // being answered
	// timeout is lookupTimeout; tests lower it.
	timeout time.Duration
}

// serveDNS answers on the gateway's port 53.
func (n *Network) serveDNS(resolver *names.Resolver) error {
	at := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(n.config.Addresses.Gateway.As4()), Port: 53}
	packets, err := gonet.DialUDP(n.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	listener, err := gonet.ListenTCP(n.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	server := &nameServer{
		services: n.Relays.Services, serviceIP: n.config.Addresses.Service.AsSlice(), egress: n.Egress, host: resolver,
		timeout: lookupTimeout,
	}
	tcp := &dns.Server{
		Listener: netutil.LimitListener(listener, limits.MaxDNSConnections), Handler: dns.HandlerFunc(server.answerTCP),
	}
	go logEnd("DNS over UDP", func() error { return server.serveUDP(packets) })
	go logEnd("DNS over TCP", tcp.ActivateAndServe)
	return nil
}

// serveUDP answers datagrams. The library's server starts a goroutine for each; here what is beyond
// MaxLookups is refused by the loop itself, and what it does not get to the stack drops.
func (s *nameServer) serveUDP(packets net.PacketConn) error {
	return eachDatagram(packets, dns.MaxMsgSize, func(message []byte, from net.Addr) {
		query, reply := readQuery(message)
		switch {
		case reply == nil:
		case query == nil:
			sendReply(packets, from, reply)
		case limits.Reserve(&s.lookups, limits.MaxLookups):
			go func() {
				defer s.lookups.Add(-1)
				s.fill(reply)
				reply.Truncate(udpSize(query))
				sendReply(packets, from, reply)
			}()
		default:
			reply.Rcode = dns.RcodeServerFailure
			sendReply(packets, from, reply)
		}
	})
}

// readQuery reads a message of the guest. A question has a query and the beginning of its reply, what is
// to be refused only the reply, and what deserves no answer neither.
func readQuery(message []byte) (query, reply *dns.Msg) {
	const headerSize = 12
	if len(message) < headerSize {
		return nil, nil
	}
	query = new(dns.Msg)
	if err := query.Unpack(message); err != nil {
		// The library may have read the header before it failed.
		id, flags := binary.BigEndian.Uint16(message), binary.BigEndian.Uint16(message[2:])
		if flags&0x8000 != 0 {
			return nil, nil
		}
		refusal := new(dns.Msg)
		refusal.Id, refusal.Response, refusal.Rcode = id, true, dns.RcodeFormatError
		return nil, refusal
	}
	if query.Response {
		return nil, nil
	}
	reply = beginReply(query)
	switch {
	case query.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
	case len(query.Question) != 1 || len(query.Answer) > 1 || len(query.Ns) > 1 || len(query.Extra) > 2:
		reply.Rcode = dns.RcodeFormatError
	default:
		return query, reply
	}
	return nil, reply
}

// beginReply is a reply without an answer.
func beginReply(query *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable, reply.Compress = true, true
	if options := query.IsEdns0(); options != nil {
		reply.SetEdns0(names.MaxUDPReply, options.Do())
	}
	return reply
}

// udpSize is how long an answer by UDP may be.
func udpSize(query *dns.Msg) int {
	if options := query.IsEdns0(); options != nil {
		return min(max(dns.MinMsgSize, int(options.UDPSize())), names.MaxUDPReply)
	}
	return dns.MinMsgSize
}

func sendReply(packets net.PacketConn, to net.Addr, reply *dns.Msg) {
	message, err := reply.Pack()
	if err == nil {
		_, err = packets.WriteTo(message, to)
	}
	if err != nil {
		slog.Debug("DNS answer", "error", err)
	}
}

// answerTCP answers one question of a connection; the next one is read after it.
func (s *nameServer) answerTCP(w dns.ResponseWriter, query *dns.Msg) {
	reply := beginReply(query)
	if limits.Reserve(&s.lookups, limits.MaxLookups) {
		s.fill(reply)
		s.lookups.Add(-1)
	} else {
		reply.Rcode = dns.RcodeServerFailure
	}
	reply.Truncate(dns.MaxMsgSize)
	if err := w.WriteMsg(reply); err != nil {
		slog.Debug("DNS answer", "error", err)
	}
}

// fill answers the question of a reply.
func (s *nameServer) fill(reply *dns.Msg) {
	if len(reply.Question) != 1 {
		reply.Rcode = dns.RcodeFormatError
		return
	}
	question := reply.Question[0]
	if serviceNames[strings.ToLower(question.Name)] {
		s.fillService(reply, question)
		return
	}
	if !s.egress.MayAsk(question, s.host) {
		reply.Rcode = dns.RcodeRefused
		return
	}
	switch {
	case question.Qclass != dns.ClassINET:
		reply.Rcode = dns.RcodeNotImplemented
		return
	case question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR:
		reply.Rcode = dns.RcodeRefused
		return
	case question.Qtype == dns.TypeAAAA:
		// The guest has no IPv6. That the name has no such address spares it a wait.
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	found := s.host.Resolve(ctx, question)
	reply.Rcode, reply.Answer, reply.Ns = found.Rcode, found.Answer, found.Ns
}

// fillService gives the address of the host services. Without a service the name does not exist, and
// nothing in the answer lets a cache keep that for a while.
func (s *nameServer) fillService(reply *dns.Msg, question dns.Question) {
	if !s.services.Any() {
		reply.Rcode = dns.RcodeNameError
		return
	}
	if question.Qtype == dns.TypeA && question.Qclass == dns.ClassINET {
		reply.Answer = []dns.RR{names.AddressRecord(question.Name, s.serviceIP, serviceTTL)}
	}
}
