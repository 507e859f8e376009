// Package rewrite maps addresses for cleanup: standard form, canonical(5),
// masquerading, virtual(5) expansion, and the choice of BCC recipients
// (ADDRESS_REWRITING_README).
//
// A Job is what it does for one message. It never stops for trouble: the
// address stays as it is, a warning is logged, and Job.Trouble tells cleanup
// at the end that the message cannot be accepted now.
package rewrite

import (
	"context"
	"fmt"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
)

// Config is what main.cf says about mapping (postconf(5)).
type Config struct {
	Canonical          string `param:"canonical_maps"`
	CanonicalClasses   string `param:"canonical_classes"`
	SenderCanonical    string `param:"sender_canonical_maps"`
	SenderClasses      string `param:"sender_canonical_classes"`
	RecipientCanonical string `param:"recipient_canonical_maps"`
	RecipientClasses   string `param:"recipient_canonical_classes"`
	Masquerade         string `param:"masquerade_domains"`
	MasqueradeClasses  string `param:"masquerade_classes"`
	MasqueradeExcept   string `param:"masquerade_exceptions"`
	Propagate          string `param:"propagate_unmatched_extensions"`
	Virtual            string `param:"virtual_alias_maps"`
	ExpansionLimit     int    `param:"virtual_alias_expansion_limit"`
	RecursionLimit     int    `param:"virtual_alias_recursion_limit"`
	LengthLimit        int    `param:"virtual_alias_address_length_limit"`
	SenderBCC          string `param:"sender_bcc_maps"`
	RecipientBCC       string `param:"recipient_bcc_maps"`
	TokenLimit         int    `param:"header_address_token_limit"`
}

// Class is where an address stands, the values of canonical_classes and
// masquerade_classes; a set of them.
type Class uint8

// Classes.
const (
	EnvelopeSender Class = 1 << iota
	EnvelopeRecipient
	HeaderSender
	HeaderRecipient
)

var classNames = map[string]Class{
	"envelope_sender": EnvelopeSender, "envelope_recipient": EnvelopeRecipient,
	"header_sender": HeaderSender, "header_recipient": HeaderRecipient,
}

// stage is a canonical table with the classes it is for.
type stage struct {
	maps    *table.Maps
	classes Class
}

// Mapper holds the tables of one configuration. Safe for concurrent use.
type Mapper struct {
	cfg        Config
	standard   *route.Rewriter
	search     table.Search
	sender     stage
	recipient  stage
	common     stage
	masquerade masquerade
	virtual    *table.Maps
	senderBCC  *table.Maps
	rcptBCC    *table.Maps
	propagate  map[string]bool
}

// New opens the tables. An error is a setting that makes no sense.
func New(cfg Config, tables *table.Opener, standard *route.Rewriter, search table.Search) (*Mapper, error) {
	m := &Mapper{cfg: cfg, standard: standard, search: search, propagate: map[string]bool{}}
	open := func(title, list string) *table.Maps {
		if list == "" {
			return nil
		}
		return tables.Maps(title, list, table.FoldedKeys)
	}
	m.sender.maps = open("sender_canonical_maps", cfg.SenderCanonical)
	m.recipient.maps = open("recipient_canonical_maps", cfg.RecipientCanonical)
	m.common.maps = open("canonical_maps", cfg.Canonical)
	m.virtual = open("virtual_alias_maps", cfg.Virtual)
	m.senderBCC = open("sender_bcc_maps", cfg.SenderBCC)
	m.rcptBCC = open("recipient_bcc_maps", cfg.RecipientBCC)
	if err := m.readLists(); err != nil {
		return nil, err
	}
	m.masquerade.domains = table.SplitList(strings.ToLower(cfg.Masquerade))
	m.masquerade.except = matchlist.NewStrings(tables, "masquerade_exceptions", cfg.MasqueradeExcept)
	return m, nil
}

