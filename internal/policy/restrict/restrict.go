// Package restrict decides about SMTP clients: the smtpd_*_restrictions lists,
// access(5) tables, and whether a recipient exists at all.
//
// New parses the lists once into nodes that know where they were written. A
// Checker evaluates them against a View of the session, stage by stage, in
// Postfix's order, and answers with a Verdict: the reply if the client is
// refused, what else is to be done with the message (Actions of the View), and
// which item of which list decided. It logs what Postfix logs about decisions
// ("NOQUEUE: reject: RCPT from ..."); sending replies is smtpd's.
//
// Broken machinery (a table, DNS, a policy server, the configuration) is
// always a 4xx answer. The lists of SMTPD_ACCESS_README are the specification.
package restrict

import (
	"context"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/dnsbl"
)

// NameStatus says what came of looking up a client's name.
type NameStatus uint8

const (
	NameOK     NameStatus = iota // found, and name and address agree
	NameTemp                     // DNS trouble
	NamePerm                     // there is none
	NameForged                   // the name does not resolve to the address
)

// Client is the SMTP client. Name and ReverseName are "unknown" when their
// status is not NameOK.
type Client struct {
	Name          string // verified name
	NameStatus    NameStatus
	ReverseName   string // unverified name
	ReverseStatus NameStatus
	Address       string // IP address text, without brackets or prefix
	Port          string
	ShowPort      bool // smtpd_client_port_logging
	Named         bool // by XCLIENT: the log of Client says so in the place of CONNECT
}

// NameAddr is "name[address]", as logs have it, with ":port" if that is wanted.
func (c *Client) NameAddr() string {
	if c.ShowPort {
		return c.Name + "[" + c.Address + "]:" + c.Port
	}
	return c.Name + "[" + c.Address + "]"
}

// TLS is what is known about the session's encryption; the zero value is none.
type TLS struct {
	Active            bool
	Trusted           bool // the client's certificate was verified
	HasCertificate    bool
	Subject, Issuer   string // common names of the client certificate
	Fingerprint       string
	PubkeyFingerprint string
	Protocol, Cipher  string
	KeySize           int
}

// View is what a session knows about itself. smtpd keeps one for the life of a
// connection, sets fields as they become known, and calls NewTransaction at
// the start of each transaction and at RSET; NewGreeting at HELO and EHLO.
// Not for concurrent use.
type View struct {
	Client        Client
	ServerAddress string
	ServerPort    string
	TLS           TLS
	SASLMethod    string
	SASLUsername  string // "" when not logged in
	SASLSender    string // from MAIL ... AUTH=

	Protocol string // "SMTP" or "ESMTP"
	Helo     string // "" before the greeting
	HeloVerb string // "HELO" or "EHLO"
	// IllegalPipelining is set when the client sent ahead of a reply that it
	// had to wait for.
	IllegalPipelining bool

	QueueID   string // "" before there is a queue entry
	Instance  string // same for all requests about one message (SMTPD_POLICY_README)
	Sender    addr.Address
	HasSender bool // MAIL was given; Sender may be null
	// Recipient is the one in question at RCPT and VRFY; at DATA and later the
	// first that was accepted.
	Recipient      addr.Address
	HasRecipient   bool
	RecipientCount int   // accepted so far
	Size           int64 // from MAIL ... SIZE=, or counted at the end of data
	ETRN           string

	// Actions is what access tables and policies asked for in this
	// transaction. It grows with each check, also with those that refuse.
	Actions Actions

	// Explain asks for a Trace in the verdicts.
	Explain bool

	memo memo
}

// Login is who is logged in, as the log lines of decisions end.
func (v *View) Login() string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{
		{"sasl_method", v.SASLMethod}, {"sasl_username", v.SASLUsername}, {"sasl_sender", v.SASLSender},
	} {
		if f.value != "" {
			b.WriteString(" " + f.name + "=" + f.value)
		}
	}
	return b.String()
}

// NewGreeting forgets what was decided about the previous HELO or EHLO.
func (v *View) NewGreeting() { v.memo.helo = pending{} }

// NewTransaction forgets sender, recipients and actions.
func (v *View) NewTransaction() {
	v.Sender, v.HasSender = "", false
	v.Recipient, v.HasRecipient, v.RecipientCount = "", false, 0
	v.Size, v.QueueID, v.Instance = 0, "", ""
	v.Actions = Actions{}
	v.memo.sender = pending{}
}

// Actions are the orders of access(5) and policy servers that concern the
// message as a whole.
type Actions struct {
	Hold     bool
	Discard  bool // accept and throw away
	Filter   string
	Redirect addr.Address
	BCC      []addr.Address
	Prepend  []string // header lines "Name: value"
}

// memo is what a Checker remembers in a View between stages.
type memo struct {
	// What DEFER_IF_PERMIT left behind at each stage.
	client, helo, sender pending
	routes               map[routeKey]routeResult
	dnsbl                map[string]dnsbl.Result
	unlistedSender       bool // looked up already
	unlistedRecipient    bool
}

// pending is a DEFER_IF_PERMIT or DEFER_IF_REJECT that waits for the decision.
type pending struct{ status dsn.Status }

func (p pending) active() bool { return !p.status.IsZero() }

// Verdict is the answer of one stage.
type Verdict struct {
	// Status is the refusal, zero when there is none. smtpd closes the
	// connection after codes 421 and 521. It has a Cause when broken machinery
	// or configuration is the reason and not what the client did.
	Status dsn.Status
	// Hangup asks to close the connection without a reply.
	Hangup bool
	// By is the item that decided; zero when no list did.
	By Item
	// Trace lists the evaluated items in order, when View.Explain is set.
	Trace []Step
}

// Refused reports whether the client is told no, for good or for now.
func (v *Verdict) Refused() bool { return !v.Status.IsZero() || v.Hangup }

// Item is one restriction and where it was written.
type Item struct {
	Param string // list: a parameter, or the access table with the result
	File  string // "" when not known, as for defaults
	Line  int
	Index int    // position in the list, from 0
	Text  string // "check_client_access hash:/etc/postfix/client"
}

// Step is one evaluated item.
type Step struct {
	Item   Item
	Depth  int // 0 for the stage's own list, more inside classes and results
	Result string
}

// Verifier is verify(8): it says whether mail to an address can be delivered.
type Verifier interface {
	// Query returns what is known and, if nothing is, starts a probe. An
	// error means that the service is out of order.
	Query(ctx context.Context, a addr.Address) (Verification, error)
}

// Verification is what verify(8) knows about an address.
type Verification struct {
	State VerificationState
	Text  string // why, for the reply
}

// VerificationState is the state of a probe.
type VerificationState uint8

const (
	VerifyPending VerificationState = iota // no result yet
	VerifyOK
	VerifyDeferred
	VerifyBounced
)
