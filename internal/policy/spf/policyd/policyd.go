// Package policyd answers policy requests (SMTPD_POLICY_README) with the
// result of SPF checks. It takes over from two daemons that run under
// spawn(8): postfix-policyd-spf-perl (Plain) and policyd-spf, the one in
// Python with a configuration file (Configured). Requests get the answers,
// header fields and log lines that those give; the tests compare with
// recordings of them.
//
// It differs where they err: a DNS server's failure is a temporary error also
// in policyd-spf, and input that kills one of them is answered with DUNNO.
//
// Package command runs it as policyd-spf.
package policyd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"posthaste/internal/policy/spf"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
)

// Handler makes the answer of one kind of daemon.
type Handler interface {
	// attribute takes one line of a request.
	attribute(line string)
	// action ends the request and answers it, without "action=".
	action(ctx context.Context) string
}

// Setup is what a Handler works with.
type Setup struct {
	DNS  dns.Resolver
	Log  *maillog.Logger
	Host string // this host's name, for header fields
}

const (
	maxLine     = 64 << 10 // bytes of one attribute; the rest is cut
	maxInstance = 1000     // messages of which the results are remembered
)

// Serve answers requests until the input ends. The error is one of reading or
// writing.
func Serve(ctx context.Context, in io.Reader, out io.Writer, h Handler) error {
	r := bufio.NewReaderSize(in, maxLine)
	for ctx.Err() == nil {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != "" {
			h.attribute(line)
			continue
		}
		if _, err := fmt.Fprintf(out, "action=%s\n\n", oneLine.Replace(h.action(ctx))); err != nil {
			return err
		}
	}
	return nil
}

// readLine reads a line and cuts it if it is too long.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	text := strings.TrimSuffix(string(line), "\n")
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && text != "" {
		// A request that is not complete is not answered.
		return "", io.EOF
	}
	return text, err
}

// oneLine keeps an answer from becoming several.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ")

// memory remembers something about the last messages, by their instance.
type memory[T any] struct {
	known map[string]*T
	order []string
}

// of is what is remembered about a message; without an instance, nothing is.
func (m *memory[T]) of(instance string) *T {
	if instance == "" {
		return new(T)
	}
	if m.known == nil {
		m.known = map[string]*T{}
	}
	if known := m.known[instance]; known != nil {
		return known
	}
	if len(m.order) >= maxInstance {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
	fresh := new(T)
	m.known[instance] = fresh
	m.order = append(m.order, instance)
	return fresh
}

// within reports whether an address is in one of the networks.
func within(ip netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// network reads an address or a network. An IPv4 network that is written in
// IPv6 is the IPv4 network.
func network(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		ip = ip.Unmap().WithZone("")
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, err
}

// address reads a client's address.
func address(text string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(text)
	return ip.Unmap().WithZone(""), err == nil
}

// checker makes a checker for a setup.
func (s *Setup) checker() *spf.Checker { return &spf.Checker{DNS: s.DNS, Receiver: s.Host} }
