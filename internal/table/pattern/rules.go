// Package pattern is the regexp: and pcre: tables, see regexp_table(5) and
// pcre_table(5).
//
// Patterns are POSIX's and PCRE's in the C locale, on bytes, translated for
// Go's engines: for the linear one where that can be, and else for a
// backtracking one with a time limit. A match that reaches the limit, and a
// rule whose pattern uses what no engine here has, are lookup errors: a rule
// is never passed over in silence. Rules that Postfix skips with a warning are
// skipped with that warning.
package pattern

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

var errLimit = errors.New("match limit exceeded")

// Regexp opens regexp:file or regexp:{ {rule}, ... }.
func Regexp(o *table.Opener, name string, use table.Use) (table.Table, error) {
	return open(o, kind{"regexp", posixFlags, "skipping"}, name, use)
}

// PCRE opens pcre:file or pcre:{ {rule}, ... }.
func PCRE(o *table.Opener, name string, use table.Use) (table.Table, error) {
	return open(o, kind{"pcre", perlFlags, "ignoring"}, name, use)
}

// kind is what the two types differ in.
type kind struct {
	name string
	// flags reads the letters behind a pattern and returns how to compile it.
	flags func(pattern, letters string, warn func(string)) (*program, error)
	// unclosed is the word for what happens to a rule without a second delimiter.
	unclosed string
}

func open(o *table.Opener, k kind, name string, use table.Use) (table.Table, error) {
	rules, err := text.Follow(o, k.name, name, func(lines *text.Lines) ([]rule, error) {
		p := parser{kind: k, log: o.Log(), name: name, use: use}
		return p.parse(lines)
	})
	if err != nil {
		return nil, err
	}
	return &patterns{k.name, name, rules.Get, rules.OwnerID}, nil
}

// patterns is a table of rules.
type patterns struct {
	kind, name string
	rules      func() []rule
	owner      func() (int, bool)
}

func (p *patterns) Fixed() bool  { return false }
func (p *patterns) Name() string { return p.kind + ":" + p.name }
func (p *patterns) Close() error { return nil }

// OwnerID implements table.Owner.
func (p *patterns) OwnerID() (int, bool) { return p.owner() }

// rule is one or two patterns with a result, or with endif > 0 an IF block up
// to before rule number endif.
type rule struct {
	line  int
	tests []test
	value template
	endif int
}

// test is a pattern and whether it must match.
type test struct {
	program *program
	not     bool
	broken  error // the pattern cannot be used
}

// Lookup implements table.Table.
func (p *patterns) Lookup(_ context.Context, key string) (string, bool, error) {
	s := newSubject(key)
	rules := p.rules()
	for i := 0; i < len(rules); i++ {
		r := &rules[i]
		groups, matches, err := r.match(s)
		if err != nil {
			return "", false, fmt.Errorf("%s map %s, line %d: %w", p.kind, p.name, r.line, err)
		}
		switch {
		case r.endif > 0 && !matches:
			i = r.endif - 1
		case r.endif == 0 && matches:
			return r.value.expand(groups), true, nil
		}
	}
	return "", false, nil
}

func (r *rule) match(s subject) (groups []string, ok bool, err error) {
	for i, t := range r.tests {
		if t.broken != nil {
			return nil, false, t.broken
		}
		want := noGroups
		if i == 0 && r.value.max > 0 {
			want = allGroups
		}
		g, ok, err := t.program.match(s, want)
		if err != nil || ok == t.not {
			return nil, false, err
		}
		if i == 0 {
			groups = g
		}
	}
	return groups, true, nil
}

// parser reads the lines of a table.
type parser struct {
	kind  kind
	log   *maillog.Logger
	name  string
	use   table.Use
	rules []rule
	open  []int // IF rules without an ENDIF yet
	line  int
}

func (p *parser) where() string {
	return fmt.Sprintf("%s map %s, line %d: ", p.kind.name, p.name, p.line)
}

func (p *parser) warn(text string) { p.log.Warnf("%s%s", p.where(), text) }

func (p *parser) parse(lines *text.Lines) ([]rule, error) {
	for lines.Next() {
		p.line = lines.Line()
		line := strings.Trim(lines.Text(), space)
		if line == "" {
			continue
		}
		if err := p.statement(line); err != nil {
			p.warn(err.Error())
		}
	}
	for i := len(p.open) - 1; i >= 0; i-- {
		block := &p.rules[p.open[i]]
		p.line = block.line
		p.warn("IF has no matching ENDIF")
		block.endif = len(p.rules)
	}
	return p.rules, lines.Err()
}

