// Package smtpproto is the SMTP wire format, both directions: command and
// reply lines, addresses in commands, xtext, the DATA and BDAT byte streams.
//
// Inside the program message content has lines ended by LF; on the wire they
// end in CRLF and leading dots are doubled. Reader turns wire into content,
// DataWriter content into wire. Parsers are pure functions. Nothing here knows
// about sessions, policy or time; every length is bounded by the caller or by
// a constant of this package.
//
// smtpd reads commands and writes replies with it, the smtp and lmtp clients
// the other way round.
package smtpproto

import "errors"

const (
	// MaxDiscard is how much of one over-long line is read and thrown away
	// before the peer is given up.
	MaxDiscard = 64 << 10

	smallBuffer = 4 << 10  // what an idle session holds
	largeBuffer = 64 << 10 // what message content is read with
	maxHeldCR   = 64       // CRs in a row that may belong to a line end
)

var (
	// ErrEndless is a line that does not end within MaxDiscard after its limit.
	ErrEndless = errors.New("smtpproto: endless line")
	// ErrSyntax is text that is not what the grammar wants.
	ErrSyntax = errors.New("smtpproto: syntax error")
)

// Newline says which line ends the DATA stream is read with
// (postconf(5) smtpd_forbid_bare_newline).
type Newline uint8

const (
	// Strict ends a message at CRLF.CRLF only; other lines may end in LF. A
	// lone dot with or after a bare LF is dropped.
	Strict Newline = iota
	// Lenient treats LF as CRLF everywhere, also around the final dot.
	Lenient
)
