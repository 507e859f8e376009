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
	id := identity{"helo", helo, "", ip}
	if action := p.refusal(m.helo, id); action != "" {
		return action
	}
	if sender == "" {
		return p.prepend(m, m.helo, id)
	}
	if m.mfrom == nil {
		a := p.checker().Check(ctx, spf.Query{IP: ip, Sender: sender, Helo: helo})
		m.mfrom = &a
	}
	id = identity{"mfrom", sender, helo, ip}
	if action := p.refusal(m.mfrom, id); action != "" {
		return action
	}
	return p.prepend(m, m.mfrom, id)
}

// identity is what was checked.
type identity struct {
	scope, name string
	helo        string // "" when it is the identity
	ip          netip.Addr
}

func (p *plain) refusal(a *spf.Answer, id identity) string {
	switch a.Result {
	case spf.Fail:
		text := a.Explanation
		if text == "" {
			text = fmt.Sprintf("Please see http://www.openspf.org/Why?s=%s;id=%s;ip=%s;r=%s",
				id.scope, spf.EscapeURL(id.name), spf.EscapeURL(id.ip.String()), spf.EscapeURL(p.Host))
		}
		return "550 " + text
	case spf.TempError:
		return "DEFER_IF_PERMIT SPF-Result=" + explanation(a, id)
	}
	return ""
}

// prepend gives a message its header field, once.
func (p *plain) prepend(m *plainMessage, a *spf.Answer, id identity) string {
	if m.hasHeader {
		return ""
	}
	m.hasHeader = true
	pairs := []string{"receiver=" + quote(p.Host)}
	if id.scope == "helo" {
		pairs = append(pairs, "identity=helo", "helo="+quote(id.name))
	} else {
		pairs = append(pairs, "identity=mailfrom", "envelope-from="+quote(id.name), "helo="+quote(id.helo))
	}
	pairs = append(pairs, "client-ip="+quote(id.ip.String()))
	return fmt.Sprintf("PREPEND Received-SPF: %s (%s) %s", a.Result, explanation(a, id), strings.Join(pairs, "; "))
}

// quote makes a value of a Received-SPF field: a dot-atom or a quoted string.
func quote(value string) string {
	atom := value != ""
	for _, word := range strings.Split(value, ".") {
		for i := 0; i < len(word); i++ {
			c := word[i]
			atom = atom && (c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0)
		}
		atom = atom && word != ""
	}
	if atom {
		return value
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(value) + `"`
}

// explanation says why in a comment: the domains whose records decided, and
// the reason.
func explanation(a *spf.Answer, id identity) string {
	text := a.Reason
	if a.Result == spf.Pass || a.Result == spf.Fail || a.Result == spf.SoftFail || a.Result == spf.Neutral && a.Term != "" {
		text = sentence(a, id) + " (mechanism '" + upperIPv6(a.Term) + "' matched)"
	}
	domain := a.Domain
	if a.Depth > 0 {
		domain += " ... " + a.Authority
	}
	return sanitize(domain + ": " + text)
}

// sentence says what a matching mechanism means.
func sentence(a *spf.Answer, id identity) string {
	who, by := "Sender", ""
	switch mechanism(a.Term) {
	case "a", "mx", "ptr", "ip4", "ip6":
		who = id.ip.String()
	case "all":
		by = " by default"
	}
	to := fmt.Sprintf("to use '%s' in '%s' identity", id.name, id.scope)
	switch a.Result {
	case spf.Pass:
		return who + " is authorized" + by + " " + to
	case spf.Fail:
		return who + " is not authorized" + by + " " + to
	case spf.SoftFail:
		return who + " is not authorized" + by + " " + to + ", however domain is not currently prepared for false failures"
	}
	if who == "Sender" {
		who = "sender"
	}
	return "Domain does not state whether " + who + " is authorized " + to
}

// mechanism is the name of a mechanism.
func mechanism(term string) string {
	term = strings.TrimLeft(term, "-~?")
	if end := strings.IndexAny(term, ":/"); end >= 0 {
		return term[:end]
	}
	return term
}

// upperIPv6 writes the address of an ip6 mechanism in upper case.
func upperIPv6(term string) string {
	name, rest, ok := strings.Cut(term, ":")
	if !ok || mechanism(term) != "ip6" {
		return term
	}
	return name + ":" + strings.ToUpper(rest)
}

// sanitize makes text printable.
func sanitize(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
