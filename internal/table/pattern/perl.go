package pattern

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// perlFlags compiles a pattern of a pcre: table.
func perlFlags(pattern, letters string, warn func(string)) (*program, error) {
	set := perlOptions{fold: true, dotAll: true}
	anchored := false
	for _, c := range letters {
		switch c {
		case 'i':
			set.fold = !set.fold
		case 'm':
			set.lines = !set.lines
		case 's':
			set.dotAll = !set.dotAll
		case 'x':
			set.extended = !set.extended
		case 'A':
			anchored = !anchored
		case 'E':
			set.endOnly = !set.endOnly
		case 'U':
			set.ungreedy = !set.ungreedy
		case 'X':
			warn(`ignoring obsolete regexp option "X"`)
		default:
			return nil, fmt.Errorf("unknown regexp option \"%c\": skipping this rule", c)
		}
	}
	return compile(func(d dialect) (translated, error) {
		p := perl{source: pattern, dialect: d, set: set}
		t, err := p.translate()
		if anchored {
			t.text = `\A(?:` + t.text + `)`
		}
		return t, err
	}, firstMatch)
}

// perlOptions are what (?imsxU) changes, for the rest of a group.
type perlOptions struct {
	fold, lines, dotAll, extended, endOnly, ungreedy bool
}

// perl translates a PCRE pattern, pcre2pattern(3), as it is compiled without
// UTF and UCP.
type perl struct {
	source  string
	at      int
	dialect dialect
	set     perlOptions
	depth   int
	groups  int
	names   map[string]int
	highest int // the highest back reference, and where it stands
	refAt   int
	needs   dialect
	dollar  bool
}

// perlError is a complaint of the compiler of PCRE2.
func perlError(offset int, text string) error {
	return fmt.Errorf("error in regex at offset %d: %s", offset, text)
}

func (p *perl) fail(text string) error { return perlError(p.at, text) }

func (p *perl) translate() (translated, error) {
	p.names = map[string]int{}
	if err := p.verbs(); err != nil {
		return translated{}, err
	}
	text, err := p.alternation()
	if err == nil && p.at < len(p.source) {
		err = p.fail("unmatched closing parenthesis")
	}
	if err == nil && p.highest > p.groups {
		err = perlError(p.refAt, "reference to non-existent subpattern")
	}
	return translated{text: text, groups: p.groups, needs: p.needs, dollar: p.dollar}, err
}

// verbs skips what may stand at the start of a pattern and changes nothing here.
func (p *perl) verbs() error {
	for strings.HasPrefix(p.source[p.at:], "(*") {
		name, _, ok := strings.Cut(p.source[p.at+2:], ")")
		switch {
		case !ok:
			return nil
		case name == "UTF", name == "UTF8", name == "UCP":
			return unsupported("(*" + name + ")")
		case strings.HasPrefix(name, "NO_"), strings.HasPrefix(name, "LIMIT_"):
			p.at += len(name) + 3
		default:
			return nil
		}
	}
	return nil
}

func (p *perl) more() bool { return p.at < len(p.source) }

func (p *perl) rest() string { return p.source[p.at:] }

func (p *perl) takes(s string) bool {
	ok := strings.HasPrefix(p.rest(), s)
	if ok {
		p.at += len(s)
	}
	return ok
}

func (p *perl) alternation() (string, error) {
	var branches []string
	for {
		b, err := p.branch()
		if err != nil {
			return "", err
		}
		branches = append(branches, b)
		if !p.takes("|") {
			return strings.Join(branches, "|"), nil
		}
	}
}

// piece is what an atom is: its text and what may follow it.
type piece struct {
	text string
	kind pieceKind
}

type pieceKind uint8

const (
	repeatable pieceKind = iota
	anchor               // no quantifier may follow
	nothing              // comments and option settings
)

func (p *perl) branch() (string, error) {
	var b strings.Builder
	for {
		p.skipExtended()
		if !p.more() || p.source[p.at] == '|' || p.source[p.at] == ')' {
			return b.String(), nil
		}
		at := p.at
		item, err := p.atom()
		if err != nil {
			return "", err
		}
		p.skipExtended()
		if item.kind == repeatable {
			if item.text, err = p.repeat(item.text); err != nil {
				return "", err
			}
		}
		if p.more() && p.at > at && p.quantifierHere() && item.kind != nothing {
			return "", p.fail("quantifier does not follow a repeatable item")
		}
		b.WriteString(item.text)
	}
}

// skipExtended skips white space and comments under (?x).
func (p *perl) skipExtended() {
	for p.set.extended && p.more() {
		if c := p.source[p.at]; isSpace(c) {
			p.at++
		} else if c == '#' {
			end := strings.IndexByte(p.rest(), '\n')
			if end < 0 {
				end = len(p.rest()) - 1
			}
			p.at += end + 1
		} else {
			return
		}
	}
}

// quantifierHere: *, +, ? or {m,n} comes next.
func (p *perl) quantifierHere() bool {
	switch p.source[p.at] {
	case '*', '+', '?':
		return true
	case '{':
		_, _, end := p.interval()
		return end > 0
	}
	return false
}

