package pattern

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The words of regerror(3) of the GNU C library.
var (
	errRepeat   = errors.New("Invalid preceding regular expression")
	errBrace    = errors.New(`Unmatched \{`)
	errInterval = errors.New(`Invalid content of \{\}`)
	errRange    = errors.New("Invalid range end")
	errClass    = errors.New("Invalid character class name")
	errBracket  = errors.New("Unmatched [, [^, [:, [., or [=")
	errParen    = errors.New(`Unmatched ( or \(`)
	errUnopened = errors.New(`Unmatched ) or \)`)
	errBackref  = errors.New("Invalid back reference")
	errTooBig   = errors.New("Regular expression too big")
	errCollate  = errors.New("Invalid collation character")
	errTrailing = errors.New("Trailing backslash")
)

// posixFlags compiles a pattern of a regexp: table. Flags toggle: case counts
// not, newline is an ordinary character, syntax is extended.
func posixFlags(pattern, letters string, _ func(string)) (*program, error) {
	fold, lines, extended := true, false, true
	for _, c := range letters {
		switch c {
		case 'i':
			fold = !fold
		case 'm':
			lines = !lines
		case 'x':
			extended = !extended
		default:
			return nil, fmt.Errorf("unknown regexp option \"%c\": skipping this rule", c)
		}
	}
	return compile(func(d dialect) (translated, error) {
		p := posix{source: pattern, dialect: d, fold: fold, lines: lines, basic: !extended}
		return p.translate()
	}, longestMatch)
}

// posix translates a POSIX regular expression with the extensions of GNU:
// regex(7), and \w \W \s \S \b \B \< \> \` \' and back references.
type posix struct {
	source  string
	at      int
	dialect dialect
	fold    bool // ignore case
	lines   bool // REG_NEWLINE
	basic   bool // basic syntax: \( \) \{ \} \| are the operators
	depth   int
	groups  int
	closed  map[int]bool // groups that a back reference may name
	needs   dialect
}

// maxDepth bounds nested parentheses.
const maxDepth = 250

func (p *posix) translate() (translated, error) {
	p.closed = map[int]bool{}
	text, err := p.alternation()
	if err == nil && p.at < len(p.source) {
		err = errUnopened
	}
	return translated{text: text, groups: p.groups, needs: p.needs}, err
}

// operator reports whether the operator c comes next, and its length.
func (p *posix) operator(c byte) (length int, ok bool) {
	rest := p.source[p.at:]
	if p.basic {
		return 2, len(rest) > 1 && rest[0] == '\\' && rest[1] == c
	}
	return 1, rest != "" && rest[0] == c
}

func (p *posix) takes(c byte) bool {
	n, ok := p.operator(c)
	if ok {
		p.at += n
	}
	return ok
}

func (p *posix) alternation() (string, error) {
	var branches []string
	for {
		b, err := p.branch()
		if err != nil {
			return "", err
		}
		branches = append(branches, b)
		if !p.takes('|') {
			return strings.Join(branches, "|"), nil
		}
	}
}

func (p *posix) branch() (string, error) {
	var b strings.Builder
	anchored := true // nothing here yet that could be repeated
	for p.at < len(p.source) {
		if _, bar := p.operator('|'); bar {
			break
		}
		// An unmatched ")" is an ordinary character in extended syntax.
		if _, closing := p.operator(')'); closing && (p.depth > 0 || p.basic) {
			break
		}
		atom, anchor, err := p.atom(anchored)
		if err != nil {
			return "", err
		}
		if !anchor {
			if atom, err = p.repeats(atom); err != nil {
				return "", err
			}
		}
		anchored = anchor
		b.WriteString(atom)
	}
	return b.String(), nil
}

// repeats reads the operators behind an atom; there may be several.
func (p *posix) repeats(atom string) (string, error) {
	for n := 0; p.at < len(p.source); n++ {
		var op string
		switch c := p.source[p.at]; {
		case c == '*':
			op = "*"
			p.at++
		case p.takes('+'):
			op = "+"
		case p.takes('?'):
			op = "?"
		case p.takes('{'):
			var err error
			if op, err = p.interval(); err != nil {
				return "", err
			}
		default:
			return atom, nil
		}
		if n > 0 || len(atom) > 1 {
			atom = "(?:" + atom + ")"
		}
		atom += op
	}
	return atom, nil
}

