package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// record is a parsed "v=spf1" record, RFC 7208 section 4.6.
type record struct {
	terms    []term // mechanisms in order
	redirect *macroString
	exp      *macroString
}

// kind is the kind of a mechanism, section 5.
type kind uint8

const (
	all kind = iota
	include
	a
	mx
	ptr
	ip4
	ip6
	exists
)

var kinds = map[string]kind{"all": all, "include": include, "a": a, "mx": mx, "ptr": ptr, "ip4": ip4, "ip6": ip6, "exists": exists}

// term is one mechanism.
type term struct {
	text       string // normalized: without "+" and default prefix lengths
	written    string
	kind       kind
	result     Result // when it matches
	target     *macroString
	bits4      int
	bits6      int
	network    netip.Prefix
	hasNetwork bool
}

const versionTag = "v=spf1"

// isRecord reports whether a text is a record of this version.
func isRecord(text string) bool {
	return len(text) >= len(versionTag) && strings.EqualFold(text[:len(versionTag)], versionTag) &&
		(len(text) == len(versionTag) || text[len(versionTag)] == ' ')
}

// syntaxError makes all of a record a PermError.
type syntaxError struct {
	text string // what is wrong, in the words of the log
	term string // where
}

// bad makes a syntax error about a term.
func bad(term, format string, args ...any) *syntaxError {
	return &syntaxError{fmt.Sprintf(format, args...), term}
}