// interval looks at "{m}", "{m,}" or "{m,n}". end is 0 when it is ordinary
// text. to is -1 without an upper limit.
func (p *perl) interval() (from, to, end int) {
	inside, _, ok := strings.Cut(strings.TrimPrefix(p.rest(), "{"), "}")
	if !ok {
		return 0, 0, 0
	}
	low, high, comma := strings.Cut(inside, ",")
	if low == "" || strings.Trim(low+high, "0123456789") != "" {
		return 0, 0, 0
	}
	from = count(low)
	switch {
	case !comma:
		to = from
	case high == "":
		to = -1
	default:
		to = count(high)
	}
	return from, to, len(inside) + 2
}

// maxCount is the highest number in a quantifier of PCRE.
const maxCount = 65535

func count(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil || n > maxCount {
		return maxCount + 1
	}
	return n
}

// repeat reads the quantifier behind an atom.
func (p *perl) repeat(atom string) (string, error) {
	if !p.more() {
		return atom, nil
	}
	var op string
	switch c := p.source[p.at]; c {
	case '*', '+', '?':
		op = string(rune(c))
		p.at++
	case '{':
		from, to, end := p.interval()
		if end == 0 {
			return atom, nil
		}
		if from > maxCount || to > maxCount {
			p.at += end - 1
			return "", p.fail("number too big in {} quantifier")
		}
		if to >= 0 && from > to {
			p.at += end - 1
			return "", p.fail("numbers out of order in {} quantifier")
		}
		op = p.source[p.at : p.at+end]
		p.at += end
	default:
		return atom, nil
	}
	if len(atom) > 1 {
		atom = "(?:" + atom + ")"
	}
	if p.takes("+") {
		p.needs = backtrack
		return "(?>" + atom + op + ")", nil
	}
	if p.takes("?") != p.set.ungreedy {
		op += "?"
	}
	return atom + op, nil
}

func (p *perl) atom() (piece, error) {
	c := p.source[p.at]
	switch c {
	case '(':
		return p.parenthesis()
	case '[':
		text, err := p.bracket()
		return piece{text: text}, err
	case '\\':
		return p.escape()
	case '*', '+', '?':
		return piece{}, p.fail("quantifier does not follow a repeatable item")
	case '{':
		if _, _, end := p.interval(); end > 0 {
			return piece{}, p.fail("quantifier does not follow a repeatable item")
		}
	}
	p.at++
	switch c {
	case '.':
		if p.set.dotAll {
			return piece{text: `(?s:.)`}, nil
		}
		return piece{text: `[^\n]`}, nil
	case '^':
		if p.set.lines {
			return piece{`(?m:^)`, anchor}, nil
		}
		return piece{`\A`, anchor}, nil
	case '$':
		return piece{p.end(), anchor}, nil
	}
	return piece{text: letter(c, p.set.fold)}, nil
}

// end is "$".
func (p *perl) end() string {
	switch {
	case p.set.lines:
		return `(?m:$)`
	case p.set.endOnly:
		return `\z`
	}
	return p.beforeNewline()
}

// beforeNewline is the end, or before a newline that is the end. The linear
// engine is asked only for subjects without one.
func (p *perl) beforeNewline() string {
	p.dollar = true
	if p.dialect == linear {
		return `\z`
	}
	return `(?=\n?\z)`
}

// inside reads alternatives up to the closing parenthesis. Options that are
// set inside end there.
func (p *perl) inside() (string, error) {
	if p.depth++; p.depth > maxDepth {
		return "", p.fail("parentheses are too deeply nested")
	}
	outer := p.set
	text, err := p.alternation()
	if err != nil {
		return "", err
	}
	if !p.takes(")") {
		return "", p.fail("missing closing parenthesis")
	}
	p.set = outer
	p.depth--
	return text, nil
}

// wrapped reads the inside of a group that begins with open.
func (p *perl) wrapped(open string) (piece, error) {
	text, err := p.inside()
	return piece{text: open + text + ")"}, err
}

// looking is wrapped for what only backtracking engines have.
func (p *perl) looking(open string) (piece, error) {
	p.needs = backtrack
	return p.wrapped(open)
}

func (p *perl) capture(name string) (piece, error) {
	p.groups++
	if name != "" {
		if _, known := p.names[name]; known {
			return piece{}, p.fail("two named subpatterns have the same name (PCRE2_DUPNAMES not set)")
		}
		p.names[name] = p.groups
	}
	return p.wrapped("(")
}