// maxRepeat is RE_DUP_MAX of the GNU C library.
const maxRepeat = 0x7fff

// interval reads "m}", "m,}", ",n}" or "m,n}".
func (p *posix) interval() (string, error) {
	from, hasFrom := p.number()
	to, hasTo := from, hasFrom
	comma := p.at < len(p.source) && p.source[p.at] == ','
	if comma {
		p.at++
		to, hasTo = p.number()
	}
	if !p.takes('}') {
		if !strings.Contains(p.source[p.at:], "}") {
			return "", errBrace
		}
		return "", errInterval
	}
	if !hasFrom && !comma || hasFrom && hasTo && from > to {
		return "", errInterval
	}
	if from > maxRepeat || to > maxRepeat {
		return "", errTooBig
	}
	switch {
	case comma && !hasTo:
		return fmt.Sprintf("{%d,}", from), nil
	case comma:
		return fmt.Sprintf("{%d,%d}", from, to), nil
	}
	return fmt.Sprintf("{%d}", from), nil
}

func (p *posix) number() (n int, ok bool) {
	start := p.at
	for p.at < len(p.source) && p.source[p.at] >= '0' && p.source[p.at] <= '9' {
		p.at++
	}
	n, err := strconv.Atoi(p.source[start:p.at])
	if p.at-start > 9 {
		return maxRepeat + 1, true
	}
	return n, err == nil
}

// atom reads one thing that can be repeated, or an anchor, which cannot.
// first: it is the first of a branch or follows an anchor.
func (p *posix) atom(first bool) (text string, anchor bool, err error) {
	if n, ok := p.operator('('); ok {
		p.at += n
		text, err = p.group()
		return text, false, err
	}
	if first && p.repeatHere() {
		return "", false, errRepeat
	}
	c := p.source[p.at]
	p.at++
	switch c {
	case '\\':
		return p.escape()
	case '[':
		text, err = p.bracket()
		return text, false, err
	case '.':
		if p.lines {
			return `[^\n]`, false, nil
		}
		return `(?s:.)`, false, nil
	case '^':
		if !p.basic || first {
			return p.anchor('^'), true, nil
		}
	case '$':
		if !p.basic || p.branchEnds() {
			return p.anchor('$'), true, nil
		}
	}
	return letter(c, p.fold), false, nil
}

// repeatHere: an operator with nothing before it, an error in extended syntax.
func (p *posix) repeatHere() bool {
	if p.basic {
		return false
	}
	return strings.IndexByte("*+?{", p.source[p.at]) >= 0
}

func (p *posix) branchEnds() bool {
	_, closing := p.operator(')')
	_, bar := p.operator('|')
	return p.at >= len(p.source) || closing || bar
}

func (p *posix) anchor(c byte) string {
	switch {
	case p.lines:
		return "(?m:" + string(rune(c)) + ")"
	case c == '^':
		return `\A`
	}
	return `\z`
}

func (p *posix) group() (string, error) {
	if p.depth++; p.depth > maxDepth {
		return "", errTooBig
	}
	p.groups++
	number := p.groups
	text, err := p.alternation()
	if err != nil {
		return "", err
	}
	if !p.takes(')') {
		return "", errParen
	}
	p.depth--
	p.closed[number] = true
	return "(" + text + ")", nil
}

