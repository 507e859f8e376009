package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"posthaste/internal/delivery/smtp/outgoing"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/wire/smtpproto"
)

// window is how many commands are under way at once with PIPELINING: replies
// to more could fill the server's send buffer while we do not read.
const window = 50

// transaction is one message on its way through one session.
type transaction struct {
	*session
	delivery *delivery
	rcpts    []transport.Recipient // this session's recipients
	accepted []transport.Recipient
	refused  bool // MAIL or DATA was refused: recipients are answered for
	dataOK   bool // 354 was received
	wasReset bool // RSET was sent

	sender    addr.Address   // as the server is told
	addresses []addr.Address // of rcpts, likewise
}

// step is one command with its time limit and what to do with its reply.
type step struct {
	command string
	limit   time.Duration
	phase   string // for "lost connection ... while"
	take    func(reply)
}

// run sends the message. A siteError means that the connection broke; every
// recipient without an answer is then tried elsewhere.
func (t *transaction) run(ctx context.Context) error {
	if t.lacksUTF8() {
		return t.withoutUTF8()
	}
	status := t.unsuitable()
	if status.IsZero() {
		status = t.generic(ctx)
	}
	if !status.IsZero() {
		t.delivery.failAll(t.session, t.rcpts, status)
		return nil
	}
	if t.has("PIPELINING") {
		if err := t.pipeline(t.steps()); err != nil {
			return err
		}
	} else if err := t.oneByOne(t.steps()); err != nil {
		return err
	}
	switch {
	case t.wasReset:
		return nil
	case !t.dataOK:
		return t.reset()
	}
	return t.content(ctx)
}

// unsuitable is a message that this server cannot take.
func (t *transaction) unsuitable() dsn.Status {
	r := t.delivery.request
	if t.sizeLimit > 0 && r.Size > t.sizeLimit {
		return dsn.Newf(550, "5.3.4", "message size %d exceeds size limit %d of server %s", r.Size, t.sizeLimit, t.where)
	}
	return dsn.Status{}
}

func (t *transaction) lacksUTF8() bool { return !t.has("SMTPUTF8") && t.delivery.needsUTF8() }

// withoutUTF8 leaves the message to a server that has SMTPUTF8 (RFC 6531 §3.1).
func (t *transaction) withoutUTF8() error {
	status := dsn.Newf(550, "5.6.7", "message requires SMTPUTF8, but no server was found that supports SMTPUTF8. "+
		"The last attempted server was %s", t.where)
	t.session.tls = t.delivery.tls // TLS was of no concern
	return siteError{status.WithScope(dsn.Message)}
}

// steps are the commands up to DATA.
func (t *transaction) steps() []step {
	c := t.agent.config
	steps := append(t.xforward(), step{t.mailCommand(), c.MailTimeout, "sending MAIL FROM", t.takeMail})
	for i, r := range t.rcpts {
		steps = append(steps, step{t.rcptCommand(t.addresses[i], r.Recipient), c.RcptTimeout, "sending RCPT TO",
			func(reply reply) { t.takeRcpt(r, reply) }})
	}
	if t.trial() {
		return append(steps, step{"RSET", c.RsetTimeout, "sending RSET", func(reply) { t.wasReset = true }})
	}
	return append(steps, step{"DATA", c.DataInitTimeout, "sending DATA command", t.takeData})
}

// trial: the recipients are asked for, but nothing is sent (verify(8) probes,
// sendmail -bv).
func (t *transaction) trial() bool {
	trace := t.delivery.request.Envelope.Trace
	return trace == envelope.TraceVerify || trace == envelope.TraceProbe
}

func (t *transaction) takeMail(r reply) {
	if !r.ok() {
		t.refused = true
		t.delivery.failAll(t.session, t.rcpts, t.inReply(r, "MAIL FROM command"))
	}
}

func (t *transaction) takeRcpt(rcpt transport.Recipient, r reply) {
	switch {
	case t.refused:
	case r.ok() && t.trial():
		t.delivery.sent(t.session, rcpt, r)
	case r.ok():
		t.accepted = append(t.accepted, rcpt)
	default:
		t.delivery.fail(t.session, rcpt, t.inReply(r, "RCPT TO command"))
	}
}

func (t *transaction) takeData(r reply) {
	switch {
	case r.Code == 354:
		t.dataOK = true
	case len(t.accepted) > 0:
		t.delivery.failAll(t.session, t.accepted, t.inReply(r, "DATA command"))
		t.accepted = nil
	}
}

// oneByOne waits for each reply, and leaves out what has become pointless.
func (t *transaction) oneByOne(steps []step) error {
	for i, s := range steps {
		if t.refused || i == len(steps)-1 && len(t.accepted) == 0 && !t.trial() {
			return nil
		}
		r, err := t.conn.ask(s.limit, "%s", s.command)
		if err != nil {
			return t.broken(err, s.phase)
		}
		s.take(r)
	}
	return nil
}

// pipeline sends commands without waiting (RFC 2920), a window at a time.
func (t *transaction) pipeline(steps []step) error {
	for len(steps) > 0 {
		batch := steps[:min(window, len(steps))]
		steps = steps[len(batch):]
		t.conn.within(batch[0].limit)
		for _, s := range batch {
			t.conn.command("%s", s.command)
		}
		for _, s := range batch {
			t.conn.within(s.limit)
			r, err := t.conn.receive()
			if err != nil {
				return t.broken(err, s.phase)
			}
			s.take(r)
		}
	}
	return nil
}

