package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

// Limits on what one answer may cost us.
const (
	maxRecords  = 100  // per answer, as Postfix's dns_rr_list limit
	maxCNAMEs   = 8    // chain length within one answer
	udpSize     = 1232 // EDNS0 buffer, avoids fragments
	maxAttempts = 5    // resolv.conf "attempts" is capped
	queryBudget = 10 * time.Second
)

// ErrServer is trouble with the name service: nothing, or SERVFAIL or REFUSED,
// came back. It means "try again".
var ErrServer = errors.New("dns: no answer from the name service")

// RcodeError is a reply that says that the server failed: an ErrServer.
type RcodeError struct{ Rcode string } // "SERVFAIL"

// Error tells the code.
func (e *RcodeError) Error() string { return ErrServer.Error() + " (" + e.Rcode + ")" }

// Unwrap makes it an ErrServer.
func (e *RcodeError) Unwrap() error { return ErrServer }

// Reason puts an error of a Resolver in the words of Postfix's log and
// replies, as in "Host not found, try again" (dns_strerror in its sources).
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrNoHost):
		return "Host not found"
	case errors.Is(err, ErrNoData):
		return "Host found but no data record of requested type"
	case errors.Is(err, ErrInvalid):
		return "Malformed or unexpected name server reply"
	default:
		return "Host not found, try again"
	}
}

// Config is the stub resolver's view of resolv.conf(5).
type Config struct {
	Servers  []string // "addr:port"
	Timeout  time.Duration
	Attempts int
	Hosts    string // the host table's path, "" for none
}

// SystemConfig reads resolv.conf; a file that cannot be read means a server
// on this host, as in resolv.conf(5).
func SystemConfig(resolvConf, hosts string) Config {
	c := Config{Timeout: 5 * time.Second, Attempts: 2, Hosts: hosts}
	if r, err := mdns.ClientConfigFromFile(resolvConf); err == nil {
		for _, s := range r.Servers {
			c.Servers = append(c.Servers, net.JoinHostPort(s, r.Port))
		}
		c.Timeout = time.Duration(r.Timeout) * time.Second
		c.Attempts = min(r.Attempts, maxAttempts)
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1:53"}
	}
	return c
}

// Client is a stub resolver that asks the configured servers over UDP, and
// over TCP for long answers. Safe for concurrent use.
type Client struct {
	config Config
	hosts  hostTable
}

// NewClient makes a resolver.
func NewClient(c Config) *Client {
	return &Client{config: c, hosts: hostTable{path: c.Hosts}}
}

var _ Resolver = (*Client)(nil)

// MX looks up mail exchangers, in the server's order.
func (c *Client) MX(ctx context.Context, domain string) ([]MX, Answer, error) {
	rrs, answer, err := c.query(ctx, domain, mdns.TypeMX)
	var found []MX
	for _, rr := range rrs {
		mx := rr.(*mdns.MX)
		found = append(found, MX{Preference: mx.Preference, Host: bare(mx.Mx)})
	}
	return found, answer, err
}

// A looks up IPv4 addresses.
func (c *Client) A(ctx context.Context, host string) ([]netip.Addr, Answer, error) {
	rrs, answer, err := c.query(ctx, host, mdns.TypeA)
	var found []netip.Addr
	for _, rr := range rrs {
		if ip, ok := netip.AddrFromSlice(rr.(*mdns.A).A.To4()); ok {
			found = append(found, ip)
		}
	}
	return found, answer, err
}

// AAAA looks up IPv6 addresses.
func (c *Client) AAAA(ctx context.Context, host string) ([]netip.Addr, Answer, error) {
	rrs, answer, err := c.query(ctx, host, mdns.TypeAAAA)
	var found []netip.Addr
	for _, rr := range rrs {
		if ip, ok := netip.AddrFromSlice(rr.(*mdns.AAAA).AAAA.To16()); ok {
			found = append(found, ip)
		}
	}
	return found, answer, err
}

// PTR looks up the names of an address.
func (c *Client) PTR(ctx context.Context, ip netip.Addr) ([]string, Answer, error) {
	name, err := mdns.ReverseAddr(ip.Unmap().WithZone("").String())
	if err != nil {
		return nil, Answer{}, ErrInvalid
	}
	rrs, answer, err := c.query(ctx, name, mdns.TypePTR)
	var found []string
	for _, rr := range rrs {
		found = append(found, bare(rr.(*mdns.PTR).Ptr))
	}
	return found, answer, err
}

// TXT looks up texts; the strings of one record are joined.
func (c *Client) TXT(ctx context.Context, name string) ([]string, Answer, error) {
	rrs, answer, err := c.query(ctx, name, mdns.TypeTXT)
	var found []string
	for _, rr := range rrs {
		found = append(found, unescape(strings.Join(rr.(*mdns.TXT).Txt, "")))
	}
	return found, answer, err
}

// NS looks up name servers.
func (c *Client) NS(ctx context.Context, name string) ([]string, Answer, error) {
	rrs, answer, err := c.query(ctx, name, mdns.TypeNS)
	var found []string
	for _, rr := range rrs {
		found = append(found, bare(rr.(*mdns.NS).Ns))
	}
	return found, answer, err
}

