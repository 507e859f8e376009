// Package sasl asks an authentication server about SMTP clients: Dovecot's
// auth service, over the protocol of its clients (version 1), or saslauthd for
// the mechanisms PLAIN and LOGIN (SASL_README).
//
// It promises that only a server's own "no" is a failure; a server that is not
// there, is slow, breaks off or talks nonsense gives a temporary answer. Every
// wait and every line has a limit, and nothing that a client sends can become
// another field of a request. The SMTP server calls it, through its package
// auth; what is said to the SMTP client is decided there.
package sasl

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// exchangeTimeout is the patience with an authentication server, for a
// connection and for each answer.
const exchangeTimeout = 10 * time.Second

// Outcome is how far an authentication has come.
type Outcome uint8

const (
	More      Outcome = iota // the client has to answer Step.Challenge
	Done                     // Step.Username is logged in
	Failed                   // the server says no
	Temporary                // nobody can tell
)

// Step is what follows from a client's response.
type Step struct {
	Outcome   Outcome
	Challenge string // base64, for More
	Username  string // for Done; for Failed if the server told
	Reason    string // for Failed and Temporary, "" if the server gave none
}

// Request begins an authentication.
type Request struct {
	Mechanism string // one of Mechanisms, upper case
	Initial   string // base64, "" with HasInitial for an empty response
	// HasInitial tells an empty initial response from none.
	HasInitial bool
	Service    string // "smtp"
	Peer       Peer
}

// Peer is the connection that the client authenticates on. Empty fields are
// not known.
type Peer struct {
	ServerAddress, ServerPort string
	ClientAddress, ClientPort string
	Encrypted                 bool
	Certified                 bool // with a client certificate that was verified
}

// Conversation is one authentication under way.
type Conversation interface {
	// Next passes a base64 response on.
	Next(ctx context.Context, response string) Step
	// Close gives the conversation up, if it is not over.
	Close()
}

// Authenticator is an authentication server. Safe for concurrent use.
type Authenticator interface {
	// Mechanisms lists what the server offers now. An error says why it
	// cannot be asked.
	Mechanisms(ctx context.Context) ([]Mechanism, error)
	// Begin starts an authentication; the conversation is nil unless there is
	// More to come.
	Begin(ctx context.Context, r Request) (Conversation, Step)
	Close() error
}

// Property is a set of properties of a mechanism.
type Property uint8

const (
	Anonymous Property = 1 << iota
	Plaintext
	Dictionary
	Active
	ForwardSecrecy
	MutualAuth
	Private
)

var propertyNames = map[string]Property{
	"anonymous": Anonymous, "plaintext": Plaintext, "dictionary": Dictionary, "active": Active,
	"forward-secrecy": ForwardSecrecy, "mutual-auth": MutualAuth, "private": Private,
}

// Mechanism is one way to authenticate, as in "PLAIN".
type Mechanism struct {
	Name       string
	Properties Property
}

// Options are the security options of postconf(5)
// smtpd_sasl_security_options.
type Options struct{ refused, required Property }

// ParseOptions reads security options. The error is the text of Postfix.
func ParseOptions(text string) (Options, error) {
	var o Options
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		switch strings.ToLower(word) {
		case "noanonymous":
			o.refused |= Anonymous
		case "noplaintext":
			o.refused |= Plaintext
		case "nodictionary":
			o.refused |= Dictionary
		case "noactive":
			o.refused |= Active
		case "forward_secrecy":
			o.required |= ForwardSecrecy
		case "mutual_auth":
			o.required |= MutualAuth
		default:
			return o, fmt.Errorf("unknown xsasl_dovecot_server_create value \"%s\" in \"%s\"", word, text)
		}
	}
	return o, nil
}

// Allow reports whether the options let a mechanism be used.
func (o Options) Allow(m Mechanism) bool {
	return m.Properties&(o.refused|Private) == 0 && m.Properties&o.required == o.required
}

// ValidBase64 reports whether text has only characters of base64: a quick
// check that keeps anything else out of requests.
func ValidBase64(text string) bool {
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '=':
		default:
			return false
		}
	}
	return true
}
