package spf

import (
	"fmt"
	"strings"
)

// String is the scope's name in reasons: "mfrom" or "helo".
func (s Scope) String() string {
	if s == Helo {
		return "helo"
	}
	return "mfrom"
}

// Identity is what a query is about: the sender, or the HELO name.
func (q *Query) Identity() string {
	if q.Scope == Helo {
		return q.Helo
	}
	return q.Sender
}

// ReceivedSPF is the header field Received-SPF (RFC 7208 section 9.1), on one
// line; receiver is this host.
func (a *Answer) ReceivedSPF(receiver string) string {
	pairs := []string{"receiver=" + quote(receiver)}
	if a.Query.Scope == Helo {
		pairs = append(pairs, "identity=helo", "helo="+quote(a.Query.Helo))
	} else {
		pairs = append(pairs, "identity=mailfrom", "envelope-from="+quote(a.Query.Sender), "helo="+quote(a.Query.Helo))
	}
	pairs = append(pairs, "client-ip="+quote(a.Query.IP.String()))
	return fmt.Sprintf("Received-SPF: %s (%s) %s", a.Result, a.Comment(), strings.Join(pairs, "; "))
}

// AuthenticationResults is the header field of that name (RFC 8601), on one
// line; authserv says who checked.
func (a *Answer) AuthenticationResults(authserv string) string {
	property, value := "mailfrom", a.Query.Sender
	if a.Query.Scope == Helo {
		property, value = "helo", a.Query.Helo
	}
	// Parentheses would end the comment.
	comment := strings.NewReplacer("(", `\(`, ")", `\)`, `\`, `\\`).Replace(a.Comment())
	return fmt.Sprintf("Authentication-Results: %s; spf=%s (%s) smtp.%s=%s", authserv, a.Result, comment, property, pvalue(value))
}

// pvalue is an address or a name as a value of Authentication-Results.
func pvalue(value string) string {
	local, domain, isAddress := strings.Cut(value, "@")
	if isAddress && quote(local) == local && quote(domain) == domain {
		return value
	}
	return quote(value)
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

// Comment says why, for a header field or a reply: the domains whose records
// decided, and the reason; printable ASCII.
func (a *Answer) Comment() string {
	text := a.Reason
	if a.Result == Pass || a.Result == Fail || a.Result == SoftFail || a.Result == Neutral && a.Term != "" {
		text = a.sentence() + " (mechanism '" + upperIPv6(a.Term) + "' matched)"
	}
	domain := a.Domain
	if a.Depth > 0 {
		domain += " ... " + a.Authority
	}
	return sanitize(domain + ": " + text)
}

// sentence says what a matching mechanism means.
func (a *Answer) sentence() string {
	who, by := "Sender", ""
	switch mechanism(a.Term) {
	case "a", "mx", "ptr", "ip4", "ip6":
		who = a.Query.IP.String()
	case "all":
		by = " by default"
	}
	to := fmt.Sprintf("to use '%s' in '%s' identity", a.Query.Identity(), a.Query.Scope)
	switch a.Result {
	case Pass:
		return who + " is authorized" + by + " " + to
	case Fail:
		return who + " is not authorized" + by + " " + to
	case SoftFail:
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
