package spf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"posthaste/internal/sys/dns"
)

// check is one call of Checker.Check.
type check struct {
	*Checker
	ctx           context.Context
	trace         bool
	ip            netip.Addr
	local, origin string // the identity
	helo          string
	voidLimit     int

	record  string // of origin
	lookups int
	voids   int
	steps   []Step
	names   *names // of the client, once they were looked up
}

// outcome is what the record of a domain comes to.
type outcome struct {
	result Result
	reason string
	domain string // whose record decided
	depth  int    // of that record
	term   string // that matched, or that is in error
	exp    *macroString
}

// stop ends a check with an error; it passes include and redirect as it is.
type stop struct{ outcome }

func (s *stop) Error() string { return s.reason }

func (k *check) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

// step notes what happened.
func (k *check) step(at frame, term, format string, args ...any) {
	if k.trace {
		k.steps = append(k.steps, Step{Depth: at.depth, Domain: at.domain, Term: term, Text: fmt.Sprintf(format, args...),
			Lookups: k.lookups, Voids: k.voids})
	}
}

// frame is the record that is being evaluated.
type frame struct {
	domain string
	depth  int
}

// stop makes an error of this frame.
func (at frame) stop(r Result, format string, args ...any) *stop {
	return &stop{outcome{result: r, reason: fmt.Sprintf(format, args...), domain: at.domain, depth: at.depth}}
}

// host is check_host() of section 4. It always has a result.
func (k *check) host(domain string, depth int) outcome {
	at := frame{domain, depth}
	out, err := k.evaluate(at)
	if err != nil {
		out = err.outcome
		if out.domain == domain {
			k.step(at, "", "%s: %s", out.result, out.reason)
		}
	}
	return out
}

func (k *check) evaluate(at frame) (outcome, *stop) {
	text, err := k.find(at)
	if err != nil {
		return outcome{}, err
	}
	if at.depth == 0 {
		k.record = text
	}
	k.step(at, "", "record \"%s\"", text)
	r, bad := parse(text)
	if bad != nil {
		err := at.stop(PermError, "%s", bad.text)
		err.term = bad.term
		return outcome{}, err
	}
	for i := range r.terms {
		t := &r.terms[i]
		matched, err := k.match(at, t)
		if err != nil {
			return outcome{}, err
		}
		if matched {
			k.step(at, t.written, "match: %s", t.result)
			return outcome{result: t.result, reason: "Mechanism '" + t.text + "' matched", domain: at.domain, depth: at.depth, term: t.text, exp: r.exp}, nil
		}
		k.step(at, t.written, "no match")
	}
	if r.redirect != nil {
		return k.redirect(at, r.redirect)
	}
	k.step(at, "", "end of record: neutral")
	return outcome{result: Neutral, reason: "Default neutral result due to no mechanism matches", domain: at.domain, depth: at.depth}, nil
}

const noPolicy = "No applicable sender policy available"

// find looks up the record of a domain (sections 4.3 to 4.5).
func (k *check) find(at frame) (string, *stop) {
	if !isFQDN(at.domain) {
		return "", at.stop(None, noPolicy)
	}
	texts, err := look(k, k.DNS.TXT, at.domain)
	if err != nil && !isVoid(err) {
		return "", k.trouble(at, err, "TXT", at.domain)
	}
	found := ""
	for _, text := range texts {
		if !isRecord(text) {
			continue
		}
		if found != "" {
			return "", at.stop(PermError, "Redundant applicable '%s' sender policies found", versionTag)
		}
		found = text
	}
	if found == "" {
		return "", at.stop(None, noPolicy)
	}
	return found, nil
}

// isFQDN reports whether a name can have a record at all: several labels of
// 1 to 63 characters.
func isFQDN(name string) bool {
	const maxName, maxLabel = 253, 63
	if len(name) > maxName || name == "" || name[0] == '[' || !strings.Contains(name, ".") {
		return false
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
	}
	return true
}

func (k *check) redirect(at frame, target *macroString) (outcome, *stop) {
	if err := k.count(at); err != nil {
		return outcome{}, err
	}
	name := fold(k.expandDomain(target, at.domain))
	k.step(at, "redirect="+target.text, "record of %s", name)
	out := k.host(name, at.depth+1)
	if out.result == None {
		return outcome{}, at.stop(PermError, "Redirect domain '%s' has no applicable sender policy", name)
	}
	return out, nil
}

// count counts a term that asks DNS.
func (k *check) count(at frame) *stop {
	if k.lookups++; k.lookups > maxTerms {
		return at.stop(PermError, "Maximum DNS-interactive terms limit (%d) exceeded", maxTerms)
	}
	return nil
}

// void counts a look-up that found nothing.
func (k *check) void(at frame, err error) *stop {
	if !isVoid(err) {
		return nil
	}
	if k.voids++; k.voids > max(k.voidLimit, 0) {
		return at.stop(PermError, "Maximum void DNS look-ups limit (%d) exceeded", max(k.voidLimit, 0))
	}
	return nil
}

func isVoid(err error) bool { return errors.Is(err, dns.ErrNoHost) || errors.Is(err, dns.ErrNoData) }

// trouble is a look-up without an answer.
func (k *check) trouble(at frame, err error, kind, name string) *stop {
	var rcode *dns.RcodeError
	var timeout net.Error
	switch {
	case k.ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return at.stop(TempError, "Time-out on DNS '%s' lookup of '%s'", kind, name)
	case errors.As(err, &rcode):
		return at.stop(TempError, "'%s' error on DNS '%s' lookup of '%s'", rcode.Rcode, kind, name)
	}
	return at.stop(TempError, "Unknown error on DNS '%s' lookup of '%s'", kind, name)
}

// look asks for a name that may come from anywhere: what is special in the
// text form of names is not to be special here.
func look[T any](k *check, ask func(context.Context, string) ([]T, dns.Answer, error), name string) ([]T, error) {
	found, _, err := ask(k.ctx, strings.ReplaceAll(name, `\`, `\\`))
	return found, err
}

// explain finds the explanation of a Fail (section 6.2); trouble with it is as
// good as none.
func (k *check) explain(out outcome) string {
	name := k.expandDomain(out.exp, out.domain)
	texts, err := look(k, k.DNS.TXT, name)
	if err != nil || len(texts) != 1 {
		return ""
	}
	m, err := parseMacros(texts[0], inExplanation)
	if err != nil {
		return ""
	}
	return strings.Map(printable, k.expand(&m, out.domain))
}

// printable keeps what macros put in from becoming part of a protocol.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}
