package restrict

import (
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/policy/dnsbl"
	"posthaste/internal/policy/policyclient"
	"posthaste/internal/table"
)

// list is a parsed restriction list: a stage's, a class's, or the result of an
// access table.
type list struct {
	param, file string
	line        int
	nodes       []node
}

// node is one restriction with its argument.
type node struct {
	list  *list
	index int
	name  string // as written
	arg   string
	next  string // the word behind, for "is ignored" warnings
	spec  spec

	// bad is the warning that evaluation gives before it answers
	// "Server configuration error"; "" for a good node.
	bad    []string
	skip   bool // bad, but to be passed over
	maps   *table.Maps
	class  *list
	policy *policyclient.Client
	dnsbl  *dnsbl.List
	number int
	order  []string // of keys, for check_ccert_access
}

func (n *node) item() Item {
	text := n.name
	if n.arg != "" {
		text += " " + n.arg
	}
	return Item{Param: n.list.param, File: n.list.file, Line: n.list.line, Index: n.index, Text: text}
}

// argument is what a restriction takes behind its name.
type argument uint8

const (
	argNone argument = iota
	argTable
	argCert   // a table, or { table, { search_order = ... } }
	argDomain // DNS list
	argServer // policy server
	argNumber
)

// spec is a kind of restriction.
type spec struct {
	arg   argument
	check func(e *eval, n *node, s subject) outcome
}

// parser turns words into nodes.
type parser struct {
	c     *Checker
	words []string
	at    int
	list  *list
	// static lists are those of main.cf: only they may open tables and policy
	// servers.
	static bool
}

// parse reads a list. The error is fatal for the service.
func (c *Checker) parse(l *list, text string, static bool) error {
	p := &parser{c: c, words: table.SplitList(text), list: l, static: static}
	for p.at < len(p.words) {
		if err := p.node(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) node() error {
	n := node{list: p.list, index: len(p.list.nodes), name: p.words[p.at]}
	p.at++
	lower := strings.ToLower(n.name)
	if lower == "reject_sender_login_mismatch" {
		// It is two restrictions under one name.
		for _, name := range []string{"reject_authenticated_sender_login_mismatch", "reject_unauthenticated_sender_login_mismatch"} {
			n.name, n.spec = name, p.c.specs[name]
			p.add(n)
		}
		return nil
	}
	spec, known := p.c.specs[lower]
	switch {
	case known:
		n.spec = spec
		if err := p.argument(&n); err != nil {
			return err
		}
	case strings.Contains(n.name, ":") && p.static:
		n.spec = spec
		n.spec.check = (*eval).defaultTable
		n.maps = p.open(n.name)
	case p.c.classes[n.name] != nil:
		n.class = p.c.classes[n.name]
		n.spec.check = (*eval).subclass
	default:
		n.bad = []string{fmt.Sprintf("unknown smtpd restriction: \"%s\"", n.name)}
	}
	p.add(n)
	return nil
}

func (p *parser) add(n node) {
	if p.at < len(p.words) {
		n.next = p.words[p.at]
	}
	n.index = len(p.list.nodes)
	p.list.nodes = append(p.list.nodes, n)
}

// peek is the next word, "" at the end.
func (p *parser) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at]
	}
	return ""
}

// argument reads what n takes. A missing argument is found out about when the
// node is evaluated: until then, the list works.
func (p *parser) argument(n *node) error {
	word := p.peek()
	switch n.spec.arg {
	case argTable, argCert:
		p.tableArgument(n, word)
	case argDomain:
		if word == "" {
			n.bad, n.skip = []string{fmt.Sprintf("restriction %s requires domain name argument", n.name)}, true
			return nil
		}
		p.take(n)
		l, err := dnsbl.Parse(word)
		if err != nil {
			n.bad = []string{"RBL reply error: " + err.Error()}
		}
		n.dnsbl = l
	case argNumber:
		number, err := strconv.Atoi(word)
		if err != nil || number < 0 {
			n.bad = []string{fmt.Sprintf("restriction %s must be followed by number", n.name)}
			return nil
		}
		p.take(n)
		n.number = number
	case argServer:
		return p.serverArgument(n, word)
	}
	return nil
}

func (p *parser) take(n *node) {
	n.arg = p.words[p.at]
	p.at++
}

func (p *parser) tableArgument(n *node, word string) {
	spec, order := word, ""
	if n.spec.arg == argCert && strings.HasPrefix(word, "{") {
		spec, order = certArgument(word)
	}
	if !strings.Contains(spec, ":") || !p.static {
		shown := word
		if shown == "" {
			shown = n.name
		}
		n.bad = []string{fmt.Sprintf("restriction %s: bad argument \"%s\": need maptype:mapname", n.name, shown)}
		return
	}
	p.take(n)
	n.maps = p.open(spec)
	if n.spec.arg == argCert {
		if order == "" {
			order = "cert_fingerprint, pubkey_fingerprint"
		}
		n.order = table.SplitList(order)
	}
}

// certArgument reads "{ type:table, { search_order = a, b } }".
func certArgument(word string) (spec, order string) {
	for _, item := range table.SplitList(strings.TrimSuffix(strings.TrimPrefix(word, "{"), "}")) {
		inner := strings.TrimSuffix(strings.TrimPrefix(item, "{"), "}")
		name, value, isSetting := strings.Cut(inner, "=")
		switch {
		case strings.HasPrefix(item, "{") && isSetting && strings.TrimSpace(name) == "search_order":
			order = value
		case spec == "":
			spec = item
		}
	}
	return spec, order
}

func (p *parser) serverArgument(n *node, word string) error {
	if !strings.Contains(word, ":") || !p.static {
		n.bad = []string{fmt.Sprintf("restriction %s must be followed by transport:server", n.name)}
		return nil
	}
	p.take(n)
	client, err := p.c.policyClient(word)
	if err != nil {
		return err
	}
	n.policy = client
	return nil
}

func (p *parser) open(spec string) *table.Maps {
	return p.c.maps(spec, spec)
}

// required are the restrictions of which one must work, so that no server is
// an open relay by mistake.
var required = []string{"reject_unauth_destination", "defer_unauth_destination", "reject", "defer", "defer_if_permit"}

// safe reports whether a list has a required restriction that can be reached
// and is not a mere warning.
func safe(l *list, depth int) bool {
	if depth > maxDepth {
		return false
	}
	for i := 0; i < len(l.nodes); i++ {
		n := &l.nodes[i]
		switch n.name {
		case "warn_if_reject":
			i++
			continue
		case "permit":
			return false
		}
		for _, name := range required {
			if n.name == name {
				return true
			}
		}
		if n.class != nil && safe(n.class, depth+1) {
			return true
		}
	}
	return false
}
