// Package matchlist is lists of patterns with yes or no for an answer, such as
// mydestination, mynetworks or smtpd_sasl_exceptions_networks: names, networks,
// "/file" and "type:table" items, each of which "!" turns into an exception.
// The first item that matches decides.
//
// A list that cannot be evaluated (a broken network, a table that fails) gives
// an error, never "no": callers answer "try again". The reason was logged.
// Roles make their lists from their configuration; see match_list(3) of Postfix.
package matchlist

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
	"posthaste/internal/table/cidr"
)

// list is the parsed items and what they share.
type list struct {
	param   string
	log     *maillog.Logger
	parents bool // "example.com" matches a.example.com
	items   []item
}

// item is one pattern. Exactly one of text and table is set.
type item struct {
	not     bool
	text    string // lower case
	table   table.Table
	network networkPattern
}

// Domains is a list of domain names: a name matches itself, ".name" (or, with
// table.ParentDomains, name) matches subdomains.
type Domains struct{ list }

// NewDomains parses a list of domains. param is its parameter, for the log;
// parents comes from table.MatchesSubdomains.
func NewDomains(o *table.Opener, param, text string, parents table.Keys) *Domains {
	return &Domains{parse(o, param, text, parents)}
}

// Match reports whether the list matches a domain or host name.
func (d *Domains) Match(ctx context.Context, name string) (bool, error) {
	name = strings.ToLower(name)
	return d.match(func(it *item) (bool, error) { return d.hostname(ctx, it, name) })
}

// Strings is a list of strings that match as they are, case-folded.
type Strings struct{ list }

// NewStrings parses a list of strings.
func NewStrings(o *table.Opener, param, text string) *Strings {
	return &Strings{parse(o, param, text, 0)}
}

// Match reports whether the list matches s.
func (l *Strings) Match(ctx context.Context, s string) (bool, error) {
	s = strings.ToLower(s)
	return l.match(func(it *item) (bool, error) {
		if it.table != nil {
			return l.lookup(ctx, it, s)
		}
		return it.text == s, nil
	})
}

// Hosts is a list of host names, addresses and networks, as mynetworks.
type Hosts struct{ list }

// NewHosts parses a list of hosts.
func NewHosts(o *table.Opener, param, text string, parents table.Keys) *Hosts {
	return &Hosts{parse(o, param, text, parents)}
}

// Match reports whether the list matches a client by name or by IP address.
func (h *Hosts) Match(ctx context.Context, name, ip string) (bool, error) {
	name, ip = strings.ToLower(name), strings.ToLower(ip)
	addr, _ := netip.ParseAddr(ip)
	return h.match(func(it *item) (bool, error) {
		if ok, err := h.hostname(ctx, it, name); ok || err != nil {
			return ok, err
		}
		if it.table != nil {
			return h.lookup(ctx, it, ip)
		}
		return h.address(it, ip, addr)
	})
}

// MatchIP is Match for a client whose name plays no part.
func (h *Hosts) MatchIP(ctx context.Context, ip string) (bool, error) { return h.Match(ctx, "", ip) }

// Empty reports a list without items.
func (l *list) Empty() bool { return l == nil || len(l.items) == 0 }

// Close closes the tables of the list.
func (l *list) Close() error {
	var errs []error
	for _, it := range l.items {
		if it.table != nil {
			errs = append(errs, it.table.Close())
		}
	}
	return errors.Join(errs...)
}

func (l *list) match(matches func(*item) (bool, error)) (bool, error) {
	for i := range l.items {
		ok, err := matches(&l.items[i])
		if err != nil {
			return false, err
		}
		if ok {
			return !l.items[i].not, nil
		}
	}
	return false, nil
}

// hostname matches a name and its parents.
func (l *list) hostname(ctx context.Context, it *item, name string) (bool, error) {
	if it.table != nil {
		return l.hostTable(ctx, it, name)
	}
	if name == it.text {
		return true, nil
	}
	before, ok := strings.CutSuffix(name, it.text)
	if !ok || before == "" || it.text == "" {
		return false, nil
	}
	if l.parents {
		return strings.HasSuffix(before, "."), nil
	}
	return it.text[0] == '.', nil
}

// hostTable looks up a name and, in tables with fixed keys, its parents.
func (l *list) hostTable(ctx context.Context, it *item, name string) (bool, error) {
	for entry := name; entry != ""; {
		if ok, err := l.lookup(ctx, it, entry); ok || err != nil {
			return ok, err
		}
		dot := strings.IndexByte(entry[1:], '.')
		if dot < 0 || !it.table.Fixed() {
			return false, nil
		}
		entry = entry[1+dot:]
		if l.parents {
			entry = entry[1:]
		}
	}
	return false, nil
}

