// Package maincf reads and edits main.cf: logical lines with comments and
// continuation lines, and name = value settings with their line numbers.
//
// It promises not to interpret values, to bound what it reads, and that an
// edit keeps every comment and the order, and replaces the file as a whole or
// not at all. The syntax is that of postconf(5). Package mastercf uses its
// logical lines; package config its settings.
package maincf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxLine bounds a logical line, MaxFile a file, in bytes.
const (
	MaxLine = 4 << 20
	MaxFile = 64 << 20
)

const space = " \t\n\v\f\r"

// Line is a logical line: the text of its physical lines without the line
// ends, comments and empty lines.
type Line struct {
	Text   string
	Number int // of its first physical line, from 1
	Last   int // of its last physical line that has text
}

// Lines reads logical lines.
type Lines struct {
	from   *bufio.Reader
	path   string
	number int
	read   int
	// Warn takes a warning, such as a file that starts with a continuation
	// line; nil discards it.
	Warn func(text string)
}

// NewLines reads logical lines of from; path is for messages.
func NewLines(from io.Reader, path string) *Lines {
	return &Lines{from: bufio.NewReader(from), path: path}
}

// Next returns the next logical line, or io.EOF. White space in front of a
// continuation line is part of the text.
func (l *Lines) Next() (Line, error) {
	for {
		line, err := l.logical()
		if err != nil {
			return Line{}, err
		}
		if !isSpace(line.Text[0]) {
			return line, nil
		}
		if l.Warn != nil {
			text, dots := line.Text, ""
			if len(text) > 30 {
				text, dots = text[:30], "..."
			}
			l.Warn(fmt.Sprintf("%s: logical line must not start with whitespace: \"%s%s\"", l.path, text, dots))
		}
	}
}

func (l *Lines) logical() (Line, error) {
	var line Line
	var text strings.Builder
	for {
		piece, err := l.physical()
		if err != nil && err != io.EOF {
			return Line{}, err
		}
		if trimmed := strings.TrimLeft(piece, space); trimmed != "" && trimmed[0] != '#' {
			if text.Len() == 0 {
				line.Number = l.number
			}
			line.Last = l.number
			text.WriteString(piece)
			if text.Len() > MaxLine {
				return Line{}, fmt.Errorf("%s, line %d: logical line is longer than %d bytes", l.path, line.Number, MaxLine)
			}
		}
		if text.Len() > 0 && (err == io.EOF || !l.continues()) {
			line.Text = text.String()
			return line, nil
		}
		if err == io.EOF {
			return Line{}, io.EOF
		}
	}
}

// continues tells whether the next physical line may belong to this logical
// line: it starts with white space, or is a comment or empty.
func (l *Lines) continues() bool {
	next, err := l.from.Peek(1)
	return err == nil && (next[0] == '#' || isSpace(next[0]))
}

// physical reads a line without its line feed. At the end of the file it
// returns io.EOF with what is left.
func (l *Lines) physical() (string, error) {
	var text []byte
	l.number++
	for {
		piece, err := l.from.ReadSlice('\n')
		text = append(text, piece...)
		l.read += len(piece)
		if len(text) > MaxLine || l.read > MaxFile {
			return "", fmt.Errorf("%s, line %d: file or line is too long", l.path, l.number)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(text) > 0, err == io.EOF:
			return string(text), io.EOF
		case err != nil:
			return "", fmt.Errorf("read %s: %w", l.path, err)
		}
		return string(text[:len(text)-1]), nil
	}
}

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }
