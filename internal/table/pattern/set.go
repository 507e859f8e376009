package pattern

import (
	"fmt"
	"strings"
)

// Patterns are about bytes, as they are in Postfix, where both libraries work
// in the C locale. Go's engines are about runes. So a byte is written as the
// rune of the same number, in the pattern and, when it is not ASCII, in the
// subject (see wide).

// set is a set of bytes.
type set [256]bool

func (s *set) add(c byte) { s[c] = true }

func (s *set) addRange(from, to byte) {
	for c := int(from); c <= int(to); c++ {
		s[c] = true
	}
}

func (s *set) addAll(o *set) {
	for c, in := range o {
		s[c] = s[c] || in
	}
}

// fold adds the other case of every letter.
func (s *set) fold() {
	for c := byte('a'); c <= 'z'; c++ {
		both := s[c] || s[c-0x20]
		s[c], s[c-0x20] = both, both
	}
}

func (s *set) invert() {
	for c := range s {
		s[c] = !s[c]
	}
}

// String writes the set as a class that every engine understands.
func (s *set) String() string {
	var b strings.Builder
	n, last := 0, 0
	for c := 0; c < 256; c++ {
		if !s[c] {
			continue
		}
		end := c
		for end+1 < 256 && s[end+1] {
			end++
		}
		fmt.Fprintf(&b, `\x%02x`, c)
		if end > c {
			fmt.Fprintf(&b, `-\x%02x`, end)
		}
		n, last = n+end-c+1, c
		c = end
	}
	switch n {
	case 0:
		return `[^\x00-\xff]`
	case 1:
		return literal(byte(last))
	case 256:
		return `(?s:.)`
	}
	return "[" + b.String() + "]"
}

// literal is one byte as a pattern.
func literal(c byte) string {
	if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == ' ' || c == '@' || c == '_' {
		return string(rune(c))
	}
	return fmt.Sprintf(`\x%02x`, c)
}

// letter is one byte, in both cases if fold says so.
func letter(c byte, fold bool) string {
	if !fold {
		return literal(c)
	}
	var s set
	s.add(c)
	s.fold()
	return s.String()
}

func wordSet() *set {
	var s set
	s.add('_')
	s.addAll(class("alnum"))
	return &s
}

// class is a POSIX character class in the C locale, nil if there is none of
// the name.
func class(name string) *set {
	var s set
	switch name {
	case "alpha":
		s.addRange('a', 'z')
		s.addRange('A', 'Z')
	case "digit":
		s.addRange('0', '9')
	case "alnum":
		s.addAll(class("alpha"))
		s.addAll(class("digit"))
	case "upper":
		s.addRange('A', 'Z')
	case "lower":
		s.addRange('a', 'z')
	case "space":
		s.addRange('\t', '\r')
		s.add(' ')
	case "blank":
		s.add(' ')
		s.add('\t')
	case "punct":
		s.addRange('!', '/')
		s.addRange(':', '@')
		s.addRange('[', '`')
		s.addRange('{', '~')
	case "print":
		s.addRange(' ', '~')
	case "graph":
		s.addRange('!', '~')
	case "cntrl":
		s.addRange(0, 31)
		s.add(127)
	case "xdigit":
		s.addRange('0', '9')
		s.addRange('a', 'f')
		s.addRange('A', 'F')
	default:
		return nil
	}
	return &s
}