func (l *list) lookup(ctx context.Context, it *item, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	_, found, err := it.table.Lookup(ctx, key)
	if err != nil {
		l.log.Warnf("%s", err)
		return false, l.fail(it.table.Name() + ": table lookup problem")
	}
	return found, nil
}

// address matches an address with an address or a network.
func (l *list) address(it *item, ip string, addr netip.Addr) (bool, error) {
	if it.text == ip || it.text == "["+ip+"]" {
		return true, nil
	}
	if it.network.kind == notNetwork || it.network.six != strings.Contains(ip, ":") {
		return false, nil
	}
	if it.network.err != nil {
		return false, l.fail(it.network.err.Error())
	}
	return addr.IsValid() && it.network.pattern.Contains(addr), nil
}

func (l *list) fail(reason string) error {
	l.log.Warnf("%s: %s", l.param, reason)
	return fmt.Errorf("%s: %s", l.param, reason)
}

// networkPattern is an item read as a network, once.
type networkPattern struct {
	kind    networkKind
	six     bool
	pattern cidr.Pattern
	err     error // told when an address of its family is compared
}

type networkKind uint8

const (
	notNetwork networkKind = iota // a name: no address is compared with it
	isNetwork
)

// network reads text as a network if it looks like one: "[...]..." or digits
// and dots with a mask. A bare IPv4 address needs no more than a comparison.
func network(text string) networkPattern {
	n := networkPattern{six: strings.Contains(text, ":")}
	digits := strings.TrimLeft(text, "0123456789./") == ""
	if !strings.HasPrefix(text, "[") && !(digits && strings.Contains(text, "/")) {
		return n
	}
	n.kind = isNetwork
	n.pattern, n.err = cidr.ParsePattern(text)
	return n
}

func parse(o *table.Opener, param, text string, parents table.Keys) list {
	l := list{param: param, log: o.Log(), parents: parents&table.ParentDomains != 0}
	l.add(o, text, false, 0)
	return l
}

// maxFileDepth stops a file that includes itself.
const maxFileDepth = 20

func (l *list) add(o *table.Opener, text string, negated bool, depth int) {
	for _, word := range table.SplitList(text) {
		if word[0] == '#' {
			_, rest, _ := strings.Cut(text, word)
			l.log.Warnf("%s: comment at end of line is not supported: %s %s", l.param, word, strings.TrimLeft(rest, ", \t\r\n"))
			return
		}
		name := strings.TrimLeft(word, "!")
		it := item{not: negated != ((len(word)-len(name))%2 == 1)}
		switch {
		case name == "":
			l.items = append(l.items, item{table: broken{word, fmt.Errorf("%s: no pattern after '!'", l.param)}})
		case name[0] == '/':
			l.addFile(o, name, it.not, depth)
		case name[0] != '[' && strings.Contains(name, ":"):
			it.table = o.Open(name, table.FoldedKeys)
			l.items = append(l.items, it)
		default:
			it.text = strings.ToLower(name)
			it.network = network(it.text)
			l.items = append(l.items, it)
		}
	}
}

// addFile takes the items of a file, one or more a line.
func (l *list) addFile(o *table.Opener, path string, negated bool, depth int) {
	var err error
	if depth >= maxFileDepth {
		err = errors.New("file is included too deeply")
	} else {
		err = l.readFile(o, path, negated, depth)
	}
	if err != nil {
		reason := fmt.Errorf("open file %s: %s", path, strerror.Text(err))
		l.log.Errorf("%s", reason)
		l.items = append(l.items, item{table: broken{"nofile:" + path, reason}})
	}
}

func (l *list) readFile(o *table.Opener, path string, negated bool, depth int) error {
	file, err := o.OpenFile(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			l.add(o, line, negated, depth+1)
		}
	}
	return lines.Err()
}

// broken is a table in the place of an item that cannot be used.
type broken struct {
	name   string
	reason error
}

func (b broken) Lookup(context.Context, string) (string, bool, error) {
	return "", false, fmt.Errorf("%s is unavailable. %w", b.name, b.reason)
}
func (b broken) Fixed() bool  { return true }
func (b broken) Name() string { return b.name }
func (b broken) Close() error { return nil }
