package smtpd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"posthaste/internal/mail/envelope"
	"posthaste/internal/wire/smtpproto"
)

const (
	// afterMessage is the state after the end of a message.
	afterMessage = "END-OF-MESSAGE"
	// maxSkip is how much of a refused chunk is read when messages have no
	// size limit.
	maxSkip = 64 << 20
	// tinyChunk is a BDAT chunk that counts as a junk command: no client
	// needs such, and a million of them would keep us busy with nothing.
	tinyChunk = 64
)

// ready checks that message content may follow.
func (s *session) ready() reply {
	switch {
	case s.txn.accepted > 0:
		return reply{}
	case s.txn.active:
		return say("554 5.5.1 Error: no valid recipients")
	}
	return syntaxError("503 5.5.1 Error: need RCPT command")
}

// data answers DATA and then reads the message.
func (s *session) data(args []smtpproto.Token) reply {
	if s.txn.chunks != nil || s.txn.failed {
		return syntaxError("503 5.5.1 Error: DATA after BDAT")
	}
	if r := s.ready(); !r.isZero() {
		return r
	}
	if len(args) != 1 {
		return syntaxError("501 5.5.4 Syntax: DATA")
	}
	if r := s.judge(Checker.Data); !r.isZero() {
		return r
	}
	r := say("354 End data with <CR><LF>.<CR><LF>")
	r.then = s.readData
	return r
}

// readData reads content up to the final dot.
func (s *session) readData() reply {
	s.conn.where = "DATA content"
	policy := smtpproto.Strict
	if s.conn.bare == bareNo {
		policy = smtpproto.Lenient
	}
	d := s.in.Data(policy)
	in := s.startInflow()
	in.received = func() int64 { return d.Size }
	if err := s.transferContent(d.Next, in); err != nil {
		return reply{err: err}
	}
	in.bare = d.BareLF
	return s.finish("250 2.0.0 Ok: queued as " + string(s.txn.queueID()))
}

