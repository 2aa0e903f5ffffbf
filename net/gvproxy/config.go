package main

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

	subnet  netip.Prefix
	gateway netip.Addr
	guest   netip.Addr
	service netip.Addr
	allowed []allowed

	guestMAC net.HardwareAddr
}

const (
	defaultSubnet   = "192.168.127.0/24"
	defaultGuestMAC = "5a:94:ef:e4:0c:ee"
	gatewayMAC      = "5a:94:ef:e4:0c:dd"
	// maxSocketPath is the smallest sun_path of the systems we run on, less its final NUL.
	maxSocketPath = 103
)

// loadConfig reads, completes and checks the configuration in the named file.
func loadConfig(path string) (*Config, error) {
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
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// complete applies the defaults and checks every value.
func (c *Config) complete() error {
	if c.Subnet == "" {
		c.Subnet = defaultSubnet
	}
	if c.GuestMAC == "" {
		c.GuestMAC = defaultGuestMAC
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
	c.GuestMAC, c.guestMAC = mac.String(), mac
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
		c.Egress = egressInternet
	}
	if c.Egress != egressInternet && c.Egress != egressAll && c.Egress != egressNone {
		return fmt.Errorf("egress %q is not internet, all or none", c.Egress)
	}
	for _, one := range c.AllowNets {
		prefix, err := netip.ParsePrefix(one.Net)
		if err != nil || !prefix.Addr().Is4() {
			return fmt.Errorf("allowNets: %q is not an IPv4 prefix", one.Net)
		}
		c.allowed = append(c.allowed, allowed{prefix.Masked(), one.Port, false})
	}
	for _, one := range c.AllowHosts {
		if one.Host == "" || one.Port == 0 {
			return fmt.Errorf("allowHosts: %q port %d is not a host and a port", one.Host, one.Port)
		}
		if ip, err := netip.ParseAddr(one.Host); err == nil {
			ip = ip.WithZone("").Unmap()
			c.allowed = append(c.allowed, allowed{netip.PrefixFrom(ip, ip.BitLen()), one.Port, true})
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
	c.subnet = prefix.Masked()
	c.Subnet = c.subnet.String()
	first := c.subnet.Addr().Next()
	if c.gateway, err = addressIn(c.subnet, "gatewayIp", c.GatewayIP, first); err != nil {
		return err
	}
	if c.guest, err = addressIn(c.subnet, "guestIp", c.GuestIP, first.Next()); err != nil {
		return err
	}
	if c.service, err = addressIn(c.subnet, "serviceIp", c.ServiceIP, lastButTwo(c.subnet)); err != nil {
		return err
	}
	if c.gateway == c.guest || c.gateway == c.service || c.guest == c.service {
		return fmt.Errorf("gatewayIp %s, guestIp %s and serviceIp %s are not three addresses",
			c.gateway, c.guest, c.service)
	}
	c.GatewayIP, c.GuestIP, c.ServiceIP = c.gateway.String(), c.guest.String(), c.service.String()
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