// LookupHost finds a host's addresses in the host table, else in DNS (both
// families; one family's trouble does not hide the other's answer).
func (c *Client) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if found := c.hosts.addresses(host); len(found) > 0 {
		return found, nil
	}
	v4, _, err4 := c.A(ctx, host)
	v6, _, err6 := c.AAAA(ctx, host)
	if all := append(v4, v6...); len(all) > 0 {
		return all, nil
	}
	for _, err := range []error{err4, err6} {
		if err != nil && !errors.Is(err, ErrNoHost) && !errors.Is(err, ErrNoData) {
			return nil, err
		}
	}
	return nil, err4
}

// LookupAddr finds the name of an address in the host table, else in DNS.
func (c *Client) LookupAddr(ctx context.Context, ip netip.Addr) (string, error) {
	if name := c.hosts.name(ip); name != "" {
		return name, nil
	}
	names, _, err := c.PTR(ctx, ip)
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// query asks for one type and returns at least one record, or an error.
func (c *Client) query(ctx context.Context, name string, qtype uint16) ([]mdns.RR, Answer, error) {
	if _, ok := mdns.IsDomainName(name); !ok || name == "" {
		return nil, Answer{}, ErrNoHost
	}
	ctx, cancel := context.WithTimeout(ctx, queryBudget)
	defer cancel()
	q := new(mdns.Msg)
	q.SetQuestion(mdns.Fqdn(name), qtype)
	q.SetEdns0(udpSize, true)
	q.AuthenticatedData = true
	reply, err := c.exchange(ctx, q)
	if err != nil {
		return nil, Answer{}, err
	}
	return interpret(q, reply)
}

// exchange asks the servers in turn until one gives a usable reply.
func (c *Client) exchange(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	last := error(ErrServer)
	for try := 0; try < c.config.Attempts*len(c.config.Servers); try++ {
		reply, err := c.ask(ctx, q, c.config.Servers[try%len(c.config.Servers)])
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w (%w)", ErrServer, ctx.Err())
		case err != nil:
			last = fmt.Errorf("%w (%w)", ErrServer, err)
		case reply.Rcode == mdns.RcodeSuccess || reply.Rcode == mdns.RcodeNameError:
			return reply, nil
		case reply.Rcode == mdns.RcodeFormatError && q.IsEdns0() != nil:
			last, q = ErrServer, plain(q) // a server older than EDNS0
			if reply, err = c.ask(ctx, q, c.config.Servers[try%len(c.config.Servers)]); err == nil && (reply.Rcode == mdns.RcodeSuccess || reply.Rcode == mdns.RcodeNameError) {
				return reply, nil
			}
		default:
			last = &RcodeError{mdns.RcodeToString[reply.Rcode]}
		}
	}
	return nil, last
}

// plain is the same question without EDNS0.
func plain(q *mdns.Msg) *mdns.Msg {
	other := q.Copy()
	other.Extra = nil
	return other
}

func (c *Client) ask(ctx context.Context, q *mdns.Msg, server string) (*mdns.Msg, error) {
	udp := mdns.Client{Net: "udp", Timeout: c.config.Timeout, UDPSize: udpSize}
	reply, _, err := udp.ExchangeContext(ctx, q, server)
	if err == nil && !reply.Truncated {
		return reply, sameQuestion(q, reply)
	}
	if err != nil && (reply == nil || !reply.Truncated) {
		return nil, err
	}
	tcp := mdns.Client{Net: "tcp", Timeout: c.config.Timeout}
	reply, _, err = tcp.ExchangeContext(ctx, q, server)
	if err != nil {
		return nil, err
	}
	return reply, sameQuestion(q, reply)
}

func sameQuestion(q, reply *mdns.Msg) error {
	if len(reply.Question) != 1 || reply.Question[0].Qtype != q.Question[0].Qtype ||
		!strings.EqualFold(reply.Question[0].Name, q.Question[0].Name) {
		return ErrInvalid
	}
	return nil
}

// interpret follows CNAMEs inside the answer and selects the wanted type.
func interpret(q, reply *mdns.Msg) ([]mdns.RR, Answer, error) {
	name, qtype := q.Question[0].Name, q.Question[0].Qtype
	answer := Answer{Secure: reply.AuthenticatedData}
	for hop := 0; ; hop++ {
		target := ""
		for _, rr := range reply.Answer {
			if cname, ok := rr.(*mdns.CNAME); ok && strings.EqualFold(rr.Header().Name, name) {
				target = cname.Target
			}
		}
		if target == "" {
			break
		}
		if hop >= maxCNAMEs {
			return nil, answer, ErrInvalid
		}
		name = target
	}
	answer.Name = bare(name)
	var found []mdns.RR
	for _, rr := range reply.Answer {
		if h := rr.Header(); h.Rrtype == qtype && h.Class == mdns.ClassINET && strings.EqualFold(h.Name, name) && len(found) < maxRecords {
			found = append(found, rr)
		}
	}
	switch {
	case len(found) > 0:
		return found, answer, nil
	case reply.Rcode == mdns.RcodeNameError:
		return nil, answer, ErrNoHost
	default:
		return nil, answer, ErrNoData
	}
}

// bare is a name without its trailing dot; the root stays ".".
func bare(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// unescape undoes the zone file escapes that the library puts into texts.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 >= len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}