// transferContent hands content on chunk by chunk.
func (s *session) transferContent(next func() ([]byte, error), in *inflow) error {
	s.transfer = true
	defer func() { s.transfer = false }()
	s.deadline = s.srv.deps.Now().Add(s.set.Timeout)
	for {
		chunk, err := next()
		if len(chunk) > 0 {
			s.accept(in, chunk)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// accept takes content as far as there is not too much of it: the rest is only
// read.
func (s *session) accept(in *inflow, chunk []byte) {
	if in.tooBig || s.view.Actions.Discard {
		return
	}
	if limit := s.set.MessageLimit; limit > 0 && in.received() > limit {
		in.tooBig = true
		s.log.Warnf("%s: queue file size limit exceeded", s.label())
		chunk = chunk[:min(int64(len(chunk)), max(limit-in.taken, 0))]
	}
	in.taken += int64(len(chunk))
	_, _ = in.to.Write(chunk) // an error is told by Commit
}

// startInflow writes what we put before the content.
func (s *session) startInflow() *inflow {
	var head []byte
	for _, line := range s.view.Actions.Prepend {
		head = append(append(head, line...), '\n')
	}
	head = s.received(head)
	s.txn.sub.Trace(s.ctx, head)
	s.txn.inflow = &inflow{to: s.txn.sub, taken: int64(len(head))}
	return s.txn.inflow
}

// bdat reads one chunk of a message.
func (s *session) bdat(args []smtpproto.Token) reply {
	if s.conn.discard&smtpproto.KeywordCHUNKING != 0 {
		return syntaxError("521 5.5.1 Error: command not implemented")
	}
	size, last, ok := parseBdat(args)
	if !ok {
		s.log.Warnf("%s: malformed BDAT command syntax from %s: %.100s", s.label(), s.conn.nameAddr, smtpproto.JoinTokens(args))
		return syntaxError("521 5.5.4 Syntax: BDAT count [LAST]")
	}
	if size < tinyChunk && !last {
		s.junk()
	}
	if s.txn.failed {
		return s.skipChunk(size, last, syntaxError(fmt.Sprintf("551 5.0.0 Discarded %d bytes after earlier error", size)))
	}
	if r := s.ready(); !r.isZero() {
		return s.skipChunk(size, last, r)
	}
	if s.txn.chunks == nil {
		if r := s.judge(Checker.Data); !r.isZero() {
			return s.skipChunk(size, last, r)
		}
	}
	if s.set.MessageLimit > 0 && s.set.MessageLimit-s.txn.inflow.size() < size {
		s.log.Warnf("%s: BDAT request from %s exceeds message size limit", s.label(), s.conn.nameAddr)
		return s.skipChunk(size, last, say("552 5.3.4 Chunk exceeds message size limit").mark(errPolicy))
	}
	return s.readChunk(size, last)
}

// parseBdat reads "BDAT count [LAST]".
func parseBdat(args []smtpproto.Token) (size int64, last, ok bool) {
	if len(args) < 2 || len(args) > 3 || strings.Trim(args[1].Text, "0123456789") != "" {
		return 0, false, false
	}
	last = len(args) == 3
	if last && !strings.EqualFold(args[2].Text, "LAST") {
		return 0, false, false
	}
	size, err := strconv.ParseInt(args[1].Text, 10, 64)
	return size, last, err == nil
}

// readChunk takes one chunk, and ends the message with the last.
func (s *session) readChunk(size int64, last bool) reply {
	s.conn.where = "BDAT content"
	if s.txn.chunks == nil {
		chunks := s.in.Chunks()
		s.txn.chunks = chunks
		s.startInflow().received = func() int64 { return chunks.Size }
	}
	in, c := s.txn.inflow, s.txn.chunks
	c.Begin(size)
	if err := s.transferContent(c.Next, in); err != nil {
		return reply{err: err}
	}
	if !last {
		s.conn.where = "BDAT"
		return say(fmt.Sprintf("250 2.0.0 Ok: %d bytes", size))
	}
	if rest := c.Finish(); rest != nil {
		s.accept(in, rest)
	}
	in.bare = c.BareLF
	return s.finish(fmt.Sprintf("250 2.0.0 Ok: %d bytes queued as %s", c.Size, s.txn.queueID()))
}

// skipChunk refuses a chunk after reading it. The message is lost; further
// chunks are discarded until the last.
func (s *session) skipChunk(size int64, last bool, r reply) reply {
	if s.txn.sub != nil {
		s.txn.sub.Abort()
		s.txn.sub = nil
	}
	limit := s.set.MessageLimit * 2
	if limit <= 0 {
		limit = maxSkip
	}
	c := s.in.Chunks()
	c.Begin(min(size, limit))
	r.close = r.close || size > limit
	if err := s.transferContent(c.Next, &inflow{tooBig: true}); err != nil {
		return reply{err: err}
	}
	if last {
		s.endTransaction()
		s.forget(s.set.HistoryFlush)
	} else {
		s.txn = txn{active: s.txn.active, sender: s.txn.sender, failed: true}
	}
	return r
}

// finish ends the message: the restrictions have their last word, and cleanup
// commits it. ok is the reply on success.
func (s *session) finish(ok string) reply {
	s.conn.where = afterMessage
	in := s.txn.inflow
	s.view.Size = in.size()
	r := s.commit(in, ok)
	if !r.failed() {
		s.conn.errors, s.conn.junk, s.conn.trouble = 0, 0, 0
	}
	s.conn.trouble |= r.class
	s.forget(s.set.HistoryFlush)
	s.endTransaction()
	return r
}

func (s *session) commit(in *inflow, ok string) reply {
	if in.bare > 0 && s.conn.bare >= bareNote {
		s.conn.bareLines += in.bare
		if s.conn.bare == bareReject {
			s.logReject(afterMessage, "bare <LF> received")
			return s.bareRefusal()
		}
	}
	if in.tooBig {
		return say("552 5.3.4 Error: message file too big").mark(errBounce)
	}
	if r := s.judge(Checker.EndOfData); !r.isZero() {
		return r
	}
	if s.view.Actions.Discard {
		s.txn.sub.Discard()
		return say(ok)
	}
	s.act()
	status := s.txn.sub.Commit(s.ctx)
	switch {
	case status.OK():
		s.txn.sub = nil
		return say(ok)
	case status.Code() == 552 || status.Code() == 554:
		return statusReply(status).mark(errBounce)
	case status.Permanent(), status.Temporary() && !strings.HasPrefix(status.Enhanced(), "4.3."):
		return statusReply(status).mark(errPolicy)
	case status.Temporary():
		return statusReply(status).mark(errResource)
	}
	return say("451 4.3.0 Error: internal error").mark(errSoftware)
}

// act puts the restrictions' wishes into the envelope.
func (s *session) act() {
	a, e := &s.view.Actions, s.txn.sub.Envelope()
	e.Hold = e.Hold || a.Hold
	if a.Filter != "" {
		e.Filter = a.Filter
	}
	if a.Redirect != "" {
		e.Redirect = a.Redirect
	}
	for _, to := range a.BCC {
		s.txn.sub.AddRecipient(s.ctx, envelope.Recipient{Address: to, Notify: envelope.NotifyNever})
	}
}

// received appends the Received: header to head.
func (s *session) received(head []byte) []byte {
	var b bytes.Buffer
	b.Write(head)
	c, t := &s.conn, &s.txn
	b.WriteString("Received: ")
	if !s.set.HideClient {
		helo := c.helo
		if helo == "" {
			helo = c.peer.Name
		}
		literal := c.peer.Address
		if strings.Contains(literal, ":") {
			literal = "IPv6:" + literal
		}
		fmt.Fprintf(&b, "from %s (%s [%s])\n\t", helo, c.peer.Name, literal)
		if c.tls != nil && s.set.tls.Received() {
			b.WriteString(strings.Join(c.tls.Received(), "\n\t") + "\n\t")
		}
		if c.login.Username != "" && s.set.AuthHeader {
			fmt.Fprintf(&b, "(Authenticated sender: %s)\n\t", comment(c.login.Username))
		}
	}
	fmt.Fprintf(&b, "by %s (%s) with %s id %s", s.set.Hostname, s.set.MailName, s.protocolName(), t.queueID())
	if t.accepted == 1 {
		fmt.Fprintf(&b, "\n\tfor <%s>; ", t.only.External())
	} else {
		b.WriteString(";\n\t")
	}
	b.WriteString(t.arrival.Format("Mon, 02 Jan 2006 15:04:05 -0700 (MST)") + "\n")
	return b.Bytes()
}

// protocolName is the protocol as RFC 3848 and RFC 6531 name it.
func (s *session) protocolName() string {
	name := s.conn.protocol
	if s.txn.smtputf8 {
		name = "UTF8SMTP"
	}
	if s.conn.tls != nil && s.conn.protocol == "ESMTP" {
		name += "S"
	}
	if s.conn.login.Username != "" && s.conn.protocol == "ESMTP" {
		name += "A"
	}
	return name
}

// comment is text that may stand inside parentheses.
func comment(text string) string {
	return strings.NewReplacer("\\", "\\\\", "(", "\\(", ")", "\\)").Replace(text)
}

// inflow is content on its way to a Submission.
type inflow struct {
	to       io.Writer
	received func() int64 // bytes so far, as the client counts them
	taken    int64        // bytes that were passed on, with our header
	tooBig   bool         // the rest is only read
	bare     int          // lines that ended in a bare LF
}

// size is the content's size so far.
func (in *inflow) size() int64 {
	if in == nil || in.received == nil {
		return 0
	}
	return in.received()
}
