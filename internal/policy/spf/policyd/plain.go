package policyd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"posthaste/internal/policy/spf"
)

// Exempt lists whom a Plain daemon does not check.
type Exempt struct {
	Domains  map[string]bool // of senders, in the case in which they are written
	Networks []netip.Prefix
}

// ParseExempt reads the two files of exemptions, words between space or
// commas. Words that are no network are returned as bad.
func ParseExempt(domains, networks string) (e Exempt, bad []string) {
	words := func(text string) []string {
		return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n\f\v,", r) })
	}
	e.Domains = map[string]bool{}
	for _, word := range words(domains) {
		e.Domains[word] = true
	}
	for _, word := range words(networks) {
		if n, err := network(word); err == nil {
			e.Networks = append(e.Networks, n)
		} else {
			bad = append(bad, word)
		}
	}
	return e, bad
}

// plain is postfix-policyd-spf-perl.
type plain struct {
	Setup
	exempt Exempt
	attr   map[string]string
	memory memory[plainMessage]
}

// plainMessage is what is known about a message.
type plainMessage struct {
	helo, mfrom *spf.Answer
	hasHeader   bool
}

// Plain makes the daemon without configuration: Fail is refused, TempError
// deferred, and everything else gets a Received-SPF field. The HELO name is
// checked first.
func Plain(s Setup, e Exempt) Handler {
	return &plain{Setup: s, exempt: e, attr: map[string]string{}}
}

func (p *plain) attribute(line string) {
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		p.Log.Warnf("ignoring garbage: %.100s", line)
		return
	}
	p.attr[name] = value
}

func (p *plain) action(ctx context.Context) string {
	action := p.exemption()
	if action == "" {
		action = p.check(ctx)
	}
	if action == "" {
		action = "DUNNO"
	}
	p.Log.Infof("Policy action=%s", action)
	clear(p.attr)
	return action
}

func (p *plain) exemption() string {
	reason := ""
	if ip, ok := address(p.attr["client_address"]); ok {
		switch {
		case ip.IsLoopback():
			reason = "SPF not checked for localhost"
		case within(ip, p.exempt.Networks):
			reason = "SPF not checked for whitelisted relay"
		}
	}
	if parts := strings.Split(p.attr["sender"], "@"); reason == "" && len(parts) > 1 && p.exempt.Domains[parts[1]] {
		reason = "SPF exempted by policy"
	}
	if reason == "" {
		return ""
	}
	return fmt.Sprintf("PREPEND Authentication-Results: %s; none (%s)", p.Host, reason)
}

// check is the SPF check of HELO name and sender; "" is no opinion.
func (p *plain) check(ctx context.Context) string {
	ip, ok := address(p.attr["client_address"])
	helo, sender := p.attr["helo_name"], p.attr["sender"]
	if !ok || helo == "" {
		return ""
	}
	m := p.memory.of(p.attr["instance"])
	if m.helo == nil {
		a := p.checker().Check(ctx, spf.Query{IP: ip, Scope: spf.Helo, Helo: helo})
		m.helo = &a
	}
	if action := p.refusal(m.helo); action != "" {
		return action
	}
	if sender == "" {
		return p.prepend(m, m.helo)
	}
	if m.mfrom == nil {
		a := p.checker().Check(ctx, spf.Query{IP: ip, Sender: sender, Helo: helo})
		m.mfrom = &a
	}
	if action := p.refusal(m.mfrom); action != "" {
		return action
	}
	return p.prepend(m, m.mfrom)
}

func (p *plain) refusal(a *spf.Answer) string {
	switch a.Result {
	case spf.Fail:
		text := a.Explanation
		if text == "" {
			text = fmt.Sprintf("Please see http://www.openspf.org/Why?s=%s;id=%s;ip=%s;r=%s",
				a.Query.Scope, spf.EscapeURL(a.Query.Identity()), spf.EscapeURL(a.Query.IP.String()), spf.EscapeURL(p.Host))
		}
		return "550 " + text
	case spf.TempError:
		return "DEFER_IF_PERMIT SPF-Result=" + a.Comment()
	}
	return ""
}

// prepend gives a message its header field, once.
func (p *plain) prepend(m *plainMessage, a *spf.Answer) string {
	if m.hasHeader {
		return ""
	}
	m.hasHeader = true
	return "PREPEND " + a.ReceivedSPF(p.Host)
}
