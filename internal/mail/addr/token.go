package addr

import "strings"

// kind is what a token of a structured header field is (RFC 5322 §3.2).
// Operators are their own character.
type kind int

const (
	atom kind = 256 + iota
	quoted
	comment
	literal
	groupStart // the ":" of a group
	mailbox    // an address made of tokens
)

// token is one lexical token. text is without the quotes of a quoted string
// and the brackets of a literal, and as it stood for atoms and comments.
type token struct {
	kind kind
	text string
}

// operators are tokens of one character; "%", "!" and "|" are among them
// because routing by them joins two words (RFC 1123 §5.2.16).
const operators = "()<>@,;:.%!|\"[]"

// scan divides header text into at most limit tokens; what follows is lost
// (postconf(5) header_address_token_limit). Line ends count as white space,
// and become spaces inside of quotes and comments.
func scan(text string, limit int) []token {
	var tokens []token
	for i := 0; i < len(text) && len(tokens) < limit; {
		var t token
		start := i
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			i++
			continue
		case '(':
			t.kind = comment
			t.text, i = scanComment(text, i)
		case '"':
			t.kind = quoted
			t.text, i = scanEnclosed(text, i+1, '"')
			t.text = unescape(t.text)
		case '[':
			t.kind = literal
			t.text, i = scanEnclosed(text, i+1, ']')
		case '<', '>', '@', ',', ';', ':', '.', '%', '!', '|', ')', ']':
			t.kind = kind(c)
			i++
		default:
			i = scanAtom(text, i)
			t = newAtom(text[start:i])
		}
		tokens = append(tokens, t)
	}
	return tokens
}

// newAtom is an atom, or the quoted string that stands for it when it has
// escaped characters.
func newAtom(text string) token {
	if strings.IndexByte(text, '\\') < 0 {
		return token{kind: atom, text: text}
	}
	text = unquoteText(text)
	if text == "" || IsDotString(text) {
		return token{kind: atom, text: text}
	}
	return token{kind: quoted, text: text}
}

func scanAtom(text string, i int) int {
	for i < len(text) {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i += 2
			continue
		}
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' || strings.IndexByte(operators, c) >= 0 {
			break
		}
		i++
	}
	return i
}

// scanEnclosed returns the text from i up to the closing character, which may
// be missing, and the index behind it.
func scanEnclosed(text string, i int, end byte) (string, int) {
	start := i
	for i < len(text) && text[i] != end {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		i++
	}
	return oneLine(text[start:i]), min(i+1, len(text))
}

// scanComment returns a comment with its parentheses.
func scanComment(text string, i int) (string, int) {
	start, depth := i, 0
	for i < len(text) {
		c := text[i]
		i++
		if c == '\\' && i < len(text) {
			i++
		} else if c == '(' {
			depth++
		} else if c == ')' {
			depth--
			if depth == 0 {
				return oneLine(text[start:i]), i
			}
		}
	}
	return oneLine(text[start:]) + strings.Repeat(")", min(depth, 1)), i
}

func oneLine(text string) string {
	if strings.IndexByte(text, '\n') < 0 {
		return text
	}
	return strings.ReplaceAll(text, "\n", " ")
}

func unescape(text string) string {
	if strings.IndexByte(text, '\\') < 0 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// isWord reports tokens that need a space between each other.
func (k kind) isWord() bool {
	return k == atom || k == quoted || k == comment || k == literal || k == mailbox
}

// external appends the token as it is written in a header.
func (t token) external(b *strings.Builder) {
	switch t.kind {
	case atom, comment:
		b.WriteString(t.text)
	case quoted:
		b.WriteString(quoteText(t.text))
	case literal:
		b.WriteByte('[')
		b.WriteString(t.text)
		b.WriteByte(']')
	case groupStart:
		b.WriteByte(':')
	default:
		b.WriteByte(byte(t.kind))
	}
}

// internal appends the token as part of an address in internal form.
func (t token) internal(b *strings.Builder) {
	switch t.kind {
	case atom, quoted:
		b.WriteString(t.text)
	case comment:
	default:
		t.external(b)
	}
}
