//go:build linux

package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func policyChecks() map[string]check {
	return map[string]check{
		"policy.judged": policyJudged,
		"policy.closed": policyClosed,
	}
}

const (
	openPort   = ":9000"
	closedPort = ":9001"
	// silence is how long no answer has to come before a packet counts as dropped.
	silence = 500 * time.Millisecond
)

// queueRules show the first packet of a connection between two pods on one bridge to a program, as network policies do.
var queueRules = chain("inet", "filter", "postrouting priority 95",
	"meta skuid >= 0 accept; ct state established,related accept; ip daddr "+podB+" ct state new queue num 7")

// policyJudged lets a program decide: one port is answered, the other is not.
func policyJudged(Host) (string, error) {
	return bridged(func(node, a, b *space) (string, error) {
		if err := filterBridged(node); err != nil {
			return "", err
		}
		judge, err := node.openQueue(7, func(payload []byte) bool { return udpPort(payload) == openPort })
		if err != nil {
			return "", err
		}
		defer judge.Close()
		if err := node.nft(queueRules); err != nil {
			return "", err
		}
		if _, err := a.exchange(b, podB+openPort, podB+openPort); err != nil {
			return "", fmt.Errorf("a packet that was accepted: %w", err)
		}
		if err := a.staysSilent(b, podB+closedPort); err != nil {
			return "", err
		}
		return "a program let one packet between pods through and dropped another", nil
	})
}

// policyClosed sees that a queue without a program drops.
func policyClosed(Host) (string, error) {
	return bridged(func(node, a, b *space) (string, error) {
		if err := filterBridged(node); err != nil {
			return "", err
		}
		if err := node.nft(queueRules); err != nil {
			return "", err
		}
		return "without a program nothing goes through", a.staysSilent(b, podB+openPort)
	})
}

// staysSilent fails when an echo server in other answers.
func (s *space) staysSilent(other *space, address string) error {
	server, err := other.echoServer(address)
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := s.askWithin(address, 1, silence); err == nil {
		return errors.New("a packet that was to be dropped arrived")
	}
	return nil
}

// udpPort is where an IPv4 datagram goes, as :PORT.
func udpPort(packet []byte) string {
	if len(packet) < 20 {
		return ""
	}
	header := int(packet[0]&0x0f) * 4
	if len(packet) < header+4 {
		return ""
	}
	return fmt.Sprintf(":%d", binary.BigEndian.Uint16(packet[header+2:]))
}

// The words of the kernel's packet queue (linux/netfilter/nfnetlink_queue.h).
const (
	queueMsgPacket     = unix.NFNL_SUBSYS_QUEUE << 8
	queueMsgVerdict    = unix.NFNL_SUBSYS_QUEUE<<8 | 1
	queueMsgConfig     = unix.NFNL_SUBSYS_QUEUE<<8 | 2
	queueConfigCommand = 1
	queueConfigParams  = 2
	queueBind          = 1
	queueCopyPacket    = 2
	queuePacketHeader  = 1
	queueVerdictHeader = 2
	queuePayload       = 10
)

// openQueue judges the packets of a queue of the namespace until the socket is closed.
func (s *space) openQueue(number uint16, judge func(payload []byte) bool) (*nl.NetlinkSocket, error) {
	var socket *nl.NetlinkSocket
	err := s.inside(func() (err error) {
		socket, err = nl.Subscribe(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("a socket of netfilter: %w", err)
	}
	send := func(kind int, attribute *nl.RtAttr) error {
		request := nl.NewNetlinkRequest(kind, 0)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0, ResId: swapped(number)})
		request.AddData(attribute)
		return socket.Send(request)
	}
	for _, setting := range []*nl.RtAttr{
		nl.NewRtAttr(queueConfigCommand, []byte{queueBind, 0, 0, 0}),
		nl.NewRtAttr(queueConfigParams, []byte{0, 0, 0, 128, queueCopyPacket}),
	} {
		if err := send(queueMsgConfig, setting); err != nil {
			socket.Close()
			return nil, err
		}
	}
	go func() {
		for {
			messages, _, err := socket.Receive()
			if err != nil {
				return
			}
			for _, message := range messages {
				if message.Header.Type == queueMsgPacket && len(message.Data) >= nl.SizeofNfgenmsg {
					id, payload := readQueued(message.Data[nl.SizeofNfgenmsg:])
					_ = send(queueMsgVerdict, nl.NewRtAttr(queueVerdictHeader, append(verdict(judge(payload)), id...)))
				}
			}
		}
	}()
	return socket, nil
}

func verdict(accept bool) []byte {
	if accept {
		return []byte{0, 0, 0, 1}
	}
	return []byte{0, 0, 0, 0}
}

// readQueued gives the number of a queued packet, as the kernel wrote it, and the packet. The last attribute is not
// padded, which the netlink library does not expect.
func readQueued(data []byte) (id, payload []byte) {
	id = make([]byte, 4)
	for len(data) >= unix.NLA_HDRLEN {
		length := int(binary.NativeEndian.Uint16(data))
		if length < unix.NLA_HDRLEN || length > len(data) {
			break
		}
		value := data[unix.NLA_HDRLEN:length]
		switch binary.NativeEndian.Uint16(data[2:]) {
		case queuePacketHeader:
			copy(id, value)
		case queuePayload:
			payload = value
		}
		data = data[min(len(data), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return id, payload
}

// swapped is a number in the network's order of bytes, held as this machine holds its own.
func swapped(number uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, number))
}
