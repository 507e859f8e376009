package text

import (
	"errors"
	"strings"
)

// token is a piece of an alias line, as tok822(3) of Postfix cuts it.
type token struct {
	kind byte // an operator character, or one of the kinds below
	text string
}

const (
	atom    byte = 'a'
	quoted  byte = 'q'
	comment byte = 'c'
	literal byte = 'd' // [domain literal]
)

// operators stand for themselves and need no space around them.
const operators = "|%!()<>@,;:\\\".[]"

// tokens cuts a line. Text that is quoted with a backslash becomes part of an
// atom; what is not closed ends with the line.
func tokens(line string) []token {
	var list []token
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case isSpace(c):
			i++
		case c == '(':
			end := commentEnd(line, i)
			list = append(list, token{comment, line[i:end]})
			i = end
		case c == '"':
			text, end := until(line, i+1, '"')
			list = append(list, token{quoted, text})
			i = end
		case c == '[':
			text, end := until(line, i+1, ']')
			list = append(list, token{literal, text})
			i = end
		case c != '\\' && strings.IndexByte(operators, c) >= 0:
			list = append(list, token{kind: c})
			i++
		default:
			t, end := atomAt(line, i)
			list = append(list, t)
			i = end
		}
	}
	return list
}

// until takes the text up to an unquoted end character, backslashes taken off.
func until(line string, start int, stop byte) (text string, end int) {
	var b strings.Builder
	i := start
	for ; i < len(line) && line[i] != stop; i++ {
		if line[i] == '\\' && i+1 < len(line) {
			i++
		}
		b.WriteByte(line[i])
	}
	return b.String(), min(i+1, len(line))
}

func commentEnd(line string, start int) int {
	depth := 0
	for i := start; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(line)
}

// atomAt takes an atom; one that needs quotes after its backslashes are gone
// becomes a quoted string.
func atomAt(line string, start int) (t token, end int) {
	var b strings.Builder
	special := false
	i := start
	for ; i < len(line); i++ {
		c := line[i]
		if c == '\\' && i+1 < len(line) {
			i++
			c = line[i]
			special = special || isSpace(c) || c < ' ' || strings.IndexByte(operators, c) >= 0
		} else if isSpace(c) || (c != '\\' && strings.IndexByte(operators, c) >= 0) {
			break
		}
		b.WriteByte(c)
	}
	if special {
		return token{quoted, b.String()}, i
	}
	return token{atom, b.String()}, i
}

// isWord tells tokens that need a space between them.
func (t token) isWord() bool {
	return t.kind == atom || t.kind == quoted || t.kind == comment || t.kind == literal
}

// write puts tokens together again: internal form leaves quotes out.
func write(list []token, form tokenForm) string {
	var b strings.Builder
	for i, t := range list {
		switch {
		case t.kind == atom, t.kind == comment, t.kind == quoted && form == internalForm:
			b.WriteString(t.text)
		case t.kind == quoted:
			b.WriteString(`"` + quote.Replace(t.text) + `"`)
		case t.kind == literal:
			b.WriteString("[" + t.text + "]")
		case t.kind == ',':
			b.WriteString(", ")
		default:
			b.WriteByte(t.kind)
		}
		if i+1 < len(list) && t.isWord() && (list[i+1].isWord() || list[i+1].kind == '<') {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

type tokenForm uint8

const (
	internalForm tokenForm = iota
	externalForm
)

var quote = strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\r", "\\\r")

// aliasEntry reads "name: value". The name is one local name.
func aliasEntry(line string) (Entry, error) {
	list := tokens(line)
	if len(list) == 0 {
		return Entry{}, errors.New("need name:value pair")
	}
	colon := -1
	for i, t := range list {
		if t.kind == ':' {
			colon = i
			break
		}
	}
	if colon < 1 || colon == len(list)-1 || has(list[:colon], ',') {
		return Entry{}, errors.New("need name:value pair")
	}
	if has(list[:colon], '@') || has(list[:colon], '%') {
		return Entry{}, errors.New("name must be local")
	}
	return Entry{Key: write(list[:colon], internalForm), Value: write(list[colon+1:], externalForm)}, nil
}

func has(list []token, kind byte) bool {
	for _, t := range list {
		if t.kind == kind {
			return true
		}
	}
	return false
}
