package macro

import "strings"

// Piece is literal text, or the body of a reference: what is between the
// braces or parentheses, or the bare name.
type Piece struct {
	Text      string
	Reference bool
}

// Parse cuts text into pieces and hands them over in order, until visit
// returns an error. A reference is cut at its matching brace and not looked
// into.
func Parse(text string, visit func(Piece) error) error {
	for rest := text; rest != ""; {
		dollar := strings.IndexByte(rest, '$')
		if dollar < 0 {
			return visit(Piece{Text: rest})
		}
		if strings.HasPrefix(rest[dollar:], "$$") {
			if err := visit(Piece{Text: rest[:dollar+1]}); err != nil {
				return err
			}
			rest = rest[dollar+2:]
			continue
		}
		if dollar > 0 {
			if err := visit(Piece{Text: rest[:dollar]}); err != nil {
				return err
			}
		}
		body, after, ok := cutReference(rest[dollar+1:])
		if !ok {
			return syntaxf("truncated macro reference: \"%s\"", text)
		}
		if body == "" {
			return syntaxf("empty macro name: \"%s\"", text)
		}
		if err := visit(Piece{Text: body, Reference: true}); err != nil {
			return err
		}
		rest = after
	}
	return nil
}

// cutReference splits what follows a dollar sign into the body of the
// reference and the rest. ok is false without a closing brace.
func cutReference(text string) (body, after string, ok bool) {
	switch {
	case strings.HasPrefix(text, "{"):
		return cutBalanced(text, '{', '}')
	case strings.HasPrefix(text, "("):
		return cutBalanced(text, '(', ')')
	}
	n := nameLength(text)
	return text[:n], text[n:], true
}

// cutBalanced takes text that starts with an opening brace.
func cutBalanced(text string, open, closing byte) (inside, after string, ok bool) {
	level := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case open:
			level++
		case closing:
			if level--; level == 0 {
				return text[1:i], text[i+1:], true
			}
		}
	}
	return "", "", false
}

func nameLength(text string) int {
	n := 0
	for n < len(text) && isNameByte(text[n]) {
		n++
	}
	return n
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// IsName reports whether text can be the name of a parameter: letters, digits
// and underscore, at least one.
func IsName(text string) bool { return text != "" && nameLength(text) == len(text) }

const space = " \t\n\v\f\r"

func skipSpace(text string) string { return strings.TrimLeft(text, space) }

// reference is a parsed ${...}.
type reference struct {
	name     string
	relation *relation
	call     bool // name{ifSet}
	operator byte // '?', ':', or 0
	ifSet    string
	ifEmpty  string
}

// cursor walks through a body. What it passed last is for error texts.
type cursor struct{ passed, rest string }

func (c *cursor) fail(text string) error {
	after := c.rest
	if len(after) > 20 {
		after = after[:20]
	}
	return syntaxf("%s at: \"...%s>>>%s\"", text, c.passed, after)
}

// payload takes "{text}" and the white space around it; that inside is text.
func (c *cursor) payload() (string, error) {
	if !c.atBrace() {
		return "", c.fail(`"{expression}" expected`)
	}
	inside, after, ok := cutBalanced(skipSpace(c.rest), '{', '}')
	if !ok {
		return "", syntaxf("unbalanced {} in attribute expression: \"%s\"", skipSpace(c.rest))
	}
	c.passed, c.rest = inside+"}", skipSpace(after)
	return inside, nil
}

func (c *cursor) atBrace() bool { return strings.HasPrefix(skipSpace(c.rest), "{") }

func parseReference(body string) (ref *reference, err error) {
	c := &cursor{rest: skipSpace(body)}
	ref = &reference{}
	if strings.HasPrefix(c.rest, "{") {
		if ref.relation, err = c.relation(); err != nil {
			return nil, err
		}
		if c.passed = "}"; c.rest != "" && c.rest[0] != '?' && c.rest[0] != ':' {
			return nil, c.fail(`"?" or ":" expected`)
		}
	} else {
		n := nameLength(c.rest)
		ref.name, c.passed, c.rest = c.rest[:n], c.rest[:n], c.rest[n:]
		if n > 0 && strings.HasPrefix(c.rest, "{") {
			return ref, c.call(ref)
		}
		after := skipSpace(c.rest)
		if after != "" && after[0] != '?' && after[0] != ':' {
			return nil, c.fail("attribute name syntax error")
		}
		c.rest = after
	}
	if c.rest == "" {
		return ref, nil
	}
	ref.operator, c.rest = c.rest[0], c.rest[1:]
	return ref, c.branches(ref)
}

func (c *cursor) call(ref *reference) (err error) {
	ref.call = true
	if ref.ifSet, err = c.payload(); err != nil {
		return err
	}
	return c.end()
}

// branches reads what follows "?" or ":".
func (c *cursor) branches(ref *reference) (err error) {
	if ref.operator == ':' {
		ref.ifEmpty, err = c.last()
		return err
	}
	if !c.atBrace() {
		ref.ifSet = c.rest
		return nil
	}
	if ref.ifSet, err = c.payload(); err != nil || c.rest == "" {
		return err
	}
	if c.rest[0] != ':' {
		return c.fail(`":" expected`)
	}
	c.rest = c.rest[1:]
	ref.ifEmpty, err = c.last()
	return err
}

// last reads the branch that ends the reference: braced, or plain text.
func (c *cursor) last() (string, error) {
	if !c.atBrace() {
		return c.rest, nil
	}
	text, err := c.payload()
	if err != nil {
		return "", err
	}
	return text, c.end()
}

func (c *cursor) end() error {
	if c.rest != "" {
		return c.fail("unexpected input")
	}
	return nil
}

// ByteSet is a set of bytes.
type ByteSet [256]bool

// NewByteSet makes the set of the bytes of text.
func NewByteSet(text string) *ByteSet {
	var set ByteSet
	for i := 0; i < len(text); i++ {
		set[text[i]] = true
	}
	return &set
}

// Filter replaces every byte that is not in the set by '_'.
func (s *ByteSet) Filter(text string) string {
	for i := 0; i < len(text); i++ {
		if !s[text[i]] {
			out := []byte(text)
			for ; i < len(out); i++ {
				if !s[out[i]] {
					out[i] = '_'
				}
			}
			return string(out)
		}
	}
	return text
}

// Names hands over every name that text refers to, in the branches of
// conditions, too, and the text that each expansion would look into. The
// error is that of the first syntax error; names before it were handed over.
func Names(text string, visit func(name string)) error {
	return names(text, visit, 0)
}

func names(text string, visit func(string), depth int) error {
	if strings.IndexByte(text, '$') < 0 {
		return nil
	}
	if depth > maxNesting {
		return syntaxf("unreasonable macro call nesting: \"%s\"", text)
	}
	return Parse(text, func(piece Piece) error {
		if !piece.Reference {
			return nil
		}
		ref, err := parseReference(piece.Text)
		if err != nil {
			return err
		}
		inner := []string{ref.ifSet, ref.ifEmpty}
		switch {
		case ref.relation != nil:
			inner = append([]string{ref.relation.left, ref.relation.right}, inner...)
		case !ref.call:
			visit(ref.name)
		}
		for _, part := range inner {
			if err := names(part, visit, depth+1); err != nil {
				return err
			}
		}
		return nil
	})
}
