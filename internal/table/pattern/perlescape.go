package pattern

import (
	"strconv"
	"strings"
	"unicode"
)

// escape reads "\..." outside of a class.
func (p *perl) escape() (piece, error) {
	p.at++
	if !p.more() {
		return piece{}, perlError(p.at, errEndOfPattern.Error())
	}
	c := p.source[p.at]
	switch c {
	case 'Q':
		p.at++
		return p.quoted(), nil
	case 'E':
		p.at++
		return piece{kind: nothing}, nil
	case 'A':
		p.at++
		return piece{`\A`, anchor}, nil
	case 'z':
		p.at++
		return piece{`\z`, anchor}, nil
	case 'Z':
		p.at++
		return piece{p.beforeNewline(), anchor}, nil
	case 'b', 'B':
		p.at++
		if p.dialect == linear {
			return piece{`\` + string(rune(c)), anchor}, nil
		}
		return piece{boundary(c), anchor}, nil
	case 'R':
		p.at++
		p.needs = backtrack
		return piece{text: `(?>\r\n|[\x0a-\x0d\x85])`}, nil
	case 'N':
		if !strings.HasPrefix(p.rest(), "N{") {
			p.at++
			return piece{text: `[^\n]`}, nil
		}
	case 'K', 'G', 'X', 'C':
		return piece{}, unsupported(`\` + string(rune(c)))
	case 'k', 'g':
		return p.escapedReference(c)
	}
	if c >= '1' && c <= '9' {
		if n, digits := p.decimal(); n < 10 || n <= p.groups {
			p.at += digits
			r := p.reference(n)
			if p.refAt == p.at {
				p.refAt -= digits
			}
			return r, nil
		}
	}
	if s := perlSet(c); s != nil {
		p.at++
		return piece{text: s.String()}, nil
	}
	if c == 'p' || c == 'P' {
		s, err := p.property()
		if err != nil {
			return piece{}, err
		}
		return piece{text: s.String()}, nil
	}
	b, err := p.character()
	if err != nil {
		return piece{}, err
	}
	return piece{text: letter(b, p.set.fold)}, nil
}

// quoted reads \Q...\E as text. A quantifier behind it is for its last byte.
func (p *perl) quoted() piece {
	text, _, closed := strings.Cut(p.rest(), `\E`)
	p.at += len(text)
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if i == len(text)-1 && closed {
			break
		}
		b.WriteString(letter(text[i], p.set.fold))
	}
	if !closed || text == "" {
		if closed {
			p.at += len(`\E`)
		}
		return piece{b.String(), nothing}
	}
	p.at += len(`\E`)
	last := letter(text[len(text)-1], p.set.fold)
	if repeated, err := p.repeat(last); err == nil {
		last = repeated
	}
	return piece{b.String() + last, nothing}
}

func (p *perl) decimal() (n, digits int) {
	rest := p.rest()
	for digits < len(rest) && digits < 5 && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	n, _ = strconv.Atoi(rest[:digits])
	return n, digits
}

// escapedReference reads \g1 \g{1} \g{-1} \g{name} \k<name> \k'name' \k{name}.
func (p *perl) escapedReference(c byte) (piece, error) {
	p.at++
	closing := map[byte]byte{'{': '}', '<': '>', '\'': '\''}
	end := byte(0)
	if p.more() {
		end = closing[p.source[p.at]]
	}
	if c == 'g' && (end == '>' || end == '\'') {
		return piece{}, unsupported(`\g<name>`)
	}
	if end == 0 {
		n, digits := p.decimal()
		if c == 'k' || digits == 0 {
			return piece{}, p.fail(`\k is not followed by a braced, angle-bracketed, or quoted name`)
		}
		r := p.reference(n)
		p.at += digits
		return r, nil
	}
	p.at++
	inside, _, ok := strings.Cut(p.rest(), string(rune(end)))
	if !ok {
		return piece{}, p.fail("syntax error in subpattern name (missing terminator?)")
	}
	p.at += len(inside) + 1
	if n, err := strconv.Atoi(inside); err == nil && c == 'g' {
		if n < 0 {
			n += p.groups + 1
		}
		if n < 1 {
			return piece{}, p.fail("reference to non-existent subpattern")
		}
		p.at--
		r := p.reference(n)
		p.at++
		return r, nil
	}
	return p.namedReference(inside)
}

// property reads \pL, \p{L}, \P{^Lu}: Unicode's properties of the first 256
// characters.
func (p *perl) property() (*set, error) {
	not := p.source[p.at] == 'P'
	p.at++
	name := ""
	switch {
	case p.takes("{"):
		inside, _, ok := strings.Cut(p.rest(), "}")
		if !ok {
			return nil, p.fail(`malformed \P or \p sequence`)
		}
		name = inside
		p.at += len(inside) + 1
	case p.more():
		name = p.source[p.at : p.at+1]
		p.at++
	}
	if strings.HasPrefix(name, "^") {
		not, name = !not, name[1:]
	}
	table := unicode.Categories[name]
	if table == nil {
		table = unicode.Scripts[name]
	}
	if table == nil && name != "Any" {
		return nil, p.fail(`unknown property after \P or \p`)
	}
	var s set
	for c := range s {
		s[c] = table == nil || unicode.Is(table, rune(c))
	}
	if not {
		s.invert()
	}
	return &s, nil
}

// simple are the escapes of one byte.
var simple = map[byte]byte{'a': 7, 'e': 27, 'f': 12, 'n': 10, 'r': 13, 't': 9}

// character reads the escape of one byte; p.at is behind the backslash.
func (p *perl) character() (byte, error) {
	c := p.source[p.at]
	if b, ok := simple[c]; ok {
		p.at++
		return b, nil
	}
	switch {
	case c == 'x':
		return p.hex()
	case c == 'o' && strings.HasPrefix(p.rest(), "o{"):
		return p.braced(8)
	case c >= '0' && c <= '7':
		n := 0
		for i := 0; i < 3 && p.more() && p.source[p.at] >= '0' && p.source[p.at] <= '7'; i++ {
			n = n*8 + int(p.source[p.at]-'0')
			p.at++
		}
		if n > 255 {
			return 0, p.fail(`octal value is greater than \377 in 8-bit non-UTF-8 mode`)
		}
		return byte(n), nil
	case c == 'c':
		p.at++
		if !p.more() {
			return 0, p.fail(`\c at end of pattern`)
		}
		b := p.source[p.at]
		if b >= 'a' && b <= 'z' {
			b -= 0x20
		}
		p.at++
		return b ^ 0x40, nil
	case strings.IndexByte("FLlNUu", c) >= 0:
		p.at++
		return 0, p.fail(`PCRE2 does not support \F, \L, \l, \N{name}, \U, or \u`)
	case isAlnum(c):
		return 0, p.fail(`unrecognized character follows \`)
	}
	p.at++
	return c, nil
}

// hex reads x41, x4 or x{41}.
func (p *perl) hex() (byte, error) {
	if strings.HasPrefix(p.rest(), "x{") {
		return p.braced(16)
	}
	p.at++
	n := 0
	for i := 0; i < 2 && p.more(); i++ {
		digit, err := strconv.ParseUint(p.source[p.at:p.at+1], 16, 8)
		if err != nil {
			break
		}
		n = n*16 + int(digit)
		p.at++
	}
	return byte(n), nil
}

// braced reads x{41} or o{101}.
func (p *perl) braced(base int) (byte, error) {
	inside, _, ok := strings.Cut(p.source[p.at+2:], "}")
	n, err := strconv.ParseUint(strings.TrimSpace(inside), base, 32)
	if !ok || err != nil {
		return 0, p.fail("non-hex character in \\x{} (closing brace missing?)")
	}
	p.at += len(inside) + 3
	if n > 255 {
		return 0, p.fail(`character code point value in \x{} or \o{} is too large`)
	}
	return byte(n), nil
}

// bracket reads a class.
func (p *perl) bracket() (string, error) {
	p.at++
	not := p.takes("^")
	c := classReader{perl: p}
	for start := p.at; ; {
		if !p.more() {
			return "", p.fail("missing terminating ] for character class")
		}
		if !c.quote && p.source[p.at] == ']' && p.at > start {
			p.at++
			break
		}
		if p.takes(`\E`) || !c.quote && p.takes(`\Q`) {
			c.quote = strings.HasSuffix(p.source[:p.at], "Q")
			if start == p.at-2 {
				start = p.at // a "]" may still come first
			}
			continue
		}
		if err := c.item(); err != nil {
			return "", err
		}
	}
	if p.set.fold {
		c.set.fold()
	}
	if not {
		c.set.invert()
	}
	return c.set.String(), nil
}

// classReader reads what is between brackets.
type classReader struct {
	*perl
	set   set
	quote bool // inside \Q...\E
}

// item reads a byte, a range or a class.
func (c *classReader) item() error {
	from, s, err := c.element()
	if err != nil {
		return err
	}
	if s != nil {
		c.set.addAll(s)
	}
	rest := c.rest()
	if c.quote || len(rest) < 2 || rest[0] != '-' || rest[1] == ']' {
		if s == nil {
			c.set.add(byte(from))
		}
		return nil
	}
	if s != nil {
		return c.fail("invalid range in character class")
	}
	c.at++
	to, s, err := c.element()
	if err != nil {
		return err
	}
	if s != nil {
		return c.fail("invalid range in character class")
	}
	if to < from {
		return perlError(c.at-1, "range out of order in character class")
	}
	c.set.addRange(byte(from), byte(to))
	return nil
}

// element reads one byte, or a set.
func (c *classReader) element() (int, *set, error) {
	b := c.source[c.at]
	if c.quote {
		c.at++
		return int(b), nil, nil
	}
	if b == '[' {
		if s, ok, err := c.posixClass(); ok || err != nil {
			return -1, s, err
		}
	}
	if b != '\\' {
		c.at++
		return int(b), nil, nil
	}
	c.at++
	if !c.more() {
		return -1, nil, c.fail(errEndOfPattern.Error())
	}
	b = c.source[c.at]
	switch {
	case b == 'b':
		c.at++
		return 8, nil, nil
	case b == 'p', b == 'P':
		s, err := c.property()
		return -1, s, err
	case b == '8', b == '9':
		c.at++
		return int(b), nil, nil
	}
	if s := perlSet(b); s != nil {
		c.at++
		return -1, s, nil
	}
	char, err := c.character()
	return int(char), nil, err
}

// posixClass reads [:name:] or [:^name:].
func (c *classReader) posixClass() (*set, bool, error) {
	rest := c.rest()
	if len(rest) < 2 || strings.IndexByte(":.=", rest[1]) < 0 {
		return nil, false, nil
	}
	inside, _, ok := strings.Cut(rest[2:], rest[1:2]+"]")
	if !ok || strings.ContainsAny(inside, `]\`) {
		return nil, false, nil
	}
	if rest[1] != ':' {
		return nil, false, c.fail("POSIX collating elements are not supported")
	}
	name, not := strings.CutPrefix(inside, "^")
	s := class(name)
	if name == "word" {
		s = wordSet()
	}
	if s == nil {
		return nil, false, perlError(c.at+2, "unknown POSIX class name")
	}
	c.at += len(inside) + 4
	if not {
		s.invert()
	}
	return s, true, nil
}
