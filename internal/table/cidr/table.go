package cidr

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

// Table opens cidr:file or cidr:{ {rule}, {rule} }, see cidr_table(5).
func Table(o *table.Opener, name string, use table.Use) (table.Table, error) {
	rules, err := text.Follow(o, "cidr", name, func(lines *text.Lines) ([]rule, error) {
		return parseRules(o.Log(), name, lines)
	})
	if err != nil {
		return nil, err
	}
	return &networks{"cidr:" + name, rules.Get, rules.OwnerID}, nil
}

type networks struct {
	name  string
	rules func() []rule
	owner func() (int, bool)
}

func (n *networks) Fixed() bool  { return false }
func (n *networks) Name() string { return n.name }
func (n *networks) Close() error { return nil }

// OwnerID implements table.Owner.
func (n *networks) OwnerID() (int, bool) { return n.owner() }

// Lookup implements table.Table. A key that is no address is not found.
func (n *networks) Lookup(_ context.Context, key string) (string, bool, error) {
	ip, err := netip.ParseAddr(key)
	if err != nil || ip.Zone() != "" {
		return "", false, nil
	}
	rules := n.rules()
	for i := 0; i < len(rules); i++ {
		r := &rules[i]
		matches := r.pattern.sameFamily(ip) && r.pattern.Contains(ip) != r.not
		switch {
		case r.endif > 0 && !matches:
			i = r.endif - 1
		case r.endif == 0 && matches:
			return r.value, true, nil
		}
	}
	return "", false, nil
}

// rule is a pattern with a result, or with endif > 0, an IF block that ends
// before rule number endif.
type rule struct {
	pattern Pattern
	not     bool
	value   string
	endif   int
}

// blocks keeps track of IF and ENDIF while rules are read.
type blocks struct {
	rules []rule
	open  []int // rules that are IF without an ENDIF yet
	lines []int // and where they stand
}

func parseRules(log *maillog.Logger, name string, lines *text.Lines) ([]rule, error) {
	var b blocks
	for lines.Next() {
		if err := b.parse(lines.Text(), lines.Line()); err != nil {
			log.Warnf("cidr map %s, line %d: %s: skipping this rule", name, lines.Line(), err)
		}
	}
	for i := len(b.open) - 1; i >= 0; i-- {
		log.Warnf("cidr map %s, line %d: IF has no matching ENDIF", name, b.lines[i])
		b.rules[b.open[i]].endif = len(b.rules)
	}
	return b.rules, lines.Err()
}

const space = " \t\n\v\f\r"

func (b *blocks) parse(line string, number int) error {
	line = strings.Trim(line, space)
	if rest, ok := keyword(line, "IF"); ok {
		not, rest := negated(rest)
		pattern, err := parsePattern(rest)
		if err != nil {
			return err
		}
		b.open = append(b.open, len(b.rules))
		b.lines = append(b.lines, number)
		b.rules = append(b.rules, rule{pattern: pattern, not: not, endif: -1})
		return nil
	}
	if rest, ok := keyword(line, "ENDIF"); ok {
		return b.endif(rest)
	}
	not, rest := negated(line)
	end := strings.IndexAny(rest, space)
	if end < 0 {
		end = len(rest)
	}
	value := strings.TrimLeft(rest[end:], space)
	pattern, err := parsePattern(rest[:end])
	if err != nil {
		return err
	}
	if value == "" {
		return errors.New("no lookup result")
	}
	b.rules = append(b.rules, rule{pattern: pattern, not: not, value: value})
	return nil
}

func (b *blocks) endif(rest string) error {
	if rest != "" {
		return errors.New("garbage after ENDIF")
	}
	last := len(b.open) - 1
	if last < 0 {
		return errors.New("ENDIF without IF")
	}
	b.rules[b.open[last]].endif = len(b.rules)
	b.open, b.lines = b.open[:last], b.lines[:last]
	return nil
}

func parsePattern(s string) (Pattern, error) {
	if s == "" {
		return Pattern{}, fmt.Errorf("no address pattern")
	}
	return ParsePattern(s)
}

// keyword takes a word off that no letter or digit may follow.
func keyword(line, word string) (rest string, ok bool) {
	if len(line) < len(word) || !strings.EqualFold(line[:len(word)], word) {
		return "", false
	}
	rest = line[len(word):]
	if rest != "" && (rest[0] >= '0' && rest[0] <= '9' || rest[0]|0x20 >= 'a' && rest[0]|0x20 <= 'z') {
		return "", false
	}
	return strings.TrimLeft(rest, space), true
}

// negated takes "!" off, each of which turns the sense around.
func negated(s string) (not bool, rest string) {
	for strings.HasPrefix(s, "!") {
		not = !not
		s = strings.TrimLeft(s[1:], space)
	}
	return not, s
}
