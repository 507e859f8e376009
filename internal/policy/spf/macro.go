package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// macroString is a parsed text with macros, RFC 7208 section 7.
type macroString struct {
	text  string
	parts []part
}

// part is literal text, or a macro if letter is not 0.
type part struct {
	literal string
	expand  bool // literal text that was written as %%, %_ or %-
	letter  byte // in lower case
	escape  bool // it was in upper case: escape the value as in URLs
	keep    int  // how many right-hand parts, 0 for all
	reverse bool
	delims  string
}

// place is where a macro string stands: the letters c, r and t are for
// explanations only.
type place uint8

const (
	inRecord place = iota
	inExplanation
)

const (
	macroLetters       = "slodiphv"
	explanationLetters = "crt"
	delimiters         = ".-+,/_="
)

// errMacroSyntax is a text that is no macro-string at all.
var errMacroSyntax = errors.New("Invalid macro") //nolint:staticcheck // the words of the log

// parseMacros reads a macro-string; in an explanation it may contain spaces.
func parseMacros(text string, where place) (macroString, error) {
	m := macroString{text: text}
	literal := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c > '~' || c < ' ' || c == ' ' && where == inRecord:
			return m, fmt.Errorf("%w string encountered in '%s'", errMacroSyntax, text)
		case c != '%':
			i++
		default:
			if literal < i {
				m.parts = append(m.parts, part{literal: text[literal:i]})
			}
			p, n, err := parseMacro(text, i, where)
			if err != nil {
				return m, err
			}
			m.parts = append(m.parts, p)
			i += n
			literal = i
		}
	}
	if literal < len(text) {
		m.parts = append(m.parts, part{literal: text[literal:]})
	}
	return m, nil
}

// parseMacro reads what begins with the "%" at text[at], and how long it is.
func parseMacro(text string, at int, where place) (p part, length int, err error) {
	rest := text[at+1:]
	bad := func() (part, int, error) {
		return part{}, 0, fmt.Errorf("%w expression at pos %d in macro string '%s'", errMacroSyntax, at, text)
	}
	if rest == "" {
		return bad()
	}
	switch rest[0] {
	case '%':
		return part{literal: "%", expand: true}, 2, nil
	case '_':
		return part{literal: " ", expand: true}, 2, nil
	case '-':
		return part{literal: "%20", expand: true}, 2, nil
	case '{':
	default:
		return bad()
	}
	end := strings.IndexByte(rest, '}')
	if end < 2 {
		return bad()
	}
	body := rest[1:end]
	letter := body[0] | 0x20
	p = part{letter: letter, escape: body[0] < 'a'}
	switch {
	case letter < 'a' || letter > 'z':
		return bad()
	case strings.IndexByte(explanationLetters, letter) >= 0 && where == inRecord:
		return part{}, 0, fmt.Errorf("Illegal '%c' macro in non-explanation macro string '%s'", letter, text) //nolint:staticcheck // as above
	case strings.IndexByte(macroLetters+explanationLetters, letter) < 0:
		return part{}, 0, fmt.Errorf("Unknown macro character '%c' at pos %d in macro string '%s'", letter, at, text) //nolint:staticcheck // as above
	}
	if !p.transformers(body[1:]) {
		return bad()
	}
	return p, end + 2, nil
}

// transformers reads what follows a macro's letter: digits, "r", delimiters.
func (p *part) transformers(text string) bool {
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		n, err := strconv.Atoi(text[:digits])
		if n == 0 {
			return false
		}
		if err == nil { // more than an int are all of them
			p.keep = n
		}
	}
	text = text[digits:]
	if text != "" && text[0]|0x20 == 'r' {
		p.reverse, text = true, text[1:]
	}
	p.delims = text
	return strings.Trim(text, delimiters) == ""
}

// isDomain reports whether a macro string is a domain-spec: it ends with a
// macro, or with a dot and a top level label (section 7.1).
func (m *macroString) isDomain() bool {
	if len(m.parts) == 0 {
		return false
	}
	last := m.parts[len(m.parts)-1]
	if last.letter != 0 || last.expand {
		return true
	}
	tail := strings.TrimSuffix(last.literal, ".")
	dot := strings.LastIndexByte(tail, '.')
	return dot >= 0 && isTopLabel(tail[dot+1:])
}

// isTopLabel reports whether a label can be the last one of a name: letters,
// digits and inner dashes, and not digits alone.
func isTopLabel(label string) bool {
	if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	onlyDigits := true
	for i := 0; i < len(label); i++ {
		switch c := label[i]; {
		case c >= '0' && c <= '9':
		case c|0x20 >= 'a' && c|0x20 <= 'z', c == '-':
			onlyDigits = false
		default:
			return false
		}
	}
	return !onlyDigits
}

// expandDomain expands a domain-spec for a look-up: names that are too long
// lose labels on the left (section 7.3).
func (k *check) expandDomain(m *macroString, domain string) string {
	const maxName = 253
	name := strings.TrimSuffix(k.expand(m, domain), ".")
	for len(name) > maxName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			break
		}
		name = rest
	}
	return name
}

// maxExpansion bounds what macros can make of a record.
const maxExpansion = 8192

// expand replaces macros; domain is the one whose record m is from.
func (k *check) expand(m *macroString, domain string) string {
	var b strings.Builder
	for _, p := range m.parts {
		if p.letter == 0 {
			b.WriteString(p.literal)
		} else {
			b.WriteString(p.transform(k.value(p.letter, domain)))
		}
		if b.Len() > maxExpansion {
			break
		}
	}
	return b.String()
}

// value is what a macro letter stands for (section 7.2).
func (k *check) value(letter byte, domain string) string {
	switch letter {
	case 's':
		return k.local + "@" + k.origin
	case 'l':
		return k.local
	case 'o':
		return k.origin
	case 'd':
		return domain
	case 'i':
		return dotted(k.ip)
	case 'p':
		return k.validatedName(domain)
	case 'v':
		if k.ip.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return orUnknown(k.helo)
	case 'c':
		return k.ip.String()
	case 'r':
		return orUnknown(k.Receiver)
	case 't':
		return strconv.FormatInt(k.now().Unix(), 10)
	}
	return ""
}

func orUnknown(name string) string {
	if name == "" {
		return "unknown"
	}
	return name
}

// dotted is an address as the macro "i" has it: an IPv6 address in nibbles.
func dotted(ip netip.Addr) string {
	if !ip.Is6() {
		return ip.String()
	}
	var b strings.Builder
	for i, octet := range ip.As16() {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%X.%X", octet>>4, octet&15)
	}
	return b.String()
}

// transform splits, reverses, cuts and escapes the value of a macro.
func (p *part) transform(value string) string {
	if p.keep > 0 || p.reverse || p.delims != "" {
		by := p.delims
		if by == "" {
			by = "."
		}
		words := split(value, by)
		if p.reverse {
			for i, j := 0, len(words)-1; i < j; i, j = i+1, j-1 {
				words[i], words[j] = words[j], words[i]
			}
		}
		if p.keep > 0 && p.keep < len(words) {
			words = words[len(words)-p.keep:]
		}
		value = strings.Join(words, ".")
	}
	if p.escape {
		value = EscapeURL(value)
	}
	return value
}

// split divides text at each of the characters in by.
func split(text, by string) []string {
	var words []string
	for {
		i := strings.IndexAny(text, by)
		if i < 0 {
			return append(words, text)
		}
		words = append(words, text[:i])
		text = text[i+1:]
	}
}

// EscapeURL escapes all but the unreserved characters of RFC 3986, as macros
// in upper case do.
func EscapeURL(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
