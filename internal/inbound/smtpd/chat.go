package smtpd

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/smtpproto"
)

const (
	maxHistory  = 1000 // lines of a transcript that are kept
	maxUnsent   = 16 << 10
	flushedLong = 10 * time.Second // replies do not wait longer
)

// Read reads from the client, after sending what is to be sent. It is what
// smtpproto.Reader reads from.
func (s *session) Read(p []byte) (int, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	if err := s.armRead(); err != nil {
		return 0, err
	}
	n, err := s.stream.Read(p)
	if n > 0 {
		s.transferred(n)
	}
	if err == nil {
		return n, nil
	}
	s.mu.Lock()
	ended := s.aborted || (s.stopped && s.between)
	s.mu.Unlock()
	switch {
	case ended:
		return n, errStopping
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, errTimeout
	}
	return n, errLost
}

// armRead sets the time limit of the next read, unless the session is to end.
func (s *session) armRead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.aborted || (s.stopped && s.between) {
		return errStopping
	}
	until := s.deadline
	if !s.set.Deadline {
		until = s.srv.deps.Now().Add(s.set.Timeout)
	}
	if s.set.Timeout > 0 {
		_ = s.stream.SetReadDeadline(until)
	}
	return nil
}

// transferred gives a transfer of content more time for each byte
// (postconf(5) smtpd_min_data_rate).
func (s *session) transferred(n int) {
	if !s.transfer || s.set.MinDataRate <= 0 {
		return
	}
	s.deadline = s.deadline.Add(time.Duration(n) * time.Second / time.Duration(s.set.MinDataRate))
	if latest := s.srv.deps.Now().Add(s.set.Timeout); s.deadline.After(latest) {
		s.deadline = latest
	}
}

// waiting says whether the session is between messages, where it may be ended.
func (s *session) waiting(between bool) {
	s.mu.Lock()
	s.between = between
	s.mu.Unlock()
}

// stop ends the session as soon as it is between messages.
func (s *session) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.between {
		_ = s.stream.SetReadDeadline(time.Unix(1, 0))
	}
}

// abort ends the session at its next input or output.
func (s *session) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped, s.aborted = true, true
	_ = s.stream.SetReadDeadline(time.Unix(1, 0))
	_ = s.stream.SetWriteDeadline(time.Unix(1, 0))
}

// flush sends the replies that wait.
func (s *session) flush() error {
	s.flushed = s.srv.deps.Now()
	if s.deaf != nil || len(s.out) == 0 {
		return s.deaf
	}
	if s.set.Timeout > 0 {
		_ = s.stream.SetWriteDeadline(s.flushed.Add(s.set.Timeout))
	}
	_, err := s.stream.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > maxUnsent {
		s.out = nil
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.deaf = errTimeout
	case err != nil:
		s.deaf = errLost
	}
	return s.deaf
}

// send puts a reply on its way. A client that made errors waits for it.
func (s *session) send(r reply) {
	s.conn.trouble |= r.class
	slow := s.conn.errors >= s.set.SoftErrors && s.set.ErrorSleep > 0
	if slow {
		_ = s.flush()
		pause(s.ctx, s.set.ErrorSleep)
	}
	if r.code[0] >= '4' {
		r = s.refusal(r)
	}
	for i, line := range r.lines {
		divider := " "
		if i < len(r.lines)-1 {
			divider = "-"
		}
		s.note("Out: " + r.code + divider + line)
	}
	s.out = smtpproto.AppendReply(s.out, r.code, r.lines)
	if slow || len(s.out) >= maxUnsent || s.srv.deps.Now().Sub(s.flushed) > flushedLong {
		_ = s.flush()
	}
}

// refusal is a 4xx or 5xx reply as the configuration wants it to look.
func (s *session) refusal(r reply) reply {
	if s.set.SoftBounce {
		r = r.soften()
	}
	if !s.set.rejectFilter.Empty() {
		text, found, err := s.set.rejectFilter.Lookup(s.ctx, r.String())
		if found && err == nil {
			changed, ok := r.replaced(text)
			if !ok {
				s.log.Warnf("smtpd_reject_filter_maps: bad result \"%.100s\" for \"%.100s\"", text, r.String())
			}
			r = changed
		}
	}
	footer := s.set.RejectFooter
	if !s.set.footerMaps.Empty() {
		if text, found, err := s.set.footerMaps.Lookup(s.ctx, r.String()); found && err == nil {
			footer = text
		}
	}
	if footer == "" {
		return r
	}
	text, name := smtpproto.ExpandFooter(footer, s.footerValue)
	if name != "" {
		s.log.Warnf("smtpd_reject_footer: unknown macro name \"%s\" in expansion request", name)
		return r
	}
	r.lines = smtpproto.AddFooter(r.lines, text)
	return r
}

// footerValue is one $name of a footer template.
func (s *session) footerValue(name string) (string, bool) {
	p := &s.conn.peer
	value, found := map[string]string{
		"client": s.conn.nameAddr, "client_address": p.Address, "client_name": p.Name, "client_port": p.Port,
		"reverse_client_name": p.ReverseName, "helo_name": s.conn.helo, "protocol": s.conn.protocol,
		"localtime":   s.srv.deps.Now().Format("Jan _2 15:04:05"),
		"server_name": s.set.Hostname, "server_address": p.ServerAddress, "server_port": p.ServerPort,
		"sender": s.txn.sender.Address.External(), "recipient": s.txn.only.External(),
		"sasl_username": s.conn.login.Username,
	}[name]
	return maillog.Printable(value), found
}

// note adds a line to the transcript.
func (s *session) note(line string) {
	if s.srv.deps.Notify == nil || s.set.notify == 0 || s.srv.opt.StandAlone {
		return
	}
	if len(s.conn.history) >= maxHistory {
		n := copy(s.conn.history, s.conn.history[maxHistory/2:])
		clear(s.conn.history[n:])
		s.conn.history = s.conn.history[:n]
	}
	s.conn.history = append(s.conn.history, maillog.Printable(strings.TrimRight(line, "\r\n")))
}

// forget tells the postmaster of trouble and empties the transcript, once it
// has more lines than threshold.
func (s *session) forget(threshold int) {
	if len(s.conn.history) <= threshold {
		return
	}
	if classes := s.conn.trouble & s.set.notify; classes != 0 {
		s.srv.deps.Notify(context.WithoutCancel(s.ctx), Transcript{
			Classes: classes.names(), Subject: "SMTP server: errors from " + s.conn.nameAddr,
			Lines: append([]string(nil), s.conn.history...), Reason: s.conn.reason,
		})
	}
	s.conn.trouble = 0
	s.conn.history = s.conn.history[:0]
}