func (p *posix) escape() (text string, anchor bool, err error) {
	if p.at >= len(p.source) {
		return "", false, errTrailing
	}
	c := p.source[p.at]
	p.at++
	switch c {
	case 'w', 'W', 's', 'S':
		return perlSet(c).String(), false, nil
	case 'b', 'B', '<', '>', '`', '\'':
		return p.gnuAnchor(c), true, nil
	}
	if p.fold && c >= 'a' && c <= 'z' {
		// The GNU C library compares with the subject in upper case, but
		// does not raise a letter behind a backslash: it never matches.
		var none set
		return none.String(), false, nil
	}
	if c < '1' || c > '9' {
		return letter(c, p.fold), false, nil
	}
	if !p.closed[int(c-'0')] {
		return "", false, errBackref
	}
	p.needs = backtrack
	if p.fold {
		return `(?i:\` + string(rune(c)) + `)`, false, nil
	}
	return `(?:\` + string(rune(c)) + `)`, false, nil
}

// gnuAnchor is an anchor that is written with a backslash.
func (p *posix) gnuAnchor(c byte) string {
	switch c {
	case '`':
		return `\A`
	case '\'':
		return `\z`
	case 'b', 'B':
		if p.dialect == linear {
			return `\` + string(rune(c))
		}
		return boundary(c)
	}
	p.needs = backtrack
	w := wordSet().String()
	if c == '<' {
		return "(?<!" + w + ")(?=" + w + ")"
	}
	return "(?<=" + w + ")(?!" + w + ")"
}

// boundary is \b or \B for the engine that would take letters beyond ASCII
// for word characters.
func boundary(c byte) string {
	w := wordSet().String()
	if c == 'b' {
		return "(?:(?<=" + w + ")(?!" + w + ")|(?<!" + w + ")(?=" + w + "))"
	}
	return "(?:(?<=" + w + ")(?=" + w + ")|(?<!" + w + ")(?!" + w + "))"
}

// perlSet is the set of \w \d \s \h \v, or of the capital letters what is not
// in it; nil for other letters.
func perlSet(c byte) *set {
	var s set
	switch c | 0x20 {
	case 'w':
		s = *wordSet()
	case 'd':
		s = *class("digit")
	case 's':
		s = *class("space")
	case 'h':
		s.add(' ')
		s.add('\t')
		s.add(0xa0)
	case 'v':
		s.addRange('\n', '\r')
		s.add(0x85)
	default:
		return nil
	}
	if c < 'a' {
		s.invert()
	}
	return &s
}

// bracket reads "[...]" behind its "[". Backslashes are ordinary.
func (p *posix) bracket() (string, error) {
	var s set
	not := p.at < len(p.source) && p.source[p.at] == '^'
	if not {
		p.at++
	}
	for start := p.at; ; {
		if p.at >= len(p.source) {
			return "", errBracket
		}
		if p.source[p.at] == ']' && p.at > start {
			p.at++
			break
		}
		// A hyphen stands for itself only at either end.
		if strings.HasPrefix(p.source[p.at:], "-") && p.at > start && !strings.HasPrefix(p.source[p.at:], "-]") {
			return "", errRange
		}
		if err := p.bracketItem(&s); err != nil {
			return "", err
		}
	}
	if p.fold {
		s.fold()
	}
	if not {
		s.invert()
		if p.lines {
			s['\n'] = false
		}
	}
	return s.String(), nil
}

// bracketItem reads a class, a character or a range.
func (p *posix) bracketItem(s *set) error {
	if strings.HasPrefix(p.source[p.at:], "[:") {
		name, err := p.named(':')
		if err != nil {
			return err
		}
		c := class(name)
		if c == nil {
			return errClass
		}
		s.addAll(c)
		return nil
	}
	from, err := p.bracketChar()
	if err != nil {
		return err
	}
	rest := p.source[p.at:]
	if len(rest) < 2 || rest[0] != '-' || rest[1] == ']' {
		s.add(from)
		return nil
	}
	p.at++
	to, err := p.bracketChar()
	if err != nil {
		return err
	}
	if from > to {
		return errRange
	}
	s.addRange(from, to)
	return nil
}

// bracketChar reads one character, perhaps as [.c.] or [=c=].
func (p *posix) bracketChar() (byte, error) {
	rest := p.source[p.at:]
	if strings.HasPrefix(rest, "[.") || strings.HasPrefix(rest, "[=") {
		name, err := p.named(rest[1])
		if err == nil && len(name) != 1 {
			err = errCollate
		}
		if err != nil {
			return 0, err
		}
		return name[0], nil
	}
	p.at++
	return rest[0], nil
}

func (p *posix) named(kind byte) (string, error) {
	name, _, ok := strings.Cut(p.source[p.at+2:], string(rune(kind))+"]")
	if !ok {
		return "", errBracket
	}
	p.at += len(name) + 4
	return name, nil
}