// reset gives up a transaction that did not reach the content.
func (t *transaction) reset() error {
	if _, err := t.conn.ask(t.agent.config.RsetTimeout, "RSET"); err != nil {
		return t.broken(err, "sending RSET")
	}
	return nil
}

// content sends the message and takes the final replies. Without an accepted
// recipient only the dot goes out, as the server waits for it.
func (t *transaction) content(ctx context.Context) error {
	c := t.agent.config
	if len(t.accepted) > 0 {
		t.conn.within(c.DataXferTimeout)
		if err := t.conn.out.Flush(); err != nil {
			return t.cutOff(err)
		}
		t.conn.out.Reset(pacedWriter{t.conn, c.DataXferTimeout})
		defer func() { t.conn.out.Reset(t.conn) }()
		data := smtpproto.NewDataWriter(t.conn.out, c.LineLimit)
		r := t.delivery.request
		err := t.agent.outgoing.Copy(ctx, r.ID, t.limit(), data, r.Open())
		if err == nil {
			err = data.Close()
		}
		if err == nil {
			err = t.conn.out.Flush()
		}
		if err != nil {
			return t.cutOff(err)
		}
	} else {
		t.conn.command(".")
	}
	const phase = "sending end of data -- message may be sent more than once"
	t.conn.within(c.DataDoneTimeout)
	if !t.agent.lmtp || len(t.accepted) == 0 {
		r, err := t.conn.receive()
		if err != nil {
			return t.broken(err, phase)
		}
		t.finish(t.accepted, r)
		return nil
	}
	for i, rcpt := range t.accepted { // RFC 2033 §4.2: a reply for each
		t.conn.within(c.DataDoneTimeout)
		r, err := t.conn.receive()
		if err != nil {
			t.accepted = t.accepted[i:]
			return t.broken(err, phase)
		}
		t.finish([]transport.Recipient{rcpt}, r)
	}
	return nil
}

// limit is how the server wants text. The client's word that there are only
// seven bits is believed.
func (t *transaction) limit() outgoing.Limit {
	if t.has("8BITMIME") || t.delivery.request.Envelope.Encoding == envelope.Encoding7bit {
		return outgoing.EightBit
	}
	return outgoing.SevenBit
}

// finish answers for recipients after the final dot.
func (t *transaction) finish(rcpts []transport.Recipient, r reply) {
	if !r.ok() {
		t.delivery.failAll(t.session, rcpts, t.inReply(r, "end of DATA command"))
		return
	}
	for _, rcpt := range rcpts {
		t.delivery.sent(t.session, rcpt, r)
	}
}

// cutOff ends the connection in mid-message: the server must not take what
// was sent so far for the whole.
func (t *transaction) cutOff(err error) error {
	var ours outgoing.SourceError
	if errors.As(err, &ours) {
		t.lost = true
		return siteError{dsn.Trouble(err, "queue file read error").WithScope(dsn.Message)}
	}
	return t.broken(err, "sending message body")
}

// pacedWriter gives each write of the content its own time limit.
type pacedWriter struct {
	conn  *conn
	limit time.Duration
}

func (w pacedWriter) Write(p []byte) (int, error) {
	w.conn.within(w.limit)
	return w.conn.Conn.Write(p)
}

func (t *transaction) mailCommand() string {
	r := t.delivery.request
	e := r.Envelope
	var b strings.Builder
	fmt.Fprintf(&b, "MAIL FROM:<%s>", t.sender.External())
	if t.has("SIZE") {
		fmt.Fprintf(&b, " SIZE=%d", r.Size)
	}
	if t.has("8BITMIME") {
		switch e.Encoding {
		case envelope.Encoding8bit:
			b.WriteString(" BODY=8BITMIME")
		case envelope.Encoding7bit:
			b.WriteString(" BODY=7BIT")
		}
	}
	if t.has("DSN") {
		if e.EnvID != "" {
			b.WriteString(" ENVID=" + smtpproto.EncodeXtext(e.EnvID))
		}
		if e.Return != envelope.ReturnDefault {
			b.WriteString(" RET=" + smtpproto.FormatReturn(e.Return))
		}
	}
	if t.has("SMTPUTF8") && t.delivery.needsUTF8() {
		b.WriteString(" SMTPUTF8")
	}
	return b.String()
}

func (t *transaction) rcptCommand(to addr.Address, r envelope.Recipient) string {
	command := "RCPT TO:<" + to.External() + ">"
	if !t.has("DSN") {
		return command
	}
	switch {
	case r.ORCPT != "":
		kind, address, _ := strings.Cut(r.ORCPT, ";")
		command += " ORCPT=" + kind + ";" + smtpproto.EncodeXtext(address)
	case r.Original != "":
		command += " ORCPT=rfc822;" + smtpproto.EncodeXtext(r.Original.External())
	}
	if r.Notify != 0 {
		command += " NOTIFY=" + smtpproto.FormatNotify(r.Notify)
	}
	return command
}
