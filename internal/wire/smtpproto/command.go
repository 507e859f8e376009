package smtpproto

import "strings"

// Token is one word of a command.
type Token struct {
	Text string
	Bad  bool // an opening <, [, " or ( has no end
}

// Tokens divides a command line into words. "<...>", "[...]" and quoted
// strings may hold blanks and nest, and keep their quoting; FROM: and TO: end
// a word, so that the address behind them needs no blank.
func Tokens(line string) []Token {
	var tokens []Token
	for {
		line = strings.TrimLeft(line, " \t\r\v\f")
		if line == "" {
			return tokens
		}
		n, bad := nextToken(line)
		tokens = append(tokens, Token{Text: line[:n], Bad: bad})
		line = line[n:]
	}
}

// nextToken is the length of the first word of s.
func nextToken(s string) (n int, bad bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ', '\t', '\r', '\v', '\f':
			return i, bad
		case '<', '[', '"':
			end, ok := quotedEnd(s, i)
			i, bad = end, bad || !ok
		case '\\':
			i++
		case ':':
			if word := s[:i+1]; strings.EqualFold(word, "from:") || strings.EqualFold(word, "to:") {
				return i + 1, bad
			}
		}
	}
	return len(s), bad
}

// quotedEnd is the index of the character that closes the one at start.
func quotedEnd(s string, start int) (end int, ok bool) {
	stack := append(make([]byte, 0, 16), closer(s[start]))
	for i := start + 1; i < len(s); i++ {
		wanted := stack[len(stack)-1]
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == wanted:
			if stack = stack[:len(stack)-1]; len(stack) == 0 {
				return i, true
			}
		case wanted != '"' && closer(c) != 0:
			stack = append(stack, closer(c))
		}
	}
	return len(s), false
}

// closer is the character that ends what c opens, 0 for none.
func closer(c byte) byte {
	switch c {
	case '<':
		return '>'
	case '[':
		return ']'
	case '(':
		return ')'
	case '"':
		return '"'
	}
	return 0
}

// JoinTokens makes one text of words again, as if they were divided by single
// blanks.
func JoinTokens(tokens []Token) string {
	words := make([]string, len(tokens))
	for i, t := range tokens {
		words[i] = t.Text
	}
	return strings.Join(words, " ")
}

// IsHeader reports whether a word looks like the start of a message header,
// "Label:": printable characters, and the only colon at the end.
func IsHeader(word string) bool {
	label, found := strings.CutSuffix(word, ":")
	if !found {
		if i := strings.IndexByte(word, ':'); i > 0 {
			label = word[:i]
		}
	}
	if label == "" || label == word {
		return false
	}
	for i := range len(label) {
		if label[i] <= ' ' || label[i] >= 0x7f {
			return false
		}
	}
	return true
}
