// Package cidr matches IP addresses against networks: the cidr: table of
// cidr_table(5), and the patterns that package matchlist uses for mynetworks.
package cidr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Pattern is one network or one address.
type Pattern struct{ prefix netip.Prefix }

// ParsePattern reads "192.0.2.0/24", "192.0.2.1", "[2001:db8::]/32" or
// "[2001:db8::/32]". The error is Postfix's text, without the name of the place.
func ParsePattern(text string) (Pattern, error) {
	host, mask, hasMask, err := divide(text)
	if err != nil {
		return Pattern{}, err
	}
	addr, addrErr := netip.ParseAddr(host)
	if addr.Zone() != "" {
		addrErr = fmt.Errorf("zone in address %q", host)
	}
	if !hasMask {
		if addrErr != nil {
			return Pattern{}, fmt.Errorf("bad address pattern: \"%s\"", host)
		}
		return Pattern{netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	bits, fault := maskBits(mask, host)
	if fault != "" {
		return Pattern{}, fmt.Errorf("%s in \"%s/%s\"", fault, host, mask)
	}
	if addrErr != nil {
		return Pattern{}, fmt.Errorf("bad network value in \"%s/%s\"", host, mask)
	}
	prefix := netip.PrefixFrom(addr, bits)
	if network := prefix.Masked(); network.Addr() != addr {
		return Pattern{}, fmt.Errorf("non-null host address bits in \"%s/%s\", perhaps you should use \"%s/%d\" instead",
			host, mask, network.Addr(), bits)
	}
	return Pattern{prefix}, nil
}

// divide takes brackets off and cuts at the mask.
func divide(text string) (host, mask string, hasMask bool, err error) {
	inside, bracketed := strings.CutPrefix(text, "[")
	if !bracketed {
		host, mask, hasMask = strings.Cut(text, "/")
		return host, mask, hasMask, nil
	}
	inside, after, closed := strings.Cut(inside, "]")
	switch {
	case !closed:
		return "", "", false, fmt.Errorf("missing ']' character after \"[%s\"", inside)
	case strings.HasPrefix(after, "/"):
		return inside, after[1:], true, nil
	case after != "":
		return "", "", false, fmt.Errorf("garbage after \"[%s]\"", inside)
	}
	host, mask, hasMask = strings.Cut(inside, "/")
	return host, mask, hasMask, nil
}

// maskBits reads a prefix length; the address tells how long it may be. fault
// says what is wrong, "" if nothing is.
func maskBits(mask, host string) (bits int, fault string) {
	limit := 32
	if strings.Contains(host, ":") {
		limit = 128
	}
	if mask == "" || strings.Trim(mask, "0123456789") != "" {
		return 0, "bad mask value"
	}
	bits, err := strconv.Atoi(mask)
	if err != nil || bits > limit {
		return 0, "bad mask length"
	}
	return bits, ""
}

// sameFamily reports whether ip and the network are both IPv4 or both IPv6.
func (p Pattern) sameFamily(ip netip.Addr) bool { return p.prefix.Addr().BitLen() == ip.BitLen() }

// Contains reports whether ip is in the network. IPv4 and IPv6 never match
// each other.
func (p Pattern) Contains(ip netip.Addr) bool { return p.prefix.Contains(ip) }
