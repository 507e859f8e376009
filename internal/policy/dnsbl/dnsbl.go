// Package dnsbl asks DNS-published block and allow lists of addresses and
// domains (postconf(5) reject_rbl_client, permit_dnswl_client and relatives).
//
// It reads how a restriction names a list, with an optional filter on the
// answers, and looks names up in it. Package restrict decides what a listing
// means.
package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"posthaste/internal/sys/dns"
)

// List is one list, "bl.example" or "bl.example=127.0.0.[2;4..6]".
type List struct {
	Domain string
	filter *filter // nil: any address counts
}

// Result is what a list says about a name.
type Result struct {
	Listed bool
	Text   string // of the list's TXT record, may be ""
	// Trouble is set when the list could not be asked: Listed is false then.
	// The caller logs it.
	Trouble error
	// TextTrouble is trouble with the TXT record alone.
	TextTrouble error
}

// Parse reads a list as written in a restriction.
func Parse(text string) (*List, error) {
	domain, pattern, filtered := strings.Cut(text, "=")
	if domain == "" {
		return nil, fmt.Errorf("no domain in DNS list \"%s\"", text)
	}
	l := &List{Domain: domain}
	if filtered {
		f, err := parseFilter(pattern)
		if err != nil {
			return nil, err
		}
		l.filter = f
	}
	return l, nil
}

// Reverse is an address as these lists have it: octets or nibbles from the
// last to the first, separated by dots (RFC 5782 §2).
func Reverse(ip netip.Addr) string {
	ip = ip.Unmap()
	b := ip.AsSlice()
	var out strings.Builder
	for i := len(b) - 1; i >= 0; i-- {
		if ip.Is4() {
			out.WriteString(strconv.Itoa(int(b[i])))
		} else {
			const hex = "0123456789abcdef"
			out.Write([]byte{hex[b[i]&15], '.', hex[b[i]>>4]})
		}
		if i > 0 {
			out.WriteByte('.')
		}
	}
	return out.String()
}

// Query is the DNS name for a reversed address or a domain.
func (l *List) Query(name string) string { return name + "." + l.Domain }

// Lookup asks the list for a reversed address or a domain.
func (l *List) Lookup(ctx context.Context, r dns.Resolver, name string) Result {
	query := l.Query(name)
	addresses, _, err := r.A(ctx, query)
	if err != nil {
		if errors.Is(err, dns.ErrNoHost) || errors.Is(err, dns.ErrNoData) || errors.Is(err, dns.ErrInvalid) {
			return Result{}
		}
		return Result{Trouble: err}
	}
	listed := false
	for _, ip := range addresses {
		listed = listed || l.filter.matches(ip)
	}
	if !listed {
		return Result{}
	}
	texts, _, err := r.TXT(ctx, query)
	if err != nil {
		if errors.Is(err, dns.ErrNoHost) || errors.Is(err, dns.ErrNoData) {
			err = nil
		}
		return Result{Listed: true, TextTrouble: err}
	}
	result := Result{Listed: true}
	if len(texts) > 0 {
		result.Text = texts[0]
	}
	return result
}

// filter says which addresses count: a set for each octet.
type filter [4][256]bool

func (f *filter) matches(ip netip.Addr) bool {
	if !ip.Unmap().Is4() {
		return false
	}
	if f == nil {
		return true
	}
	octets := ip.Unmap().As4()
	for i, n := range octets {
		if !f[i][n] {
			return false
		}
	}
	return true
}

// parseFilter reads "127.0.0.2" with a number or "[number;low..high;...]" in
// each place.
func parseFilter(text string) (*filter, error) {
	var f filter
	rest := text
	for i := range f {
		field, after, err := cutField(rest, i == len(f)-1)
		if err == nil {
			err = parseField(&f[i], field)
		}
		if err != nil {
			return nil, fmt.Errorf("bad DNS list reply filter \"%s\": %w", text, err)
		}
		rest = after
	}
	return &f, nil
}

// cutField returns the first of the places and what follows its dot.
func cutField(text string, last bool) (field, rest string, err error) {
	end := strings.IndexByte(text, '.')
	if strings.HasPrefix(text, "[") {
		end = strings.IndexByte(text, ']')
		if end < 0 {
			return "", "", errors.New("missing \"]\"")
		}
		end++
	}
	switch {
	case last && (end < 0 || end == len(text)):
		return text, "", nil
	case last:
		return "", "", errors.New("garbage after pattern")
	case end < 0 || end >= len(text) || text[end] != '.':
		return "", "", errors.New("need four places")
	}
	return text[:end], text[end+1:], nil
}

func parseField(set *[256]bool, field string) error {
	inner, ok := strings.CutPrefix(field, "[")
	if !ok {
		n, err := octet(field)
		if err == nil {
			set[n] = true
		}
		return err
	}
	for _, item := range strings.Split(strings.TrimSuffix(inner, "]"), ";") {
		lowText, highText, isRange := strings.Cut(item, "..")
		low, err := octet(lowText)
		high := low
		if err == nil && isRange {
			high, err = octet(highText)
		}
		if err != nil {
			return err
		}
		if high < low {
			return fmt.Errorf("bad range \"%s\"", item)
		}
		for n := low; n <= high; n++ {
			set[n] = true
		}
	}
	return nil
}

func octet(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || len(text) > 3 {
		return 0, fmt.Errorf("bad number \"%s\"", text)
	}
	return int(n), nil
}
