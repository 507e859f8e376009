// Package envelope is a message's envelope: sender, recipients, DSN
// parameters, where it came from and what is to be done with it.
//
// Entrances (smtpd, pickup, qmqpd) fill it, cleanup completes it, the queue
// keeps it, the queue manager and the delivery agents read it. A committed
// envelope is never changed; progress is kept beside it (see package queue).
package envelope

import (
	"time"

	"posthaste/internal/mail/addr"
)

// Notify is the set of RFC 3461 NOTIFY conditions; zero means "not given".
type Notify uint8

const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Recipient is one addressee.
type Recipient struct {
	Address  addr.Address // where it goes, after all rewriting and expansion
	Original addr.Address // as it was before alias expansion, for X-Original-To and orig_to=; "" if the same is unknown
	ORCPT    string       // RFC 3461 original recipient "type;address", decoded; "" if none
	Notify   Notify
}

// ORCPT is the original recipient that stands for an address for which the
// client gave none (RFC 3461 §4.2; RFC 6533 §3 for addresses beyond ASCII).
func ORCPT(a addr.Address) string {
	if !a.IsASCII() {
		return "utf-8;" + a.External()
	}
	return "rfc822;" + a.External()
}

// Return says how much of a message a report may return (RFC 3461 RET).
type Return uint8

const (
	ReturnDefault Return = iota
	ReturnFull
	ReturnHeaders
)

// Encoding is the declared body type (RFC 6152 BODY).
type Encoding uint8

const (
	EncodingUnknown Encoding = iota
	Encoding7bit
	Encoding8bit
)

// Client describes the SMTP client a message came from, as far as known; the
// fields of XFORWARD (XFORWARD_README). Local submissions leave it empty.
type Client struct {
	Name        string // verified host name, or "unknown"
	ReverseName string
	Address     string // IP address text without brackets
	Port        string
	Helo        string
	Protocol    string // SMTP or ESMTP
	// ServerAddress and ServerPort are our end of the connection, for the
	// milter and policy attributes of the same names; only in Envelope.Client.
	ServerAddress, ServerPort string
}

// Login is the SASL login of the submitting session.
type Login struct {
	Method, Username, Sender string
}

// Trace says which report about delivery attempts the submitter asked for.
type Trace uint8

const (
	TraceNone   Trace = iota
	TraceReport       // sendmail -v: deliver and report
	TraceVerify       // sendmail -bv: do not deliver, report
	TraceProbe        // verify(8) probe: do not deliver, tell verify
)

// Envelope is everything about a message but its content.
type Envelope struct {
	Sender     addr.Address
	FullName   string // of the sender, for a missing From: header (pickup)
	Recipients []Recipient

	Return   Return
	EnvID    string // RFC 3461 ENVID, decoded
	Encoding Encoding
	SMTPUTF8 bool   // the transaction asked for RFC 6531
	Verp     string // VERP delimiters, "" for none

	Arrival time.Time // start of the transaction
	Client  Client
	Login   Login
	Origin  Origin // who it was forwarded for, set by XFORWARD; else as Client
	Inject  string // entrance: "smtpd", "pickup", "qmqpd", "bounce", "local"

	RewriteContext string // "local" or "remote" (postconf(5) local_header_rewrite_clients)
	Trace          Trace
	Hold           bool
	HoldReason     string
	Filter         string       // content_filter or FILTER action, transport:nexthop
	Redirect       addr.Address // REDIRECT action: replaces all recipients
	NoMilters      bool
}

// Origin names the first client and queue id of mail that came back from a
// content filter (XFORWARD).
type Origin struct {
	Client
	QueueID string
}
