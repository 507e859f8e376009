// Package dsn is the one answer value of the mail system: what is said about
// a client's command or a recipient's delivery.
//
// A Status joins an SMTP reply code, an RFC 3463 enhanced code and a text. The
// class of the enhanced code is always that of the reply code; it cannot be
// set. An expected mail outcome ("no such user", "try again") is a Status; a
// Go error means that machinery failed, and becomes a temporary Status at the
// boundary (see Trouble).
//
// Everything above the mail floor uses it.
package dsn

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Scope says how much a failure speaks for. The scheduler acts on it: a site
// failure stops deliveries to a destination, a recipient failure does not.
type Scope uint8

const (
	Recipient Scope = iota // this recipient only
	Message                // every recipient of this message
	Session                // this connection; another may work
	Site                   // the destination as a whole
)

// Remote is what a next hop or a command said, for delivery reports
// (RFC 3464 §2.3.6). The zero value means that nothing remote was involved.
type Remote struct {
	MTA      string // host name for Remote-MTA, "" for none
	DiagType string // "smtp", "x-unix" or "X-Postfix"
	Diag     string // Diagnostic-Code text, without its type
}

// Status is one answer. It is comparable; the zero value is "no answer yet".
type Status struct {
	Scope  Scope
	Remote Remote

	code            int
	subject, detail int
	text            string
	cause           error
}

// New makes a Status from a reply code (2xx, 4xx, 5xx), an enhanced code and a
// text without either. Only the subject and detail of enhanced count: the
// class follows the reply code. An enhanced code that cannot be read is X.0.0.
func New(code int, enhanced, text string) Status {
	_, subject, detail, _ := splitEnhanced(enhanced)
	return Status{code: code, subject: subject, detail: detail, text: text}
}

// Newf is New with a formatted text.
func Newf(code int, enhanced, format string, args ...any) Status {
	return New(code, enhanced, fmt.Sprintf(format, args...))
}

// FromEnhanced makes the Status of a delivery from its enhanced code alone:
// the reply code is 250, 450 or 550 after its class.
func FromEnhanced(enhanced, text string) Status {
	class, subject, detail, ok := splitEnhanced(enhanced)
	if !ok {
		class, subject, detail = 4, 0, 0
	}
	return Status{code: class*100 + 50, subject: subject, detail: detail, text: text}
}

// Trouble is the Status of failed machinery: 451 4.3.0, and err kept as the
// cause for the log. text is what the peer is told.
func Trouble(err error, text string) Status {
	s := New(451, "4.3.0", text)
	s.cause = err
	return s
}

// WithScope returns the same answer with another scope.
func (s Status) WithScope(scope Scope) Status { s.Scope = scope; return s }

// WithRemote returns the same answer with what the remote side said.
func (s Status) WithRemote(r Remote) Status { s.Remote = r; return s }

// WithText returns the same answer with another text.
func (s Status) WithText(text string) Status { s.text = text; return s }

// WithCode returns the same answer with another reply code; the class of the
// enhanced code follows it.
func (s Status) WithCode(code int) Status { s.code = code; return s }

// WithCause returns the same answer with the machinery failure behind it.
func (s Status) WithCause(err error) Status { s.cause = err; return s }

// Soft turns a permanent failure into a temporary one, as soft_bounce does
// (postconf(5) soft_bounce); other answers are returned unchanged.
func (s Status) Soft() Status {
	if s.code >= 500 {
		s.code -= 100
	}
	return s
}

// Code is the SMTP reply code, 0 for the zero Status.
func (s Status) Code() int { return s.code }

// Text is the human text, without codes.
func (s Status) Text() string { return s.text }

// Cause is the machinery failure behind the answer, for the log; may be nil.
func (s Status) Cause() error { return s.cause }

// Enhanced is the RFC 3463 code, as in "5.1.1".
func (s Status) Enhanced() string {
	return strconv.Itoa(s.code/100) + "." + strconv.Itoa(s.subject) + "." + strconv.Itoa(s.detail)
}

// IsZero reports whether there is no answer yet.
func (s Status) IsZero() bool { return s.code == 0 }

// OK reports success (2xx).
func (s Status) OK() bool { return s.code >= 200 && s.code < 300 }

// Temporary reports a 4xx answer: try again.
func (s Status) Temporary() bool { return s.code >= 400 && s.code < 500 }

// Permanent reports a 5xx answer: a definite no.
func (s Status) Permanent() bool { return s.code >= 500 }

// Reply is the SMTP reply line without its line end: "550 5.1.1 text".
func (s Status) Reply() string {
	return strconv.Itoa(s.code) + " " + s.Enhanced() + " " + s.text
}

// String is Reply, for logs and tests.
func (s Status) String() string { return s.Reply() }

// SplitEnhanced separates a leading enhanced code from the text behind it:
// "5.7.1 no" gives "5.7.1", "no". Without one, enhanced is "" and the text is
// returned unchanged (RFC 3463 §2; class 2, 4 or 5, up to three digits each).
func SplitEnhanced(text string) (enhanced, rest string) {
	word, rest, _ := strings.Cut(text, " ")
	if _, _, _, ok := splitEnhanced(word); !ok {
		return "", text
	}
	return word, strings.TrimLeft(rest, " ")
}

// ErrSyntax is returned by Parse for text that is not an SMTP reply line.
var ErrSyntax = errors.New("dsn: not a reply line")

// Parse reads one SMTP reply line, "550 5.1.1 text"; the enhanced code may be
// missing and is then X.0.0.
func Parse(line string) (Status, error) {
	if len(line) < 3 {
		return Status{}, ErrSyntax
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil || code < 200 || code > 599 {
		return Status{}, ErrSyntax
	}
	rest := line[3:]
	if rest != "" && rest[0] != ' ' && rest[0] != '-' {
		return Status{}, ErrSyntax
	}
	enhanced, text := SplitEnhanced(strings.TrimLeft(strings.TrimPrefix(rest, "-"), " "))
	return New(code, enhanced, text), nil
}

func splitEnhanced(s string) (class, subject, detail int, ok bool) {
	a, rest, ok1 := strings.Cut(s, ".")
	b, c, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || len(a) != 1 || !strings.Contains("245", a) {
		return 0, 0, 0, false
	}
	subject, ok1 = smallNumber(b)
	detail, ok2 = smallNumber(c)
	if !ok1 || !ok2 {
		return 0, 0, 0, false
	}
	return int(a[0] - '0'), subject, detail, true
}

// smallNumber reads one to three digits.
func smallNumber(s string) (int, bool) {
	if len(s) < 1 || len(s) > 3 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
