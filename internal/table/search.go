package table

import (
	"context"
	"strings"

	"posthaste/internal/mail/addr"
)

// Keys is the set of keys that a search for an address tries; they are tried
// in the order of the constants, as mail_addr_find(3) does.
type Keys uint8

const (
	WholeAddress  Keys = 1 << iota // user+ext@domain
	NoExtension                    // user@domain
	LocalPart                      // user+ext, user: only when the domain is local
	AtDomain                       // @domain
	DomainName                     // domain
	ParentDomains                  // example.com for a.example.com
	DotDomains                     // .example.com for a.example.com
)

const (
	// AddressKeys is the order of canonical(5), virtual(5), relocated(5),
	// generic(5), bcc maps, and the lists of local and relay recipients.
	AddressKeys = WholeAddress | NoExtension | LocalPart | AtDomain
	// MailboxKeys is the order of virtual(8)'s mailbox, uid and gid maps.
	MailboxKeys = WholeAddress | NoExtension | AtDomain
	// transportKeys is the order of transport(5), before the parent domains.
	transportKeys = WholeAddress | NoExtension | DomainName
)

// Search tells how addresses are looked for.
type Search struct {
	Keys Keys
	// Delimiters is recipient_delimiter.
	Delimiters string
	// OwnerRequest is owner_request_special: with "-" a delimiter, owner-x and
	// x-request are whole names.
	OwnerRequest bool
	// DoubleBounce is double_bounce_sender, which is never divided.
	DoubleBounce string
	// IsLocal reports whether a domain is $myorigin or local: then the local
	// part alone is a key. nil is "never". Its error ends the search.
	IsLocal func(ctx context.Context, domain string) (bool, error)
}

// Match is what a search found.
type Match struct {
	Value string
	// Key is the key that was found.
	Key string
	// Extension is the part of the address that the key lacks, with its
	// delimiter ("+ext"); propagate_unmatched_extensions may add it to the
	// result. It is empty when the whole address or "@domain" matched.
	Extension string
}

// Rewrite returns the text of the result for address a: "@other.example"
// stands for the same user there, without an unmatched extension. See
// virtual(5), "user@domain".
func (m Match) Rewrite(a addr.Address) string {
	if !strings.HasPrefix(m.Value, "@") {
		return m.Value
	}
	return strings.TrimSuffix(a.Local(), m.Extension) + m.Value
}

// Address looks an address up under the keys of s. The address is in internal
// form; keys are tried in the quoted form first, and unquoted when that differs.
func (m *Maps) Address(ctx context.Context, a addr.Address, s Search) (Match, bool, error) {
	if m.Empty() || a == "" {
		return Match{}, false, nil
	}
	f := finder{maps: m, ctx: ctx}
	local, domain, hasDomain := a.Split()
	user, ext := s.split(local)
	at := ""
	if hasDomain {
		at = "@" + domain
	}
	if s.Keys&WholeAddress != 0 && f.address(local, at, wholeKey) {
		return f.match, true, nil
	}
	if s.Keys&NoExtension != 0 && ext != "" && f.address(user, at, partialKey) {
		f.match.Extension = ext
		return f.match, true, nil
	}
	if s.Keys&LocalPart != 0 && f.err == nil && hasDomain && f.isLocal(s, domain) {
		if f.address(local, "", partialKey) {
			return f.match, true, nil
		}
		if s.Keys&NoExtension != 0 && ext != "" && f.address(user, "", partialKey) {
			f.match.Extension = ext
			return f.match, true, nil
		}
	}
	if s.Keys&AtDomain != 0 && hasDomain && f.key(at, partialKey) {
		return f.match, true, nil
	}
	if s.Keys&DomainName != 0 && hasDomain && f.domain(domain, s.Keys, partialKey) {
		return f.match, true, nil
	}
	return Match{}, false, f.err
}

// finder tries keys until one is found or a table fails.
type finder struct {
	maps  *Maps
	ctx   context.Context
	match Match
	err   error
}

// key tries one key; false after an error too.
func (f *finder) key(key string, kind keyKind) bool {
	if f.err != nil {
		return false
	}
	var found bool
	f.match.Value, found, f.err = f.maps.find(f.ctx, key, kind)
	f.match.Key = key
	return found
}

// address tries local+at in quoted and in plain form.
func (f *finder) address(local, at string, kind keyKind) bool {
	quoted := addr.QuoteLocal(local)
	return f.key(quoted+at, kind) || (quoted != local && f.key(local+at, kind))
}

// domain tries a domain and, when keys say so, its parents.
func (f *finder) domain(domain string, keys Keys, kind keyKind) bool {
	for name := range domainKeys(domain, keys) {
		if f.key(name, kind) {
			return true
		}
		kind = partialKey
	}
	return false
}

func (f *finder) isLocal(s Search, domain string) bool {
	if s.IsLocal == nil || f.err != nil {
		return false
	}
	var local bool
	local, f.err = s.IsLocal(f.ctx, domain)
	return local && f.err == nil
}

// domainKeys yields the domain and then its parents in the form that keys ask
// for: "b.c" or ".b.c" for "a.b.c".
func domainKeys(domain string, keys Keys) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := domain; name != "" && yield(name); {
			if keys&(ParentDomains|DotDomains) == 0 {
				return
			}
			dot := strings.IndexByte(name[1:], '.')
			if dot < 0 {
				return
			}
			name = name[1+dot:]
			if keys&ParentDomains != 0 {
				name = name[1:]
			}
		}
	}
}

// split divides a local part as s says.
func (s Search) split(local string) (user, ext string) {
	e := addr.Extensions{Delimiters: s.Delimiters, OwnerRequest: s.OwnerRequest, DoubleBounce: s.DoubleBounce}
	return e.Split(local)
}
