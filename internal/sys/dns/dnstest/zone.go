// Package dnstest is a name service for tests: a zone in text, with names that
// fail in every way. Tests of all rooms use it; nothing else does.
package dnstest

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"posthaste/internal/sys/dns"
)

// Zone is a dns.Resolver that answers from records. A name that does not occur
// (nor has one below it) does not exist.
type Zone struct {
	records map[string][]record
	faults  map[string]error
}

type record struct{ kind, data string }

// Parse reads one record per line: "NAME TYPE DATA" with types A, AAAA, MX,
// NS, TXT, PTR, CNAME; "NAME HOST ADDRESS" for an address with its PTR; "NAME
// SERVFAIL" for a name that fails, with everything below it. "#" and ";"
// start comment lines. It panics on what it cannot read: it is part of a test.
func Parse(text string) *Zone {
	z := &Zone{records: map[string][]record{}, faults: map[string]error{}}
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		z.add(line)
	}
	return z
}

func (z *Zone) add(line string) {
	fields := strings.SplitN(line, " ", 3)
	if len(fields) < 2 {
		panic("dnstest: bad line: " + line)
	}
	name, kind := fold(fields[0]), fields[1]
	data := ""
	if len(fields) == 3 {
		data = strings.TrimSpace(fields[2])
	}
	switch kind {
	case "SERVFAIL":
		z.faults[name] = &dns.RcodeError{Rcode: "SERVFAIL"}
	case "HOST":
		ip := netip.MustParseAddr(data)
		z.records[name] = append(z.records[name], record{family(ip), data})
		reverse := ip.String()
		z.records[reverse] = append(z.records[reverse], record{"PTR", name})
	default:
		if kind == "PTR" {
			name = fields[0]
		}
		z.records[name] = append(z.records[name], record{kind, data})
	}
}

func family(ip netip.Addr) string {
	if ip.Is4() {
		return "A"
	}
	return "AAAA"
}

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// find follows CNAMEs and returns the data of one type.
func (z *Zone) find(name, kind string) ([]string, dns.Answer, error) {
	name = fold(name)
	for range 8 {
		if err := z.fault(name); err != nil {
			return nil, dns.Answer{}, err
		}
		var found []string
		alias := ""
		for _, r := range z.records[name] {
			if r.kind == kind {
				found = append(found, r.data)
			}
			if r.kind == "CNAME" {
				alias = r.data
			}
		}
		if len(found) > 0 {
			return found, dns.Answer{Name: name}, nil
		}
		if alias == "" {
			return nil, dns.Answer{Name: name}, z.absent(name)
		}
		name = fold(alias)
	}
	return nil, dns.Answer{}, dns.ErrInvalid
}

func (z *Zone) fault(name string) error {
	for rest := name; rest != ""; _, rest, _ = strings.Cut(rest, ".") {
		if err := z.faults[rest]; err != nil {
			return err
		}
	}
	return nil
}

func (z *Zone) absent(name string) error {
	for n := range z.records {
		if n == name || strings.HasSuffix(n, "."+name) {
			return dns.ErrNoData
		}
	}
	return dns.ErrNoHost
}

// MX implements dns.Resolver.
func (z *Zone) MX(_ context.Context, domain string) ([]dns.MX, dns.Answer, error) {
	data, answer, err := z.find(domain, "MX")
	var found []dns.MX
	for _, d := range data {
		preference, host, _ := strings.Cut(d, " ")
		n, perr := strconv.ParseUint(preference, 10, 16)
		if perr != nil {
			panic("dnstest: bad MX: " + d)
		}
		found = append(found, dns.MX{Preference: uint16(n), Host: strings.TrimSuffix(host, ".")})
	}
	return found, answer, err
}

func (z *Zone) addresses(host, kind string) ([]netip.Addr, dns.Answer, error) {
	data, answer, err := z.find(host, kind)
	var found []netip.Addr
	for _, d := range data {
		found = append(found, netip.MustParseAddr(d))
	}
	return found, answer, err
}

// A implements dns.Resolver.
func (z *Zone) A(_ context.Context, host string) ([]netip.Addr, dns.Answer, error) {
	return z.addresses(host, "A")
}

// AAAA implements dns.Resolver.
func (z *Zone) AAAA(_ context.Context, host string) ([]netip.Addr, dns.Answer, error) {
	return z.addresses(host, "AAAA")
}

// PTR implements dns.Resolver.
func (z *Zone) PTR(_ context.Context, ip netip.Addr) ([]string, dns.Answer, error) {
	return z.find(ip.Unmap().String(), "PTR")
}

// TXT implements dns.Resolver.
func (z *Zone) TXT(_ context.Context, name string) ([]string, dns.Answer, error) {
	return z.find(name, "TXT")
}

// NS implements dns.Resolver.
func (z *Zone) NS(_ context.Context, name string) ([]string, dns.Answer, error) {
	return z.find(name, "NS")
}

// LookupHost implements dns.Resolver.
func (z *Zone) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	v4, _, err := z.A(ctx, host)
	v6, _, err6 := z.AAAA(ctx, host)
	if all := append(v4, v6...); len(all) > 0 {
		return all, nil
	}
	if err6 != nil && err == nil {
		err = err6
	}
	return nil, err
}

// LookupAddr implements dns.Resolver.
func (z *Zone) LookupAddr(ctx context.Context, ip netip.Addr) (string, error) {
	names, _, err := z.PTR(ctx, ip)
	if err != nil {
		return "", err
	}
	return names[0], nil
}

var _ dns.Resolver = (*Zone)(nil)
