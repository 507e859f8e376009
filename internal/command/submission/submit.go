package submission

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/inbound/maildrop"
	"posthaste/internal/mail/addr"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
	"posthaste/internal/table/matchlist"
)

// message is what is handed in.
type message = maildrop.Message

// submit reads a message and hands it in.
func (s *sendmail) submit(ctx context.Context) int {
	uid := os.Getuid()
	who, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return s.fatal("unable to find out your login name for user ID %d", uid)
	}
	if status := s.maySubmit(ctx, who.Username, uid); status != 0 {
		return status
	}
	s.setSender(who)
	s.setFullName(who)
	s.Trace = s.trace()
	if s.Verp != "" && s.Sender == "" {
		return s.fail("-V option requires non-null sender address")
	}
	recipients := s.arguments()
	drop, err := s.startDrop(ctx)
	if err != nil {
		return s.fail("unable to execute postdrop -r: %s", cli.Reason(err))
	}
	w := &writer{to: drop, buf: maildrop.AppendContent(s.AppendRecipients(s.AppendHead(nil), recipients))}
	var found []addr.Address
	if s.mode == modeVerify {
		s.probe(w)
	} else {
		found, err = s.content(w)
	}
	switch {
	case err != nil:
		drop.cancel()
		return s.fail("error reading input: %s", cli.Reason(err))
	case len(recipients)+len(found) == 0:
		drop.cancel()
		if s.fromHeader {
			return s.fail("No recipient addresses found in message header")
		}
		return s.fail("Recipient addresses must be specified on the command line or via the -t option")
	}
	w.buf = s.AppendTail(w.buf, found)
	w.flush()
	return s.finish(drop)
}

// fail is fatal with the sender in front.
func (s *sendmail) fail(format string, args ...any) int {
	return s.fatal("%s(%d): %s", s.Sender, os.Getuid(), fmt.Sprintf(format, args...))
}

func (s *sendmail) finish(drop *dropProcess) int {
	reply, err := drop.finish()
	switch {
	case err != nil:
		return s.fail("queue file write error: %s", cli.Reason(err))
	case reply.Status&maildrop.TooBig != 0:
		s.Warnf("mail_stream_cleanup: close error")
		return s.fail("message file too big")
	case reply.Status != maildrop.OK:
		return s.fail("queue file write error: %s", reply.Reason)
	}
	if s.mode == modeVerify || s.reports > 0 {
		fmt.Fprintf(s.Stdout, "Mail Delivery Status Report will be mailed to <%s>.\n", s.Sender)
	}
	return 0
}

// maySubmit checks authorized_submit_users.
func (s *sendmail) maySubmit(ctx context.Context, name string, uid int) int {
	opener := table.NewOpener(table.Setup{Log: s.Log, Types: all.Types()})
	users := matchlist.NewStrings(opener, "authorized_submit_users", s.c.Submit)
	defer users.Close()
	ok, err := users.Match(ctx, name)
	if err != nil {
		return s.fatal("authorized_submit_users: %v", err)
	}
	if !ok {
		return s.fatal("User %s(%d) is not allowed to submit mail", name, uid)
	}
	return 0
}

// setSender takes the address of -f, or the user's name.
func (s *sendmail) setSender(who *user.User) {
	if s.sender == nil {
		s.Sender = addr.Address(who.Username)
		return
	}
	boxes := addr.ParseList(*s.sender, s.c.Tokens).Mailboxes()
	if len(boxes) > 0 {
		s.Sender = boxes[0].Address()
	}
	if len(boxes) > 1 {
		s.Warnf("-f option specified malformed sender: %s", *s.sender)
	}
}

// setFullName takes -F, NAME, or what the password file says.
func (s *sendmail) setFullName(who *user.User) {
	s.FullName = s.fullName
	if s.FullName == "" {
		s.FullName = s.Getenv("NAME")
	}
	if s.FullName == "" {
		name, _, _ := strings.Cut(who.Name, ",")
		login := who.Username
		s.FullName = strings.ReplaceAll(name, "&", strings.ToUpper(login[:1])+login[1:])
	}
	s.FullName = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s.FullName)
}

// arguments are the recipients on the command line; each argument is a list.
func (s *sendmail) arguments() (list []addr.Address) {
	for _, arg := range s.args {
		for _, box := range addr.ParseList(arg, s.c.Tokens).Mailboxes() {
			list = append(list, box.Address())
		}
	}
	return list
}

// probe is the content of -bv.
func (s *sendmail) probe(w *writer) {
	w.record(queuefile.Norm, []byte("From: "+string(s.Sender)))
	w.record(queuefile.Norm, []byte("Subject: probe"))
	w.record(queuefile.Cont, []byte("To:"))
	for i, arg := range s.args {
		comma := ","
		if i == len(s.args)-1 {
			comma = ""
		}
		w.record(queuefile.Norm, []byte("\t"+arg+comma))
	}
}

// writer collects records; an error of the other end shows at the end.
type writer struct {
	to  io.Writer
	buf []byte
}

func (w *writer) record(typ byte, data []byte) {
	w.buf = queuefile.Append(w.buf, typ, data)
	if len(w.buf) > 32<<10 {
		w.flush()
	}
}

func (w *writer) flush() {
	_, _ = w.to.Write(w.buf)
	w.buf = w.buf[:0]
}

// lines reads the message from standard input.
type lines struct {
	in      *bufio.Reader
	ending  string // sendmail_fix_line_endings
	first   bool
	strip   bool
	partial bool // the piece before did not end its line
}

// next returns a line, or a piece of a long one, without line end.
func (l *lines) next() (text []byte, typ byte, err error) {
	text, err = l.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return text, queuefile.Cont, nil
	case err != nil && len(text) > 0 && err == io.EOF:
		return text, queuefile.Cont, nil
	case err != nil:
		return nil, 0, err
	}
	text = text[:len(text)-1]
	if !l.first {
		l.first = true
		l.strip = l.ending == "always" || l.ending == "strict" && bytes.HasSuffix(text, []byte("\r"))
	}
	if l.strip {
		text = bytes.TrimRight(text, "\r")
	}
	return text, queuefile.Norm, nil
}

// content copies the message, and with -t finds recipients in its header.
func (s *sendmail) content(w *writer) ([]addr.Address, error) {
	l := &lines{in: bufio.NewReaderSize(s.Stdin, queuefile.MaxLine), ending: s.c.LineEnds}
	h := &header{limit: s.c.HeaderLen, tokens: s.c.Tokens, done: !s.fromHeader}
	mbox := true
	for {
		text, typ, err := l.next()
		if err == io.EOF {
			return h.recipients(), nil
		}
		if err != nil {
			return nil, err
		}
		if !l.partial && typ == queuefile.Norm && mbox {
			if bytes.HasPrefix(bytes.TrimLeft(text, ">"), []byte("From ")) {
				continue
			}
			mbox = false
		}
		if s.dotEnds && !l.partial && typ == queuefile.Norm && string(text) == "." {
			return h.recipients(), nil
		}
		h.piece(text, typ == queuefile.Norm)
		w.record(typ, text)
		l.partial = typ == queuefile.Cont
	}
}
