// Package text reads tables that are text: source files of postmap(1) and
// postalias(1), texthash:, and the small types whose content stands in their
// name: inline:, static:, fail:, environ:, internal:.
//
// Lines, Braced and the entry parsers are also what the pattern tables and the
// commands read their files with. Nothing here writes.
package text

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
)

// maxLine bounds one logical line.
const maxLine = 16 << 20

// Lines reads logical lines: a line that starts with white space continues the
// one before it; empty lines and comments are skipped, even between the two
// (postmap(1), INPUT FILE FORMAT).
type Lines struct {
	in     *bufio.Reader
	path   string
	log    *maillog.Logger
	number int // physical lines read
	first  int
	text   strings.Builder
	err    error
}

// NewLines reads logical lines from r. path is for complaints.
func NewLines(r io.Reader, path string, log *maillog.Logger) *Lines {
	return &Lines{in: bufio.NewReader(r), path: path, log: log}
}

// Next advances to the next logical line.
func (l *Lines) Next() bool {
	for l.read() {
		text := l.text.String()
		if !isSpace(text[0]) {
			return true
		}
		l.log.Warnf("%s: logical line must not start with whitespace: \"%s\"", l.path, shorten(text, 30))
	}
	return false
}

func (l *Lines) read() bool {
	l.text.Reset()
	for l.err == nil {
		line, err := l.in.ReadString('\n')
		if line != "" {
			l.number++
			l.add(strings.TrimSuffix(line, "\n"))
		}
		switch {
		case err != nil:
			l.err = err
		case l.text.Len() > maxLine:
			l.err = fmt.Errorf("line %d is longer than %d bytes", l.first, maxLine)
		case l.text.Len() > 0 && !l.continues():
			return true
		}
	}
	return l.text.Len() > 0
}

func (l *Lines) add(line string) {
	start := strings.TrimLeft(line, space)
	if start == "" || start[0] == '#' {
		return
	}
	if l.text.Len() == 0 {
		l.first = l.number
	}
	l.text.WriteString(line)
}

// continues peeks whether the next physical line may belong to this one.
func (l *Lines) continues() bool {
	next, err := l.in.Peek(1)
	return err == nil && (next[0] == '#' || isSpace(next[0]))
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// Text is the logical line, joined as it stands.
func (l *Lines) Text() string { return l.text.String() }

// Line is the number of its first physical line.
func (l *Lines) Line() int { return l.first }

// Err is what ended the reading, nil at the end of the file.
func (l *Lines) Err() error {
	if l.err == nil || errors.Is(l.err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read %s: %s", l.path, strerror.Text(l.err))
}

// space is isspace(3) in the C locale.
const space = " \t\n\v\f\r"

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }

// Follow loads the rules of a pattern table: from the file name and from then
// on whenever it changes, or from the name itself when it is written
// "{ {rule}, {rule} }". kind is the table's type.
func Follow[T any](o *table.Opener, kind, name string, load func(*Lines) (T, error)) (Rules[T], error) {
	if strings.HasPrefix(name, "{") {
		rules, err := Braced(name)
		if err != nil {
			return Rules[T]{}, table.Permanent{Reason: fmt.Sprintf("%s map: %s", kind, err)}
		}
		v, err := load(NewLines(strings.NewReader(strings.Join(rules, "\n")), name, o.Log()))
		return Rules[T]{Get: func() T { return v }, OwnerID: func() (int, bool) { return 0, true }}, err
	}
	f, err := table.Follow(o, name, func(file *os.File) (T, error) {
		defer file.Close()
		return load(NewLines(file, name, o.Log()))
	})
	if err != nil {
		return Rules[T]{}, fmt.Errorf("open %s: %s", name, strerror.Text(err))
	}
	return Rules[T]{Get: f.Get, OwnerID: f.OwnerID}, nil
}

// Rules are the rules of a pattern table, as they are now.
type Rules[T any] struct {
	Get func() T
	// OwnerID is table.Owner's; main.cf, where rules in braces stand, is root's.
	OwnerID func() (uid int, known bool)
}
