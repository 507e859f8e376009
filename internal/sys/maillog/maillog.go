// Package maillog writes the mail log: lines as Postfix writes them.
//
// A Logger has a tag such as "postfix/smtpd" and hands finished lines to a
// Sink (syslog, maillog_file, standard output). Text from outside is made
// printable here, once. It never blocks a session on a slow disk for long and
// never fails: what cannot be written is counted.
package maillog

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Severity orders lines as syslog does.
type Severity uint8

const (
	Info Severity = iota
	Warning
	Error
	Fatal
	Panic
)

// prefixes of the line text, as in msg_output of Postfix: "warning: ...".
var prefixes = [...]string{"", "warning: ", "error: ", "fatal: ", "panic: "}

// Prefix is what precedes the text of a line, as in "warning: ".
func (s Severity) Prefix() string { return prefixes[s] }

// Line is one log line without its time stamp and host.
type Line struct {
	Time     time.Time
	Severity Severity
	Tag      string // "postfix/smtpd"
	PID      int
	Text     string // printable, with its severity prefix
}

// Sink takes finished lines; safe for concurrent use.
type Sink interface{ Write(Line) }

// Logger writes lines under one tag. The zero value and nil discard.
type Logger struct {
	sink Sink
	tag  string
	pid  int
	now  func() time.Time
}

// New makes a logger. now may be nil for the system clock.
func New(sink Sink, tag string, pid int, now func() time.Time) *Logger {
	if now == nil {
		now = time.Now
	}
	return &Logger{sink: sink, tag: tag, pid: pid, now: now}
}

// With returns a logger to the same sink under another tag.
func (l *Logger) With(tag string) *Logger {
	if l == nil {
		return nil
	}
	other := *l
	other.tag = tag
	return &other
}

// Tag is the logger's tag.
func (l *Logger) Tag() string {
	if l == nil {
		return ""
	}
	return l.tag
}

// Infof logs a plain line.
func (l *Logger) Infof(format string, args ...any) { l.write(Info, format, args) }

// Warnf logs a line with "warning: ".
func (l *Logger) Warnf(format string, args ...any) { l.write(Warning, format, args) }

// Errorf logs a line with "error: ".
func (l *Logger) Errorf(format string, args ...any) { l.write(Error, format, args) }

// Fatalf logs a line with "fatal: "; ending the session or process is the
// caller's business.
func (l *Logger) Fatalf(format string, args ...any) { l.write(Fatal, format, args) }

// Panicf logs a line with "panic: ".
func (l *Logger) Panicf(format string, args ...any) { l.write(Panic, format, args) }

func (l *Logger) write(s Severity, format string, args []any) {
	if l == nil || l.sink == nil {
		return
	}
	text := Printable(s.Prefix() + fmt.Sprintf(format, args...))
	l.sink.Write(Line{Time: l.now(), Severity: s, Tag: l.tag, PID: l.pid, Text: text})
}

// Printable replaces control characters and bytes that are not UTF-8 by "?",
// as Postfix's printable() does.
func Printable(s string) string {
	clean := func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if clean(r) {
			return '?'
		}
		return r
	}, s)
}
