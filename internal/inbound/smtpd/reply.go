package smtpd

import (
	"strconv"
	"strings"

	"posthaste/internal/mail/dsn"
)

// errClass is a set of kinds of trouble, those of notify_classes.
type errClass uint8

const (
	errBounce errClass = 1 << iota
	errPolicy
	errProtocol
	errResource
	errSoftware
)

var classNames = [...]string{"bounce", "policy", "protocol", "resource", "software"}

// parseClasses reads notify_classes; unknown words and those of other roles
// are nothing to us.
func parseClasses(text string) errClass {
	var set errClass
	for _, word := range strings.FieldsFunc(text, isListSeparator) {
		for i, name := range classNames {
			if strings.EqualFold(word, name) {
				set |= 1 << i
			}
		}
	}
	return set
}

// names are the words of the set.
func (c errClass) names() []string {
	var words []string
	for i, name := range classNames {
		if c&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return words
}

func isListSeparator(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }

// reply is what a handler answers. The zero reply is none.
type reply struct {
	code  string   // "250"
	lines []string // with enhanced codes
	class errClass // trouble to remember for the postmaster
	close bool     // end the session after it
	// forgiven: a refusal that is not held against the client.
	forgiven bool
	// then goes on after the reply was written, and makes the next one:
	// message content follows a 354.
	then func() reply
	err  error // the connection broke: nothing is written
}

// say makes a reply of one line, "250 2.0.0 Ok".
func say(text string) reply {
	return reply{code: text[:3], lines: []string{text[4:]}}
}

// statusReply makes a reply of an answer value.
func statusReply(s dsn.Status) reply {
	return reply{code: strconv.Itoa(s.Code()), lines: []string{s.Enhanced() + " " + s.Text()}}
}

// mark adds a class of trouble.
func (r reply) mark(c errClass) reply { r.class |= c; return r }

func (r reply) isZero() bool { return r.code == "" && r.err == nil }

// failed reports whether the command did not succeed.
func (r reply) failed() bool { return r.err != nil || (r.code != "" && r.code[0] >= '4') }

// String is the reply on one line, as it is looked up and logged.
func (r reply) String() string { return r.code + " " + strings.Join(r.lines, "; ") }

// soften turns 5xx into 4xx (postconf(5) soft_bounce).
func (r reply) soften() reply {
	if r.code == "" || r.code[0] != '5' {
		return r
	}
	r.code = "4" + r.code[1:]
	lines := make([]string, len(r.lines))
	for i, line := range r.lines {
		if strings.HasPrefix(line, "5.") {
			line = "4" + line[1:]
		}
		lines[i] = line
	}
	r.lines = lines
	return r
}

// replaced is another reply in the place of r; text that is none changes
// nothing.
func (r reply) replaced(text string) (reply, bool) {
	if len(text) < 4 || strings.Trim(text[:3], "0123456789") != "" || text[0] < '4' || text[0] > '5' || text[3] != ' ' {
		return r, false
	}
	r.code, r.lines = text[:3], []string{text[4:]}
	return r, true
}
