// Package config reads what the program can be told, completes it and checks it.
// It must not open or create anything but the file.
package config

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// Config is the whole of what the program can be told. It is read once from a JSON file; unknown
// fields are refused so that a misspelt name is not silently a default.
type Config struct {
	// ListenQemu is the path of the stream socket that QEMU's `-netdev stream` connects to.
	ListenQemu string `json:"listenQemu,omitempty"`
	// ListenVfkit is the path of the datagram socket that libkrun and vfkit send frames to.
	ListenVfkit string `json:"listenVfkit,omitempty"`
	// API is the path of the host-only HTTP socket.
	API string `json:"api"`
	// Subnet is the virtual network; its first address is the gateway, its second the guest.
	Subnet string `json:"subnet,omitempty"`
	// GuestMAC always gets GuestIP by DHCP. Frames from any other address are dropped.
	GuestMAC string `json:"guestMac,omitempty"`
	// GuestIP is the guest's address; empty means the second address of Subnet.
	GuestIP string `json:"guestIp,omitempty"`
	// GatewayIP is the address of gateway and DNS; empty means the first address of Subnet.
	GatewayIP string `json:"gatewayIp,omitempty"`
	// ServiceIP is the address of HostServices; empty means the last but two of Subnet.
	ServiceIP string `json:"serviceIp,omitempty"`
	// HostServices are ports of the host's loopback that the guest may reach, from the start on.
	HostServices []HostService `json:"hostServices,omitempty"`
	// Egress is what the guest may reach through the host: internet (the default), all or none.
	Egress string `json:"egress,omitempty"`
	// AllowNets and AllowHosts are open besides.
	AllowNets  []AllowedNet  `json:"allowNets,omitempty"`
	AllowHosts []AllowedHost `json:"allowHosts,omitempty"`
	// MTU is told to the guest by DHCP.
	MTU int `json:"mtu,omitempty"`
	// ExitWithParent makes the end of stdin the end of the program.
	ExitWithParent bool `json:"exitWithParent,omitempty"`
	// User is whom root becomes once the sockets are open; 0 stays who started it.
	User int `json:"user,omitempty"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `json:"logLevel,omitempty"`

	// Addresses and Allowed are what the texts above mean; Complete sets them.
	Addresses Addresses `json:"-"`
	Allowed   []Allowed `json:"-"`
}

// HostService is a TCP port of the host's loopback that the user opened to the guest. The guest finds
// it on Config.ServiceIP, an address that leads nowhere else.
type HostService struct {
	// GuestPort is the port of Config.ServiceIP, HostPort that of the host's loopback.
	GuestPort uint16 `json:"guestPort"`
	HostPort  uint16 `json:"hostPort"`
}

// AllowedHost is a host that the user's settings name, a registry or a proxy: open by TCP, on one port,
// at the addresses that its name has at that time.
type AllowedHost struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

// AllowedNet is opened by the user, all of it or one port.
type AllowedNet struct {
	Net  string `json:"net"`
	Port uint16 `json:"port,omitempty"`
}

// Addresses are those of the virtual network.
type Addresses struct {
	Subnet                  netip.Prefix
	Gateway, Guest, Service netip.Addr
	GuestMAC                net.HardwareAddr
}

// Allowed is a prefix that is open whatever Egress says: all of it, or one port by TCP and UDP.
type Allowed struct {
	Prefix  netip.Prefix
	Port    uint16
	TCPOnly bool
}

// The values of Config.Egress.
const (
	EgressInternet = "internet"
	EgressAll      = "all"
	EgressNone     = "none"
)

const (
	// DefaultGuestMAC is the guest's unless GuestMAC says otherwise, GatewayMAC always the gateway's.
	DefaultGuestMAC = "5a:94:ef:e4:0c:ee"
	GatewayMAC      = "5a:94:ef:e4:0c:dd"

	defaultSubnet = "192.168.127.0/24"
	// maxSocketPath is the smallest sun_path of the systems we run on, less its final NUL.
	maxSocketPath = 103
)

// Load reads, completes and checks the configuration in the named file.
func Load(path string) (*Config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	var c Config
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.Complete(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// Complete applies the defaults and checks every value.
func (c *Config) Complete() error {
	if c.Subnet == "" {
		c.Subnet = defaultSubnet
	}
	if c.GuestMAC == "" {
		c.GuestMAC = DefaultGuestMAC
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	if c.MTU < 576 || c.MTU > 65521 {
		return fmt.Errorf("mtu %d is not between 576 and 65521", c.MTU)
	}
	mac, err := net.ParseMAC(c.GuestMAC)
	if err != nil || len(mac) != 6 {
		return fmt.Errorf("guestMac %q is not an Ethernet address", c.GuestMAC)
	}
	// The DHCP server compares texts, so the spelling has to be the library's own.
	c.GuestMAC, c.Addresses.GuestMAC = mac.String(), mac
	if err := c.completeAddresses(); err != nil {
		return err
	}
	if err := c.checkServices(); err != nil {
		return err
	}
	if err := c.completeEgress(); err != nil {
		return err
	}
	return c.checkSockets()
}

func (c *Config) completeEgress() error {
	if c.Egress == "" {
		c.Egress = EgressInternet
	}
	if c.Egress != EgressInternet && c.Egress != EgressAll && c.Egress != EgressNone {
		return fmt.Errorf("egress %q is not internet, all or none", c.Egress)
	}
	for _, one := range c.AllowNets {
		prefix, err := netip.ParsePrefix(one.Net)
		if err != nil || !prefix.Addr().Is4() {
			return fmt.Errorf("allowNets: %q is not an IPv4 prefix", one.Net)
		}
		c.Allowed = append(c.Allowed, Allowed{prefix.Masked(), one.Port, false})
	}
	for _, one := range c.AllowHosts {
		if one.Host == "" || one.Port == 0 {
			return fmt.Errorf("allowHosts: %q port %d is not a host and a port", one.Host, one.Port)
		}
		if ip, err := netip.ParseAddr(one.Host); err == nil {
			ip = ip.WithZone("").Unmap()
			c.Allowed = append(c.Allowed, Allowed{netip.PrefixFrom(ip, ip.BitLen()), one.Port, true})
		}
	}
	return nil
}

func (c *Config) checkServices() error {
	seen := map[uint16]bool{}
	for _, service := range c.HostServices {
		if service.GuestPort == 0 || service.HostPort == 0 || seen[service.GuestPort] {
			return fmt.Errorf("hostServices has port 0, or port %d of the guest twice", service.GuestPort)
		}
		seen[service.GuestPort] = true
	}
	return nil
}

func (c *Config) completeAddresses() error {
	prefix, err := netip.ParsePrefix(c.Subnet)
	if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 29 {
		return fmt.Errorf("subnet %q is not an IPv4 prefix of at most 29 bits", c.Subnet)
	}
	at := &c.Addresses
	at.Subnet = prefix.Masked()
	c.Subnet = at.Subnet.String()
	first := at.Subnet.Addr().Next()
	if at.Gateway, err = addressIn(at.Subnet, "gatewayIp", c.GatewayIP, first); err != nil {
		return err
	}
	if at.Guest, err = addressIn(at.Subnet, "guestIp", c.GuestIP, first.Next()); err != nil {
		return err
	}
	if at.Service, err = addressIn(at.Subnet, "serviceIp", c.ServiceIP, lastButTwo(at.Subnet)); err != nil {
		return err
	}
	if at.Gateway == at.Guest || at.Gateway == at.Service || at.Guest == at.Service {
		return fmt.Errorf("gatewayIp %s, guestIp %s and serviceIp %s are not three addresses",
			at.Gateway, at.Guest, at.Service)
	}
	c.GatewayIP, c.GuestIP, c.ServiceIP = at.Gateway.String(), at.Guest.String(), at.Service.String()
	return nil
}

// lastButTwo leaves out the broadcast address, and the one that stock gvproxy gives to the host.
func lastButTwo(subnet netip.Prefix) netip.Addr {
	address := subnet.Addr().As4()
	last := binary.BigEndian.Uint32(address[:]) | (1<<(32-subnet.Bits()) - 1)
	binary.BigEndian.PutUint32(address[:], last-2)
	return netip.AddrFrom4(address)
}

func addressIn(subnet netip.Prefix, field, text string, fallback netip.Addr) (netip.Addr, error) {
	if text == "" {
		return fallback, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || !subnet.Contains(address) {
		return address, fmt.Errorf("%s %q is not an address of %s", field, text, subnet)
	}
	return address, nil
}

func (c *Config) checkSockets() error {
	if c.ListenQemu == "" && c.ListenVfkit == "" {
		return errors.New("neither listenQemu nor listenVfkit is set")
	}
	if c.API == "" {
		return errors.New("api is not set")
	}
	for _, path := range []string{c.ListenQemu, c.ListenVfkit, c.API} {
		if len(path) > maxSocketPath {
			return fmt.Errorf("socket path %q is longer than %d bytes", path, maxSocketPath)
		}
	}
	return nil
}
