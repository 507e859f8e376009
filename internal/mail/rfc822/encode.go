package rfc822

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// encodedWordLimit is the length of an encoded word (RFC 2047 §2).
const encodedWordLimit = 75

// EncodePhrase writes a person's name in front of an address: as it is when it
// is made of atoms, quoted when it is ASCII, and as encoded words in the given
// charset otherwise (postconf(5) full_name_encoding_charset; "" for never).
func EncodePhrase(name, charset string) string {
	name = printable(name)
	if charset != "" && !isASCII(name) {
		return encodeWords(name, charset)
	}
	if isPhrase(name) {
		return name
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(name) + `"`
}

// EncodeComment writes a name for use in parentheses.
func EncodeComment(name, charset string) string {
	name = printable(name)
	if charset != "" && !isASCII(name) {
		return encodeWords(name, charset)
	}
	return strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(name)
}

func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, name)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// isPhrase reports words of atom text with spaces between them.
func isPhrase(name string) bool {
	return name != "" && !strings.ContainsAny(name, "()<>@,;:.\\\"[]") && strings.TrimSpace(name) == name
}

// encodeWords writes text as encoded words, quoted-printable, a character
// never divided.
func encodeWords(text, charset string) string {
	start := "=?" + charset + "?Q?"
	var words []string
	word := start
	for i := 0; i < len(text); {
		_, n := utf8.DecodeRuneInString(text[i:])
		piece := ""
		for _, c := range []byte(text[i : i+n]) {
			piece += encodeByte(c)
		}
		if len(word)+len(piece)+2 > encodedWordLimit {
			words = append(words, word+"?=")
			word = start
		}
		word += piece
		i += n
	}
	return strings.Join(append(words, word+"?="), " ")
}

// encodeByte is RFC 2047 §5 (3): in a phrase only letters, digits and few
// others stand for themselves.
func encodeByte(c byte) string {
	switch {
	case c == ' ':
		return "_"
	case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z', strings.IndexByte("!*+-/", c) >= 0:
		return string(rune(c))
	}
	return fmt.Sprintf("=%02X", c)
}
