package config

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// System is what defaults are computed from. Fields that are nil are taken
// from the host.
type System struct {
	Hostname func() (string, error)
	// Interfaces are the addresses of the host with their network masks.
	Interfaces func() ([]netip.Prefix, error)
	// Resolve finds the addresses of a name in inet_interfaces.
	Resolve func(name string) ([]netip.Addr, error)
	// ProcessName is the default of process_name.
	ProcessName string
}

func (s System) orHost() System {
	if s.Hostname == nil {
		s.Hostname = os.Hostname
	}
	if s.Interfaces == nil {
		s.Interfaces = hostInterfaces
	}
	if s.Resolve == nil {
		s.Resolve = hostResolve
	}
	return s
}

func hostInterfaces() ([]netip.Prefix, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		prefixes = append(prefixes, netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()))
	}
	return prefixes, nil
}

func hostResolve(name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// computed are the defaults that depend on the host or on the reader.
func (v *View) computed(name string) (value string, ok bool, err error) {
	switch name {
	case "myhostname":
		value, err = v.defaultHostname()
	case "mydomain":
		value, err = v.defaultDomain()
	case "mynetworks":
		value, err = v.defaultNetworks()
	case "config_directory":
		value = v.snapshot.dir
	case "process_id":
		value = strconv.Itoa(os.Getpid())
	case "process_name":
		value = v.snapshot.system.ProcessName
		if v.service != nil {
			value = v.service.Program()
		}
	case "service_name":
		if v.service == nil {
			return "", false, nil
		}
		value = v.service.Name
	default:
		return "", false, nil
	}
	return value, err == nil, err
}

// defaultHostname is the host's name, with mydomain if it has no domain.
func (v *View) defaultHostname() (string, error) {
	name, err := v.snapshot.system.Hostname()
	if err != nil {
		return "", fmt.Errorf("gethostname: %w", err)
	}
	if strings.Contains(name, ".") {
		return name, nil
	}
	if s, _, ok := v.setting("mydomain"); ok {
		domain, err := v.Expander().Expand(s.Value)
		return name + "." + domain, err
	}
	return name + ".localdomain", nil
}

// defaultDomain is myhostname without its first label.
func (v *View) defaultDomain() (string, error) {
	name, _, err := v.lookup("myhostname")
	if err != nil {
		return "", err
	}
	if name, err = v.Expander().Expand(name); err != nil {
		return "", err
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		return domain, nil
	}
	return "localdomain", nil
}

// Interfaces are the host's own addresses that inet_interfaces and
// inet_protocols select, with their networks, IPv4 first.
func (v *View) Interfaces() ([]netip.Prefix, error) {
	all, err := v.snapshot.system.Interfaces()
	if err != nil {
		return nil, v.fail("inet_interfaces", "cannot list the network interfaces: %s", err)
	}
	words, err := v.Words("inet_interfaces")
	if err != nil {
		return nil, err
	}
	protocols, err := v.Words("inet_protocols")
	if err != nil {
		return nil, err
	}
	wanted, err := v.wantedAddresses(words)
	if err != nil {
		return nil, err
	}
	var v4, v6 []netip.Prefix
	for _, p := range all {
		if !wanted(p.Addr()) || !speaks(protocols, p.Addr()) {
			continue
		}
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return append(v4, v6...), nil
}

func speaks(protocols []string, a netip.Addr) bool {
	for _, p := range protocols {
		switch strings.ToLower(p) {
		case "all":
			return true
		case "ipv4":
			if a.Is4() {
				return true
			}
		case "ipv6":
			if a.Is6() {
				return true
			}
		}
	}
	return false
}

func (v *View) wantedAddresses(words []string) (func(netip.Addr) bool, error) {
	set := make(map[netip.Addr]bool)
	for _, word := range words {
		switch word {
		case "all":
			return func(netip.Addr) bool { return true }, nil
		case "loopback-only":
			return netip.Addr.IsLoopback, nil
		}
		bare := strings.TrimSuffix(strings.TrimPrefix(word, "["), "]")
		if a, err := netip.ParseAddr(bare); err == nil {
			set[a.Unmap().WithZone("")] = true
			continue
		}
		list, err := v.snapshot.system.Resolve(word)
		if err != nil {
			return nil, v.fail("inet_interfaces", "config variable inet_interfaces: host not found: %s", word)
		}
		for _, a := range list {
			set[a.Unmap().WithZone("")] = true
		}
	}
	return func(a netip.Addr) bool { return set[a] }, nil
}

// defaultNetworks lists the networks of the own addresses by mynetworks_style.
func (v *View) defaultNetworks() (string, error) {
	style, err := v.String("mynetworks_style")
	if err != nil {
		return "", err
	}
	own, err := v.Interfaces()
	if err != nil {
		return "", err
	}
	var out []string
	seen := make(map[netip.Prefix]bool)
	for _, p := range own {
		bits, ok := styleBits(strings.ToLower(style), p)
		if !ok {
			return "", v.fail("mynetworks_style", "unknown mynetworks mask style value \"%[1]s\" in \"%[1]s\"", style)
		}
		network := netip.PrefixFrom(p.Addr(), bits).Masked()
		if seen[network] {
			continue
		}
		seen[network] = true
		if p.Addr().Is4() {
			out = append(out, network.String())
		} else {
			out = append(out, fmt.Sprintf("[%s]/%d", network.Addr(), bits))
		}
	}
	return strings.Join(out, " "), nil
}

func styleBits(style string, p netip.Prefix) (bits int, ok bool) {
	switch style {
	case "host":
		return p.Addr().BitLen(), true
	case "subnet":
		return p.Bits(), true
	case "class":
		if p.Addr().Is6() {
			return p.Bits(), true
		}
		switch first := p.Addr().As4()[0]; {
		case first < 128:
			return 8, true
		case first < 192:
			return 16, true
		case first < 224:
			return 24, true
		}
		return 32, true
	}
	return 0, false
}