// readLists reads the settings that are lists of names.
func (m *Mapper) readLists() error {
	for _, c := range []struct {
		param, text string
		to          *Class
	}{
		{"sender_canonical_classes", m.cfg.SenderClasses, &m.sender.classes},
		{"recipient_canonical_classes", m.cfg.RecipientClasses, &m.recipient.classes},
		{"canonical_classes", m.cfg.CanonicalClasses, &m.common.classes},
		{"masquerade_classes", m.cfg.MasqueradeClasses, &m.masquerade.classes},
	} {
		for _, name := range table.SplitList(c.text) {
			class, ok := classNames[strings.ToLower(name)]
			if !ok {
				return fmt.Errorf("%s: unknown name \"%s\"", c.param, name)
			}
			*c.to |= class
		}
	}
	for _, name := range table.SplitList(m.cfg.Propagate) {
		switch name = strings.ToLower(name); name {
		case "canonical", "virtual", "alias", "forward", "include", "generic":
			m.propagate[name] = true
		default:
			return fmt.Errorf("propagate_unmatched_extensions: unknown name \"%s\"", name)
		}
	}
	return nil
}

// Close closes the tables.
func (m *Mapper) Close() error {
	first := m.masquerade.except.Close()
	for _, maps := range []*table.Maps{m.sender.maps, m.recipient.maps, m.common.maps, m.virtual, m.senderBCC, m.rcptBCC} {
		if err := maps.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Trouble is why a message cannot be accepted now; a set.
type Trouble uint8

// Troubles.
const (
	Lookup    Trouble = 1 << iota // a table failed
	Expansion                     // an alias expands beyond a limit
)

// Job maps the addresses of one message.
type Job struct {
	m       *Mapper
	warn    func(text string)
	trouble Trouble
}

// Job starts a message. warn logs a warning, without the queue ID.
func (m *Mapper) Job(warn func(text string)) *Job { return &Job{m: m, warn: warn} }

// Trouble is what went wrong so far.
func (j *Job) Trouble() Trouble { return j.trouble }

func (j *Job) failed(t Trouble, format string, args ...any) {
	j.trouble |= t
	j.warn(fmt.Sprintf(format, args...) + " -- message not accepted, try again later")
}

// Standard brings an address into standard form in a context of package route.
func (j *Job) Standard(ctx context.Context, where string, a addr.Address) addr.Address {
	return j.m.standard.Rewrite(ctx, where, a)
}

// Map applies canonical tables and masquerading. class is one class; the
// address is in standard form.
func (j *Job) Map(ctx context.Context, class Class, a addr.Address) addr.Address {
	if a == "" {
		return a
	}
	own := j.m.sender
	if class&(EnvelopeRecipient|HeaderRecipient) != 0 {
		own = j.m.recipient
	}
	for _, s := range [...]stage{own, j.m.common} {
		if s.maps != nil && s.classes&class != 0 {
			a = j.canonical(ctx, s.maps, a)
		}
	}
	if j.m.masquerade.classes&class == 0 {
		return a
	}
	masked, err := j.m.masquerade.apply(ctx, a)
	if err != nil {
		j.failed(Lookup, "masquerade_exceptions lookup problem for %s", a.External())
	}
	return masked
}

// canonicalRecursion is how often a canonical result is looked up again.
const canonicalRecursion = 10

// canonical maps one address to one.
func (j *Job) canonical(ctx context.Context, maps *table.Maps, a addr.Address) addr.Address {
	for range canonicalRecursion {
		results, found, err := j.lookup(ctx, maps, a, j.m.propagate["canonical"])
		switch {
		case err != nil:
			j.failed(Lookup, "%s map lookup problem for %s", maps.Title(), a.External())
			return a
		case !found:
			return a
		}
		if len(results) > 1 {
			j.warn(fmt.Sprintf("multi-valued %s entry for %s", maps.Title(), a.External()))
		}
		if strings.EqualFold(string(results[0]), string(a)) {
			return results[0]
		}
		a = results[0]
	}
	// Two entries that name each other: there is an address, so mail passes.
	j.warn(fmt.Sprintf("unreasonable %s map nesting for %s -- message not accepted, try again later", maps.Title(), a.External()))
	return a
}

// lookup finds an address and reads the result as addresses in standard form.
// found means that there is at least one.
func (j *Job) lookup(ctx context.Context, maps *table.Maps, a addr.Address, propagate bool) ([]addr.Address, bool, error) {
	match, found, err := maps.Address(ctx, a, j.m.search)
	if err != nil || !found {
		return nil, false, err
	}
	extension := ""
	if propagate {
		extension = match.Extension
	}
	if strings.HasPrefix(match.Value, "@") {
		local := strings.TrimSuffix(a.Local(), match.Extension) + extension
		return []addr.Address{j.Standard(ctx, route.ContextLocal, addr.Address(local+match.Value))}, true, nil
	}
	var results []addr.Address
	for _, box := range addr.ParseList(match.Value, j.m.cfg.TokenLimit).Mailboxes() {
		result := j.Standard(ctx, route.ContextLocal, box.Address())
		if extension != "" {
			local, domain, has := result.Split()
			result = addr.Address(local + extension)
			if has {
				result += addr.Address("@" + domain)
			}
		}
		results = append(results, result)
	}
	return results, len(results) > 0, nil
}

// Expand applies virtual_alias_maps again and again until nothing matches. The
// result is never empty, and a itself when there is no alias or trouble.
func (j *Job) Expand(ctx context.Context, a addr.Address) []addr.Address {
	if j.m.virtual == nil {
		return []addr.Address{a}
	}
	e := expansion{job: j, origin: a, list: []addr.Address{a}}
	for i := 0; i < len(e.list); i++ {
		if len(e.list) > j.m.cfg.ExpansionLimit {
			j.failed(Expansion, "unreasonable %s map expansion size for %s", j.m.virtual.Title(), a.External())
			return []addr.Address{a}
		}
		if !e.expand(ctx, i) {
			return []addr.Address{a}
		}
	}
	return e.list
}

// expansion is a list of addresses that grows while it is worked on.
type expansion struct {
	job    *Job
	origin addr.Address
	list   []addr.Address
	// final holds addresses that expanded into themselves; such a result is
	// not looked up again.
	final map[string]bool
}

// expand replaces list[i] until no alias matches it; further results are
// appended. false means trouble.
func (e *expansion) expand(ctx context.Context, i int) bool {
	j, maps := e.job, e.job.m.virtual
	for count := 0; !e.final[addr.Fold(string(e.list[i]))]; count++ {
		if count >= j.m.cfg.RecursionLimit {
			j.failed(Expansion, "unreasonable %s map nesting for %s", maps.Title(), e.origin.External())
			return false
		}
		key := e.list[i]
		results, found, err := j.lookup(ctx, maps, key, j.m.propagate["virtual"])
		if err != nil {
			j.failed(Lookup, "%s map lookup problem for %s", maps.Title(), e.origin.External())
			return false
		}
		if !found {
			return true
		}
		for _, result := range results {
			if len(result) > j.m.cfg.LengthLimit {
				j.failed(Expansion, "unreasonable %s result %.300s...", maps.Title(), result.External())
				return false
			}
			if strings.EqualFold(string(result), string(key)) {
				if e.final == nil {
					e.final = map[string]bool{}
				}
				e.final[addr.Fold(string(key))] = true
			}
		}
		e.list[i] = results[0]
		e.list = append(e.list, results[1:]...)
	}
	return true
}

// SenderBCC and RecipientBCC find the address that gets a copy, "" if nobody.
func (j *Job) SenderBCC(ctx context.Context, a addr.Address) addr.Address {
	return j.bcc(ctx, j.m.senderBCC, a)
}

// RecipientBCC is SenderBCC for recipient_bcc_maps.
func (j *Job) RecipientBCC(ctx context.Context, a addr.Address) addr.Address {
	return j.bcc(ctx, j.m.rcptBCC, a)
}

func (j *Job) bcc(ctx context.Context, maps *table.Maps, a addr.Address) addr.Address {
	if maps == nil || a == "" {
		return ""
	}
	match, _, err := maps.Address(ctx, a, j.m.search)
	if err != nil {
		j.failed(Lookup, "%s map lookup problem", maps.Title())
		return ""
	}
	return addr.Unquote(match.Value)
}
