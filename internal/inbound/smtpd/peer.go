package smtpd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"posthaste/internal/inbound/peer"
	"posthaste/internal/policy/rate"
	"posthaste/internal/table"
)

// identify finds out who the client is, and what it may do.
func (s *session) identify() {
	p := &s.conn.peer
	if s.srv.opt.StandAlone {
		p.Name, p.NameStatus, p.ReverseName, p.ReverseStatus = "localhost", peer.OK, "localhost", peer.OK
	} else {
		resolver := s.srv.deps.Resolver
		if !s.set.PeernameLookup {
			resolver = nil
		}
		p.Lookup(s.ctx, resolver, s.log)
	}
	s.nameAddr()
	s.newView()
	s.conn.xforwardAllowed, _ = s.matches(s.set.xforward.Match)
	s.conn.bare = s.set.bare
	if except, err := s.matches(s.set.bareExcept.Match); s.conn.bare != bareNo && except && err == nil {
		s.conn.bare = bareNo
	}
}

// nameAddr makes the name for the log.
func (s *session) nameAddr() {
	p := &s.conn.peer
	s.conn.nameAddr = p.Name + "[" + p.Address + "]"
	if s.set.PortLogging {
		s.conn.nameAddr += ":" + p.Port
	}
}

// matches asks a list about the client. Stand-alone sessions are on no list.
func (s *session) matches(list func(ctx context.Context, name, ip string) (bool, error)) (bool, error) {
	if s.srv.opt.StandAlone {
		return false, nil
	}
	return list(s.ctx, s.conn.peer.Name, s.conn.peer.Address)
}

// limited reports whether anvil counts this client.
func (s *session) limited() bool {
	if s.srv.opt.StandAlone || s.srv.deps.Rates == nil {
		return false
	}
	if except, err := s.matches(s.set.unlimited.Match); except && err == nil {
		return false
	}
	return !s.xclientAllowed()
}

// tooMany counts the connection, and is the reply to one too many.
func (s *session) tooMany() reply {
	if !s.limited() || (s.set.ConnectionCount == 0 && s.set.ConnectionRate == 0) {
		return reply{}
	}
	c := &s.conn
	c.client = rate.Client(c.peer.Address, s.set.IPv4PrefixLength, s.set.IPv6PrefixLength)
	c.counted = true
	open, made := s.srv.deps.Rates.Connected(s.srv.opt.Service, c.client)
	switch {
	case s.set.ConnectionCount > 0 && open > s.set.ConnectionCount:
		s.log.Warnf("Connection concurrency limit exceeded: %d from %s for service %s", open, c.nameAddr, s.srv.opt.Service)
	case s.set.ConnectionRate > 0 && made > s.set.ConnectionRate:
		s.log.Warnf("Connection rate limit exceeded: %d from %s for service %s", made, c.nameAddr, s.srv.opt.Service)
	default:
		return reply{}
	}
	return say(fmt.Sprintf("421 4.7.0 %s Error: too many connections from %s", s.set.Hostname, c.peer.Address)).mark(errPolicy)
}

// overRate counts an event and reports the rate if it is above the limit.
func (s *session) overRate(event rate.Event, limit int) (rateNow int, over bool) {
	if limit <= 0 || !s.limited() {
		return 0, false
	}
	client := rate.Client(s.conn.peer.Address, s.set.IPv4PrefixLength, s.set.IPv6PrefixLength)
	n := s.srv.deps.Rates.Add(s.srv.opt.Service, client, event)
	return n, n > limit
}

// rewriteItem is one item of local_header_rewrite_clients.
type rewriteItem struct {
	name  string // permit_inet_interfaces and the like, or ""
	table table.Table
}

func parseRewriteClients(text string, o *table.Opener) ([]rewriteItem, error) {
	var items []rewriteItem
	for _, word := range table.SplitList(text) {
		switch {
		case word == "check_address_map":
		case strings.HasPrefix(word, "permit_"):
			switch word {
			case "permit_inet_interfaces", "permit_mynetworks", "permit_sasl_authenticated", "permit_tls_clientcerts", "permit_tls_all_clientcerts":
				items = append(items, rewriteItem{name: word})
			default:
				return nil, fmt.Errorf("parameter local_header_rewrite_clients: invalid request: %s", word)
			}
		case strings.Contains(word, ":"):
			items = append(items, rewriteItem{table: o.Open(word, table.FoldedKeys)})
		default:
			return nil, fmt.Errorf("parameter local_header_rewrite_clients: invalid request: %s", word)
		}
	}
	return items, nil
}

// rewriteContext is "local" for clients whose headers are completed with our
// own domain, else "remote".
func (s *session) rewriteContext() (string, error) {
	if s.srv.opt.StandAlone {
		return "local", nil
	}
	for _, item := range s.set.rewrite {
		yes, err := s.rewrites(item)
		if err != nil {
			return "", err
		}
		if yes {
			return "local", nil
		}
	}
	return "remote", nil
}

func (s *session) rewrites(item rewriteItem) (bool, error) {
	p := &s.conn.peer
	switch item.name {
	case "":
		_, found, err := item.table.Lookup(s.ctx, p.Address)
		return found, err
	case "permit_inet_interfaces":
		ip, err := netip.ParseAddr(p.Address)
		return err == nil && s.srv.deps.OwnAddress != nil && s.srv.deps.OwnAddress(ip), nil
	case "permit_mynetworks":
		return s.matches(s.set.networks.Match)
	case "permit_sasl_authenticated":
		return s.conn.login.Username != "", nil
	}
	return s.certified(item.name)
}

// certified reports whether the client has a certificate that is verified, or
// one of relay_clientcerts.
func (s *session) certified(by string) (bool, error) {
	info := s.conn.tls
	if info == nil || !info.HasCertificate {
		return false, nil
	}
	if by == "permit_tls_all_clientcerts" {
		return info.Trusted, nil
	}
	for _, fingerprint := range []string{info.Fingerprint, info.PublicKey} {
		if _, found, err := s.set.relayCerts.Lookup(s.ctx, fingerprint); found || err != nil {
			return found, err
		}
	}
	return false, nil
}
