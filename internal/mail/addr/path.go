package addr

import (
	"errors"
	"strings"
)

// ErrPath is returned for text that is no RFC 5321 path.
var ErrPath = errors.New("addr: malformed path")

// ParsePath reads "<path>" at the beginning of text (RFC 5321 §4.1.2
// Reverse-path, Forward-path) and returns the address in internal form and
// what follows the ">". A source route is dropped. "<>" is the null address.
// The domain may be missing, as in "<postmaster>"; it is not checked further.
func ParsePath(text string) (a Address, rest string, err error) {
	if !strings.HasPrefix(text, "<") {
		return "", text, ErrPath
	}
	end := pathEnd(text)
	if end < 0 {
		return "", text, ErrPath
	}
	inside, rest := text[1:end], text[end+1:]
	inside, err = dropRoute(inside)
	if err != nil {
		return "", text, err
	}
	if inside == "" {
		return "", rest, nil
	}
	local, domain := inside, ""
	if at := lastUnquotedAt(inside); at >= 0 {
		local, domain = inside[:at], inside[at:]
		if domain == "@" || strings.ContainsAny(domain[1:], " \t\"\\<>()") {
			return "", text, ErrPath
		}
	}
	if !validLocalPart(local) {
		return "", text, ErrPath
	}
	return Address(unquoteText(local) + domain), rest, nil
}

// pathEnd is the index of the ">" that ends a path, or -1.
func pathEnd(text string) int {
	quoted := false
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case '>':
			if !quoted {
				return i
			}
		}
	}
	return -1
}

// dropRoute removes "@a,@b:" (RFC 5321 §4.1.1.3: to be accepted and ignored).
func dropRoute(inside string) (string, error) {
	if !strings.HasPrefix(inside, "@") {
		return inside, nil
	}
	_, rest, ok := strings.Cut(inside, ":")
	if !ok || rest == "" {
		return "", ErrPath
	}
	return rest, nil
}

// validLocalPart accepts a dot-string or one quoted string.
func validLocalPart(local string) bool {
	if strings.IndexByte(local, '"') < 0 && strings.IndexByte(local, '\\') < 0 {
		return IsDotString(local)
	}
	if len(local) < 2 || local[0] != '"' || local[len(local)-1] != '"' {
		return false
	}
	body := local[1 : len(local)-1]
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"', c < ' ', c == 0x7f:
			return false
		case c == '\\':
			i++
			if i == len(body) {
				return false
			}
		}
	}
	return true
}