// parse reads a record.
func parse(text string) (*record, *syntaxError) {
	r := &record{}
	for _, word := range strings.Split(text[len(versionTag):], " ") {
		if word == "" {
			continue
		}
		if err := r.term(word, text); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// nameLength is the length of a term's name at the beginning of text.
func nameLength(text string) int {
	for i := 0; i < len(text); i++ {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')) {
			return i
		}
	}
	return len(text)
}

// term reads one directive or modifier.
func (r *record) term(word, text string) *syntaxError {
	if n := nameLength(word); n > 0 && n < len(word) && word[n] == '=' {
		return r.modifier(strings.ToLower(word[:n]), word[n+1:], word)
	}
	rest, result := word, Pass
	switch word[0] {
	case '+':
		rest = word[1:]
	case '-':
		rest, result = word[1:], Fail
	case '~':
		rest, result = word[1:], SoftFail
	case '?':
		rest, result = word[1:], Neutral
	}
	n := nameLength(rest)
	if n == 0 || n < len(rest) && rest[n] != ':' && rest[n] != '/' {
		return bad(word, "Junk encountered in record '%s'", text)
	}
	name := strings.ToLower(rest[:n])
	k, known := kinds[name]
	if !known {
		return bad(word, "Unknown mechanism type '%s' in '%s' record", name, versionTag)
	}
	t := term{written: word, kind: k, result: result, bits4: 32, bits6: 128}
	if err := t.parameters(rest[n:]); err != nil {
		return err
	}
	t.text = t.normal(name)
	r.terms = append(r.terms, t)
	return nil
}

func (r *record) modifier(name, value, word string) *syntaxError {
	m, err := parseMacros(value, inRecord)
	if err != nil {
		return bad(word, "%v", err)
	}
	var to **macroString
	switch name {
	case "redirect":
		to = &r.redirect
	case "exp":
		to = &r.exp
	default:
		return nil
	}
	if !m.isDomain() {
		return missing("domain-spec", word)
	}
	if *to != nil {
		return bad(name, "Duplicate global modifier '%s' encountered", name)
	}
	*to = &m
	return nil
}

func missing(what, word string) *syntaxError {
	return bad(word, "Missing required %s in '%s'", what, word)
}

func (t *term) junk() *syntaxError {
	return bad(t.written, "Junk encountered in mechanism '%s'", t.written)
}

// parameters reads what follows a mechanism's name.
func (t *term) parameters(text string) *syntaxError {
	switch t.kind {
	case all:
		if text != "" {
			return t.junk()
		}
		return nil
	case ip4, ip6:
		return t.address(text)
	case a, mx:
		var err *syntaxError
		if text, err = t.prefixLengths(text); err != nil {
			return err
		}
	}
	return t.domain(text)
}

// domain reads a domain-spec, which only include and exists must have.
func (t *term) domain(text string) *syntaxError {
	required := t.kind == include || t.kind == exists
	if text == "" && !required {
		return nil
	}
	m, isMacros := macroString{}, false
	if strings.HasPrefix(text, ":") {
		var err error
		m, err = parseMacros(text[1:], inRecord)
		isMacros = err == nil
		if err != nil && !errors.Is(err, errMacroSyntax) {
			return bad(t.written, "%v", err)
		}
	}
	switch {
	case isMacros && m.isDomain():
		t.target = &m
		return nil
	case required:
		return missing("domain-spec", t.written)
	}
	return t.junk()
}

// prefixLengths takes "/24", "//64" or "/24//64" off the end of text.
func (t *term) prefixLengths(text string) (string, *syntaxError) {
	if at, digits := trailingDigits(text); strings.HasSuffix(text[:at], "//") && digits != "" {
		n, ok := prefixLength(digits, 128)
		if !ok {
			return "", bad(t.written, "Invalid IPv6 prefix length encountered in '%s'", t.written)
		}
		t.bits6, text = n, text[:at-len("//")]
	}
	if at, digits := trailingDigits(text); strings.HasSuffix(text[:at], "/") && digits != "" {
		n, ok := prefixLength(digits, 32)
		if !ok {
			return "", bad(t.written, "Invalid IPv4 prefix length encountered in '%s'", t.written)
		}
		t.bits4, text = n, text[:at-len("/")]
	}
	return text, nil
}

func trailingDigits(text string) (at int, digits string) {
	at = len(text)
	for at > 0 && text[at-1] >= '0' && text[at-1] <= '9' {
		at--
	}
	return at, text[at:]
}

// prefixLength reads a prefix length, which has no leading zeros.
func prefixLength(digits string, most int) (int, bool) {
	n, err := strconv.Atoi(digits)
	return n, err == nil && n <= most && (digits[0] != '0' || digits == "0")
}

// address reads the network of ip4 and ip6.
func (t *term) address(text string) *syntaxError {
	family, most := "IPv4", 32
	if t.kind == ip6 {
		family, most = "IPv6", 128
	}
	if text == "" || text[0] != ':' {
		return missing(family+" address", t.written)
	}
	text, digits, has := strings.Cut(text[1:], "/")
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" || ip.Is4() != (t.kind == ip4) {
		return missing(family+" address", t.written)
	}
	bits := most
	if has {
		n, ok := 0, false
		if at, all := trailingDigits(digits); at == 0 && all != "" {
			n, ok = prefixLength(all, most)
		}
		if !ok {
			return bad(t.written, "Invalid %s prefix length encountered in '%s'", family, t.written)
		}
		bits = n
	}
	t.network, t.hasNetwork = netip.PrefixFrom(ip, bits), true
	return nil
}

// normal is the mechanism as reasons have it.
func (t *term) normal(name string) string {
	text := name
	switch t.result {
	case Fail:
		text = "-" + name
	case SoftFail:
		text = "~" + name
	case Neutral:
		text = "?" + name
	}
	if t.target != nil {
		text += ":" + fold(t.target.text)
	}
	if t.hasNetwork {
		text += ":" + t.network.Addr().String()
		if t.network.Bits() != t.network.Addr().BitLen() {
			text += "/" + strconv.Itoa(t.network.Bits())
		}
	}
	if t.bits4 != 32 {
		text += "/" + strconv.Itoa(t.bits4)
	}
	if t.bits6 != 128 {
		text += "//" + strconv.Itoa(t.bits6)
	}
	return text
}
