// Package content inspects header fields and body lines with header_checks(5)
// and body_checks(5) tables.
//
// It finds a rule and takes its action apart; what an action does to the
// message is cleanup's business. A lookup error means "try again".
package content

import (
	"context"
	"strings"

	"posthaste/internal/mail/rfc822"
	"posthaste/internal/table"
)

// Config names the tables (postconf(5)).
type Config struct {
	Header string `param:"header_checks"`
	MIME   string `param:"mime_header_checks"`
	Nested string `param:"nested_header_checks"`
	Body   string `param:"body_checks"`
	// BodySize is how many bytes of a body segment are looked at; 0 for all.
	BodySize int `param:"body_checks_size_limit"`
}

// Inspector holds the tables. Safe for concurrent use; nil finds nothing.
type Inspector struct {
	header [3]*table.Maps // by rfc822.Class
	body   *table.Maps
	size   int
}

// New opens the tables.
func New(cfg Config, tables *table.Opener) *Inspector { return NewNamed("", cfg, tables) }

// NewNamed is New for parameters whose names have something in front, such as
// smtp_header_checks.
func NewNamed(prefix string, cfg Config, tables *table.Opener) *Inspector {
	open := func(title, list string) *table.Maps {
		if list == "" {
			return nil
		}
		return tables.Maps(prefix+title, list, table.FoldedKeys)
	}
	i := &Inspector{body: open("body_checks", cfg.Body), size: cfg.BodySize}
	i.header[rfc822.Primary] = open("header_checks", cfg.Header)
	i.header[rfc822.Part] = open("mime_header_checks", cfg.MIME)
	i.header[rfc822.Nested] = open("nested_header_checks", cfg.Nested)
	return i
}

// Close closes the tables.
func (i *Inspector) Close() error {
	var first error
	for _, maps := range [...]*table.Maps{i.header[0], i.header[1], i.header[2], i.body} {
		if err := maps.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Parts reports whether headers inside of the body matter.
func (i *Inspector) Parts() bool {
	return !i.header[rfc822.Part].Empty() || !i.header[rfc822.Nested].Empty()
}

// Empty reports that there is nothing to look for.
func (i *Inspector) Empty() bool {
	return i.header[rfc822.Primary].Empty() && !i.Parts() && !i.Lines()
}

// Lines reports whether body lines matter.
func (i *Inspector) Lines() bool { return !i.body.Empty() }

// Rule is what a table says about a piece of text.
type Rule struct {
	Table  string // the parameter's name, for the log
	Value  string // the whole result
	Action string // its first word in upper case
	Text   string // the rest
}

// Header finds the rule for a header field, "" when there is none.
func (i *Inspector) Header(ctx context.Context, class rfc822.Class, field []byte) (Rule, bool, error) {
	return find(ctx, i.header[class], field)
}

// Body finds the rule for a line that starts at offset in its body segment.
func (i *Inspector) Body(ctx context.Context, line []byte, offset int) (Rule, bool, error) {
	if i.size > 0 && offset >= i.size {
		return Rule{}, false, nil
	}
	return find(ctx, i.body, line)
}

func find(ctx context.Context, maps *table.Maps, text []byte) (Rule, bool, error) {
	if maps.Empty() {
		return Rule{}, false, nil
	}
	value, found, err := maps.Lookup(ctx, string(text))
	if err != nil || !found {
		return Rule{Table: maps.Title()}, false, err
	}
	return Parse(maps.Title(), value), true, nil
}

// Parse takes a table's result apart.
func Parse(title, value string) Rule {
	word, rest := value, ""
	if i := strings.IndexAny(value, " \t"); i >= 0 {
		word, rest = value[:i], strings.TrimLeft(value[i:], " \t\r\n\v\f")
	}
	return Rule{Table: title, Value: value, Action: strings.ToUpper(word), Text: rest}
}
