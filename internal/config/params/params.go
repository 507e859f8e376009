// Package params is the catalogue of main.cf parameters: every parameter of
// Postfix 3.11 with its kind, its unexpanded default, its limits, and the
// parameters that a service of master.cf brings along.
//
// It is data and promises nothing but to be complete: a test compares it with
// what Postfix prints. Parameters that Postfix does not have begin with
// "posthaste_" and are listed apart. Package config gives the parameters their values; the
// postconf command shows them. Meaning and defaults are those of postconf(5).
package params

import (
	"sort"
	"strings"
)

// Kind says how the value of a parameter is read.
type Kind uint8

const (
	String Kind = iota // text, $name is expanded
	Raw                // text that its user expands, later and with other names
	Int
	Long // a size that may exceed 32 bits
	Bool
	Time
)

// Param is one parameter.
type Param struct {
	Name    string
	Kind    Kind
	Default string // unexpanded; empty where it is computed from the system
	// Min and Max limit an Int or Long, a Time in seconds, and the length of a
	// String. Max 0 is no limit.
	Min, Max int64
	Unit     byte // of a Time without unit; 0 is seconds
}

// TimeUnit is the unit of a time without one.
func (p *Param) TimeUnit() byte {
	if p.Unit == 0 {
		return 's'
	}
	return p.Unit
}

// Catalogue finds parameters by name. It is immutable.
type Catalogue struct {
	byName map[string]*Param
	names  []string
	own    []string
}

// New makes the catalogue of built-in parameters.
func New() *Catalogue {
	c := &Catalogue{byName: make(map[string]*Param, 1024)}
	for _, group := range [][]Param{
		addresses, bounce, content, lmtp, local, milter, postscreen, process,
		qmgr, sasl, smtp, smtpd, tls, tlsclient, tlsserver, verify,
	} {
		for i := range group {
			c.byName[group[i].Name] = &group[i]
			c.names = append(c.names, group[i].Name)
		}
	}
	for i := range own {
		c.byName[own[i].Name] = &own[i]
		c.own = append(c.own, own[i].Name)
	}
	sort.Strings(c.names)
	sort.Strings(c.own)
	return c
}

// Lookup finds a built-in parameter.
func (c *Catalogue) Lookup(name string) (*Param, bool) {
	p, ok := c.byName[name]
	return p, ok
}

// Names lists the built-in parameters that Postfix has, in order. The slice is
// shared.
func (c *Catalogue) Names() []string { return c.names }

// Own lists the built-in parameters that Postfix does not have, in order. The
// slice is shared.
func (c *Catalogue) Own() []string { return c.own }

// transportSuffixes are the parameters that each transport has under its own
// name, as NAME_suffix, with the parameter they default to.
var transportSuffixes = []struct{ suffix, fallback string }{
	{"delivery_slot_cost", "default_delivery_slot_cost"},
	{"delivery_slot_discount", "default_delivery_slot_discount"},
	{"delivery_slot_loan", "default_delivery_slot_loan"},
	{"destination_concurrency_failed_cohort_limit", "default_destination_concurrency_failed_cohort_limit"},
	{"destination_concurrency_limit", "default_destination_concurrency_limit"},
	{"destination_concurrency_negative_feedback", "default_destination_concurrency_negative_feedback"},
	{"destination_concurrency_positive_feedback", "default_destination_concurrency_positive_feedback"},
	{"destination_rate_delay", "default_destination_rate_delay"},
	{"destination_recipient_limit", "default_destination_recipient_limit"},
	{"extra_recipient_limit", "default_extra_recipient_limit"},
	{"initial_destination_concurrency", "initial_destination_concurrency"},
	{"minimum_delivery_slots", "default_minimum_delivery_slots"},
	{"recipient_limit", "default_recipient_limit"},
	{"recipient_refill_delay", "default_recipient_refill_delay"},
	{"recipient_refill_limit", "default_recipient_refill_limit"},
	{"transport_rate_delay", "default_transport_rate_delay"},
}

// TransportFallback is the parameter that NAME_suffix defaults to:
// default_suffix for all but one.
func TransportFallback(suffix string) string {
	if suffix == "initial_destination_concurrency" {
		return suffix
	}
	return "default_" + suffix
}

// transportPrograms run transports that the queue manager schedules.
var transportPrograms = map[string]bool{
	"local": true, "virtual": true, "pipe": true, "error": true, "lmtp": true, "smtp": true,
}

// ForService lists the parameters that a service of master.cf brings along:
// NAME_destination_concurrency_limit and so on for a transport, and
// NAME_time_limit for pipe(8) and spawn(8). program is the base name of its
// command.
func (c *Catalogue) ForService(name, program string) []Param {
	var list []Param
	add := func(suffix, fallback string) {
		if _, builtin := c.byName[name+"_"+suffix]; builtin {
			return
		}
		p := Param{Name: name + "_" + suffix, Default: "$" + fallback}
		if base, ok := c.byName[fallback]; ok {
			p.Kind, p.Min, p.Max, p.Unit = base.Kind, base.Min, base.Max, base.Unit
		}
		list = append(list, p)
	}
	if transportPrograms[program] {
		for _, t := range transportSuffixes {
			add(t.suffix, t.fallback)
		}
	}
	if program == "pipe" || program == "spawn" {
		add("time_limit", "command_time_limit")
	}
	return list
}

// ForLMTP is the name under which lmtp(8) has a parameter of smtp(8), and the
// same name when it has none of its own.
func (c *Catalogue) ForLMTP(name string) string {
	rest, ok := strings.CutPrefix(name, "smtp_")
	if !ok {
		return name
	}
	for _, try := range []string{
		"lmtp_" + rest,
		"lmtp_" + strings.Replace(rest, "ehlo", "lhlo", 1),
		"lmtp_" + strings.Replace(rest, "helo", "lhlo", 1),
	} {
		if _, ok := c.byName[try]; ok {
			return try
		}
	}
	return name
}

// OfLocal tells whether a built-in parameter is one of the local transport,
// whose limits have defaults of their own.
func OfLocal(name string) bool {
	return name == "local_destination_concurrency_limit" || name == "local_destination_recipient_limit"
}