// statement reads one logical line. Its error is a complaint; the line is left out.
func (p *parser) statement(line string) error {
	if !isAlnum(line[0]) {
		return p.rule(line)
	}
	if rest, ok := keyword(line, "IF"); ok {
		return p.block(rest)
	}
	if rest, ok := keyword(line, "ENDIF"); ok {
		if rest != "" {
			p.warn("ignoring extra text after ENDIF")
		}
		last := len(p.open) - 1
		if last < 0 {
			return errors.New("ignoring ENDIF without matching IF")
		}
		p.rules[p.open[last]].endif = len(p.rules)
		p.open = p.open[:last]
		return nil
	}
	return errors.New("ignoring unrecognized request")
}

// keyword takes a word off that no letter or digit may follow.
func keyword(line, word string) (rest string, ok bool) {
	if len(line) < len(word) || !strings.EqualFold(line[:len(word)], word) {
		return "", false
	}
	rest = line[len(word):]
	if rest != "" && isAlnum(rest[0]) {
		return "", false
	}
	return strings.TrimLeft(rest, space), true
}

// block begins an IF.
func (p *parser) block(rest string) error {
	source, rest, err := p.pattern(rest)
	if err != nil {
		return err
	}
	if rest = strings.TrimLeft(rest, space); rest != "" {
		p.warn(fmt.Sprintf("ignoring extra text after IF statement: \"%s\"", rest))
		p.warn("do not prepend whitespace to statements between IF and ENDIF")
	}
	t, err := p.compile(source)
	if err != nil {
		return err
	}
	p.open = append(p.open, len(p.rules))
	p.rules = append(p.rules, rule{line: p.line, tests: []test{t}, endif: -1})
	return nil
}

// rule reads "/pattern/flags result", and for regexp: also
// "/pattern1/!/pattern2/ result".
func (p *parser) rule(line string) error {
	first, rest, err := p.pattern(line)
	if err != nil {
		return err
	}
	sources := []source{first}
	if p.kind.name == "regexp" && strings.HasPrefix(rest, "!") {
		second, after, err := p.pattern(rest)
		if err != nil {
			return err
		}
		sources, rest = append(sources, second), after
	}
	result := strings.TrimLeft(rest, space)
	if result == "" {
		p.warn("no replacement text: using empty string")
	}
	r := rule{line: p.line}
	if r.value, err = parseTemplate(p.log, p.where(), result); err != nil {
		return err
	}
	if r.value.max > 0 && first.not {
		return errors.New("$number found in negative match replacement text: skipping this rule")
	}
	if r.value.max > 0 && p.use.NoSubstitution {
		return errors.New("regular expression substitution is not allowed: skipping this rule")
	}
	for _, s := range sources {
		t, err := p.compile(s)
		if err != nil {
			return err
		}
		r.tests = append(r.tests, t)
	}
	if t := r.tests[0]; t.program != nil && r.value.max > t.program.groups {
		return fmt.Errorf("out of range replacement index \"%d\": skipping this rule", r.value.max)
	}
	p.rules = append(p.rules, r)
	return nil
}

// source is a pattern as it was written.
type source struct {
	text, flags string
	not         bool
}

// pattern reads "!/pattern/flags".
func (p *parser) pattern(s string) (src source, rest string, err error) {
	for strings.HasPrefix(s, "!") {
		src.not = !src.not
		s = s[1:]
	}
	s = strings.TrimLeft(s, space)
	if s == "" {
		return src, "", errors.New("no regexp: skipping this rule")
	}
	end := 1
	for end < len(s) && s[end] != s[0] {
		if s[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(s) {
		return src, "", fmt.Errorf("no closing regexp delimiter \"%c\": %s this rule", s[0], p.kind.unclosed)
	}
	src.text, s = s[1:end], s[end+1:]
	stop := space
	if p.kind.name == "regexp" {
		stop += "!"
	}
	n := strings.IndexAny(s, stop)
	if n < 0 {
		n = len(s)
	}
	src.flags = s[:n]
	return src, s[n:], nil
}

// compile makes a test. A pattern that no engine here can do is no error: the
// test is broken, and lookups that come to it fail.
func (p *parser) compile(s source) (test, error) {
	prog, err := p.kind.flags(s.text, s.flags, p.warn)
	var missing unsupported
	if errors.As(err, &missing) {
		p.warn(fmt.Sprintf("%s: lookups that reach this rule will fail", missing))
		return test{not: s.not, broken: missing}, nil
	}
	return test{program: prog, not: s.not}, err
}

// unsupported is a construct of PCRE that is not translated.
type unsupported string

func (u unsupported) Error() string { return "unsupported in patterns: " + string(u) }
