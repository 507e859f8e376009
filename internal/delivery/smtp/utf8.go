package smtp

import (
	"bufio"
	"context"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
)

// generic is the envelope by generic(5), for the commands; outcomes keep the
// addresses of the queue.
func (t *transaction) generic(ctx context.Context) dsn.Status {
	var err error
	t.sender, err = t.agent.outgoing.Address(ctx, t.delivery.request.Envelope.Sender)
	t.addresses = make([]addr.Address, len(t.rcpts))
	for i, r := range t.rcpts {
		if err == nil {
			t.addresses[i], err = t.agent.outgoing.Address(ctx, r.Address)
		}
	}
	if err != nil {
		return dsn.Trouble(err, "address mapping error")
	}
	return dsn.Status{}
}

// needsUTF8 reports whether a message whose client asked for SMTPUTF8 cannot
// do without: for an address or for a header.
func (d *delivery) needsUTF8() bool {
	e := d.request.Envelope
	if !e.SMTPUTF8 {
		return false
	}
	if !e.Sender.IsASCII() {
		return true
	}
	for _, r := range d.request.Recipients {
		if !r.Address.IsASCII() {
			return true
		}
	}
	if d.utf8Header == nil {
		d.utf8Header = new(bool)
		*d.utf8Header = utf8Header(d.request)
	}
	return *d.utf8Header
}

// utf8Header looks for bytes beyond ASCII in the header of a message.
func utf8Header(r *transport.Request) bool {
	in := bufio.NewReader(r.Open())
	start := true
	for {
		line, err := in.ReadSlice('\n')
		if start && (len(line) == 0 || line[0] == '\n') {
			return false
		}
		if strings.IndexFunc(string(line), func(c rune) bool { return c >= 0x80 }) >= 0 {
			return true
		}
		start = err == nil
		if err != nil && err != bufio.ErrBufferFull {
			return false
		}
	}
}
