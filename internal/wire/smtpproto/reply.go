package smtpproto

import (
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/mail/dsn"
)

const (
	maxReplyLines = 1000     // lines of one reply that are read at all
	maxReplyKept  = 16 << 10 // bytes of reply text that are kept
)

// Reply is one reply of a server.
type Reply struct {
	Code     int      // 200 to 599; 0 for the zero Reply
	Enhanced string   // enhanced code of the last line that had one, or ""
	Lines    []string // texts without the code; with their enhanced codes
}

// ReadReply reads one reply, of one or more lines. limit bounds a line; text
// beyond a fixed total is dropped, more than a fixed number of lines is
// ErrEndless. A line that is no reply gives an error that wraps ErrSyntax; the
// Reply then holds the offending line.
func ReadReply(r *Reader, limit int) (Reply, error) {
	var reply Reply
	kept := 0
	for range maxReplyLines {
		line, err := r.ReadLine(limit)
		if err != nil {
			return reply, err
		}
		code, last, text, ok := splitReply(string(line.Text))
		if !ok {
			return Reply{Lines: []string{string(line.Text)}}, fmt.Errorf("%w: not a reply: %.100q", ErrSyntax, line.Text)
		}
		reply.Code = code
		if enhanced, _ := dsn.SplitEnhanced(text); enhanced != "" && int(enhanced[0]-'0') == code/100 {
			reply.Enhanced = enhanced
		}
		if kept += len(text); kept <= maxReplyKept {
			reply.Lines = append(reply.Lines, text)
		}
		if last {
			return reply, nil
		}
	}
	return reply, ErrEndless
}

// splitReply divides "250-text" or "250 text".
func splitReply(line string) (code int, last bool, text string, ok bool) {
	if len(line) < 3 || strings.Trim(line[:3], "0123456789") != "" || line[0] < '2' || line[0] > '5' {
		return 0, false, "", false
	}
	code, _ = strconv.Atoi(line[:3])
	switch {
	case len(line) == 3:
		return code, true, "", true
	case line[3] == '-':
		return code, false, line[4:], true
	case line[3] == ' ':
		return code, true, line[4:], true
	}
	return 0, false, "", false
}

// String is the reply as one line: its code, and the texts joined by blanks.
func (r Reply) String() string {
	return strings.TrimRight(strconv.Itoa(r.Code)+" "+strings.Join(r.Lines, " "), " ")
}

// Status is the reply as an answer value; without an enhanced code it is X.0.0.
func (r Reply) Status() dsn.Status {
	_, text := dsn.SplitEnhanced(strings.Join(r.Lines, " "))
	return dsn.New(r.Code, r.Enhanced, text)
}

// AppendReply adds a reply of one or more lines to dst, each with the code and
// CRLF. Control characters in texts become "?": a reply never ends early.
func AppendReply(dst []byte, code string, lines []string) []byte {
	for i, text := range lines {
		dst = append(dst, code...)
		if i < len(lines)-1 {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		for j := range len(text) {
			if c := text[j]; c < ' ' || c == 0x7f {
				dst = append(dst, '?')
			} else {
				dst = append(dst, c)
			}
		}
		dst = append(dst, "\r\n"...)
	}
	return dst
}