func (p *perl) parenthesis() (piece, error) {
	p.at++
	if strings.HasPrefix(p.rest(), "*") {
		return p.verb()
	}
	if !p.takes("?") {
		return p.capture("")
	}
	for _, g := range [...]struct{ is, open string }{
		{"=", "(?="}, {"!", "(?!"}, {"<=", "(?<="}, {"<!", "(?<!"}, {">", "(?>"},
	} {
		if p.takes(g.is) {
			return p.looking(g.open)
		}
	}
	switch {
	case p.takes("#"):
		end := strings.IndexByte(p.rest(), ')')
		if end < 0 {
			p.at = len(p.source)
			return piece{}, p.fail("missing ) after (?# comment")
		}
		p.at += end + 1
		return piece{kind: nothing}, nil
	case p.takes(":"):
		return p.wrapped("(?:")
	case p.takes("|"):
		return piece{}, unsupported("(?| branch reset")
	case p.takes("P<"), p.takes("<"):
		return p.namedGroup('>')
	case p.takes("'"):
		return p.namedGroup('\'')
	case p.takes("P="):
		name, err := p.name(')')
		if err != nil {
			return piece{}, err
		}
		return p.namedReference(name)
	case p.takes("("):
		return p.condition()
	case strings.HasPrefix(p.rest(), "C"), strings.HasPrefix(p.rest(), "R"), strings.HasPrefix(p.rest(), "&"),
		strings.HasPrefix(p.rest(), "P>"), p.isNumber():
		end := strings.IndexByte(p.rest(), ')')
		return piece{}, unsupported("(?" + p.rest()[:end+1])
	case p.takes("P"):
		if p.more() {
			return piece{}, p.fail("unrecognized character after (?P")
		}
		return piece{}, p.fail("missing closing parenthesis")
	}
	return p.options()
}

// isNumber: a call of another group, (?1) (?+1) (?-1).
func (p *perl) isNumber() bool {
	digits := strings.TrimLeft(p.rest(), "+-")
	return digits != "" && digits[0] >= '0' && digits[0] <= '9'
}

func (p *perl) verb() (piece, error) {
	end := strings.IndexByte(p.rest(), ')')
	verb := p.rest()[:end+1]
	if verb == "*FAIL)" || verb == "*F)" {
		p.at += len(verb)
		var none set
		return piece{text: none.String()}, nil
	}
	return piece{}, unsupported("(" + verb)
}

// name reads a group's name up to its end.
func (p *perl) name(end byte) (string, error) {
	start := p.at
	if p.more() && p.source[p.at] >= '0' && p.source[p.at] <= '9' {
		return "", p.fail("subpattern name must start with a non-digit")
	}
	for p.more() && (isAlnum(p.source[p.at]) || p.source[p.at] == '_') {
		p.at++
	}
	if !p.more() || p.source[p.at] != end {
		return "", p.fail("syntax error in subpattern name (missing terminator?)")
	}
	p.at++
	return p.source[start : p.at-1], nil
}

func (p *perl) namedGroup(end byte) (piece, error) {
	name, err := p.name(end)
	if err != nil {
		return piece{}, err
	}
	return p.capture(name)
}

// condition is (?(1)yes|no).
func (p *perl) condition() (piece, error) {
	inner, _, ok := strings.Cut(p.rest(), ")")
	if !ok {
		p.at = len(p.source)
		return piece{}, p.fail("missing closing parenthesis for condition")
	}
	name := strings.Trim(inner, "<>'")
	number, known := p.names[name]
	if n, err := strconv.Atoi(inner); err == nil {
		number, known = n, true
		p.at--
		p.refer(n)
		p.at++
	}
	if !known {
		return piece{}, unsupported("(?(" + inner + ")")
	}
	p.at += len(inner) + 1
	p.needs = backtrack
	return p.wrapped(fmt.Sprintf("(?(%d)", number))
}

// options reads (?imsx-imsx) and (?imsx-imsx:...).
func (p *perl) options() (piece, error) {
	set, on := p.set, true
	if p.takes("^") {
		set.fold, set.lines, set.dotAll, set.extended = false, false, false, false
	}
	for p.more() {
		c := p.source[p.at]
		p.at++
		switch c {
		case 'i':
			set.fold = on
		case 'm':
			set.lines = on
		case 's':
			set.dotAll = on
		case 'x':
			set.extended = on
		case 'U':
			set.ungreedy = on
		case 'n', 'J':
			return piece{}, unsupported("(?" + string(rune(c)))
		case '-':
			on = false
		case ')':
			p.set = set
			return piece{kind: nothing}, nil
		case ':':
			outer := p.set
			p.set = set
			group, err := p.wrapped("(?:")
			p.set = outer
			return group, err
		default:
			p.at--
			return piece{}, p.fail("unrecognized character after (? or (?-")
		}
	}
	return piece{}, p.fail("missing closing parenthesis")
}

// refer notes a reference to a group that may come later.
func (p *perl) refer(n int) {
	if n > p.highest {
		p.highest, p.refAt = n, p.at
	}
}

func (p *perl) namedReference(name string) (piece, error) {
	n, ok := p.names[name]
	if !ok {
		return piece{}, perlError(p.at-len(name)-1, "reference to non-existent subpattern")
	}
	return p.reference(n), nil
}

// reference matches what group n matched.
func (p *perl) reference(n int) piece {
	p.needs = backtrack
	p.refer(n)
	if p.set.fold {
		return piece{text: fmt.Sprintf(`(?i:\%d)`, n)}
	}
	return piece{text: fmt.Sprintf(`(?:\%d)`, n)}
}

var errEndOfPattern = errors.New(`\ at end of pattern`)
