package main

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	lookupTimeout = 15 * time.Second
	// maxLookups bounds the questions that are answered at a time, maxDNSConnections those by TCP.
	maxLookups        = 256
	maxDNSConnections = 64
	// serviceTTL is the time in seconds for which a name of the host services may be remembered.
	serviceTTL = 5
	// maxUDPReply keeps an answer in one frame; a longer one is asked for again by TCP.
	maxUDPReply = 1232
)

// serviceNames stand for the host services' address while a service is open. They never leave this
// program: what the host or its resolver makes of them does not count.
var serviceNames = map[string]bool{
	"host.openshell.internal.": true, "host.docker.internal.": true, "host.gateway.internal.": true,
}

// nameServer answers the guest's DNS questions: names of the host services by itself, everything else
// with what the host's resolver says.
type nameServer struct {
	services  *serviceTable
	serviceIP net.IP
	host      *hostResolver
	slots     chan struct{}
}

// serveDNS answers on the gateway's port 53.
func (n *Network) serveDNS(resolver *hostResolver) error {
	at := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(n.config.gateway.As4()), Port: 53}
	packets, err := gonet.DialUDP(n.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	listener, err := gonet.ListenTCP(n.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	server := &nameServer{
		services: n.services, serviceIP: n.config.service.AsSlice(), host: resolver,
		slots: make(chan struct{}, maxLookups),
	}
	udp := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(server.answerUDP)}
	tcp := &dns.Server{
		Listener: netutil.LimitListener(listener, maxDNSConnections), Handler: dns.HandlerFunc(server.answerTCP),
	}
	go logEnd("DNS over UDP", udp.ActivateAndServe)
	go logEnd("DNS over TCP", tcp.ActivateAndServe)
	return nil
}

func (s *nameServer) answerUDP(w dns.ResponseWriter, r *dns.Msg) {
	size := dns.MinMsgSize
	if options := r.IsEdns0(); options != nil {
		size = min(max(size, int(options.UDPSize())), maxUDPReply)
	}
	s.answer(w, r, size)
}

func (s *nameServer) answerTCP(w dns.ResponseWriter, r *dns.Msg) { s.answer(w, r, dns.MaxMsgSize) }

func (s *nameServer) answer(w dns.ResponseWriter, r *dns.Msg, size int) {
	reply := new(dns.Msg).SetReply(r)
	reply.RecursionAvailable, reply.Compress = true, true
	if options := r.IsEdns0(); options != nil {
		reply.SetEdns0(maxUDPReply, options.Do())
	}
	select {
	case s.slots <- struct{}{}:
		s.fill(reply)
		<-s.slots
	default:
		reply.Rcode = dns.RcodeServerFailure
	}
	reply.Truncate(size)
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
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found := s.host.resolve(ctx, question)
	reply.Rcode, reply.Answer, reply.Ns = found.Rcode, found.Answer, found.Ns
}

// fillService gives the address of the host services. Without a service the name does not exist, and
// nothing in the answer lets a cache keep that for a while.
func (s *nameServer) fillService(reply *dns.Msg, question dns.Question) {
	if !s.services.any() {
		reply.Rcode = dns.RcodeNameError
		return
	}
	if question.Qtype == dns.TypeA && question.Qclass == dns.ClassINET {
		reply.Answer = []dns.RR{addressRecord(question.Name, s.serviceIP, serviceTTL)}
	}
}

func recordHeader(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

func addressRecord(name string, address net.IP, ttl uint32) dns.RR {
	return &dns.A{Hdr: recordHeader(name, dns.TypeA, ttl), A: address}
}
