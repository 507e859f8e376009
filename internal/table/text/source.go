package text

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"posthaste/internal/sys/maillog"
)

// Entry is one line of a source file.
type Entry struct {
	Key, Value string
	Line       int
}

// Source tells how a source file is read.
type Source struct {
	Path string
	Log  *maillog.Logger
	// UTF8 leaves out lines that are not UTF-8.
	UTF8 bool
	// Ignoring ends the complaint about a line without a value, as texthash: does.
	Ignoring string
}

// Map calls add for the entries of a postmap(1) source, "key value". A line
// that is not one is reported and left out.
func (s Source) Map(r io.Reader, add func(Entry) error) error {
	return s.each(r, add, func(line string) (Entry, error) { return s.mapEntry(line) })
}

// Alias calls add for the entries of a postalias(1) source, "name: value", see
// aliases(5). Keys are in internal form, values are as they will be parsed again.
func (s Source) Alias(r io.Reader, add func(Entry) error) error {
	return s.each(r, add, aliasEntry)
}

func (s Source) each(r io.Reader, add func(Entry) error, parse func(string) (Entry, error)) error {
	lines := NewLines(r, s.Path, s.Log)
	for lines.Next() {
		line := lines.Text()
		if s.UTF8 && !utf8.ValidString(line) {
			s.Log.Warnf("%s, line %d: non-UTF-8 input \"%s\" -- ignoring this line", s.Path, lines.Line(), line)
			continue
		}
		entry, err := parse(line)
		if err != nil {
			s.Log.Warnf("%s, line %d: %s", s.Path, lines.Line(), err)
			continue
		}
		if s.looksLikeAlias(entry) {
			s.Log.Warnf("%s, line %d: record is in \"key: value\" format; is this an alias file?", s.Path, lines.Line())
		}
		entry.Line = lines.Line()
		if err := add(entry); err != nil {
			return err
		}
	}
	return lines.Err()
}

// looksLikeAlias: a key of a map that ends in a colon. Alias keys cannot.
func (s Source) looksLikeAlias(e Entry) bool { return strings.HasSuffix(e.Key, ":") }

// mapEntry divides at the first white space outside of double quotes. The key
// keeps its quotes: it may be an address whose local part needs them.
func (s Source) mapEntry(line string) (Entry, error) {
	line = strings.TrimLeft(line, space)
	quoted := false
	end := 0
	for ; end < len(line); end++ {
		c := line[end]
		if c == '\\' && end+1 < len(line) && quoted {
			end++
			continue
		}
		if c == '"' {
			quoted = !quoted
		}
		if !quoted && isSpace(c) {
			break
		}
	}
	if quoted {
		return Entry{}, fmt.Errorf("unbalanced '\"' in '%s' -- ignoring this line", line)
	}
	e := Entry{Key: line[:end], Value: strings.Trim(line[end:], space)}
	if e.Key == "" || e.Value == "" {
		return Entry{}, fmt.Errorf("expected format: key whitespace value%s", s.Ignoring)
	}
	return e, nil
}
