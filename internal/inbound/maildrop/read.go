package maildrop

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue/queuefile"
)

// Mail is a file of the maildrop directory.
type Mail struct {
	Envelope envelope.Envelope
	OrigID   string // of a requeued message: the id it had
	Content  io.Reader
}

// Trust tells whose file it is.
type Trust bool

// Trusts.
const (
	FromUser   Trust = false
	FromSystem Trust = true // put there by postsuper -r
)

// Error is a file that is not as it must be.
type Error struct {
	Type byte // of the record, 0 for the end of the file
	Err  error
}

func (e *Error) Error() string {
	return fmt.Sprintf("unexpected or malformed record type %d", e.Type)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Read reads and checks a whole file, except that the content is read again
// by the caller. Errors are *Error, or those of the source.
func Read(src io.ReaderAt, trust Trust) (*Mail, error) {
	if trust == FromSystem {
		env, layout, err := queuefile.Read(src)
		if err == nil {
			return requeued(src, env, layout), nil
		}
		if !errors.Is(err, queuefile.ErrFormat) {
			return nil, err
		}
		// Root's own mail may be in a file of the system's owner.
	}
	return readUser(src)
}

// requeued is a queue file whose recipients are to be rewritten again. What
// the rules of the first time said is forgotten.
func requeued(src io.ReaderAt, env *envelope.Envelope, layout *queuefile.Layout) *Mail {
	m := &Mail{Envelope: *env, OrigID: env.Origin.QueueID, Content: queuefile.NewText(src, layout.Content)}
	m.Envelope.Recipients = nil
	for i, r := range env.Recipients {
		if !layout.Recipients[i].Done {
			m.Envelope.Recipients = append(m.Envelope.Recipients, r)
		}
	}
	m.Envelope.Arrival = time.Time{}
	m.Envelope.Filter, m.Envelope.Redirect = "", ""
	return m
}

// user is the reading of a file that a user wrote.
type user struct {
	mail   *Mail
	next   envelope.Recipient
	sender bool
}

func readUser(src io.ReaderAt) (*Mail, error) {
	u := &user{mail: &Mail{}}
	r := queuefile.NewReader(src, 0)
	defer r.Close()
	r.Raw = true // pointers are for queue files
	if err := u.part(r, userEnvelope); err != nil {
		return nil, err
	}
	u.mail.Content = queuefile.NewText(src, r.Offset())
	for _, types := range []string{userContent, userExtra} {
		if err := u.part(r, types); err != nil {
			return nil, err
		}
	}
	if !u.sender || u.mail.Envelope.Arrival.IsZero() {
		return nil, &Error{Type: queuefile.End, Err: fmt.Errorf("no sender or no time")}
	}
	if u.mail.Envelope.RewriteContext == "" {
		u.mail.Envelope.RewriteContext = "local"
	}
	return u.mail, nil
}

func (u *user) part(r *queuefile.Reader, types string) error {
	for {
		rec, err := r.Next()
		if err == io.EOF || errors.Is(err, queuefile.ErrFormat) {
			return &Error{Err: err}
		}
		if err != nil {
			return err // the disk's trouble is not the file's
		}
		if strings.IndexByte(types, rec.Type) < 0 {
			return &Error{Type: rec.Type}
		}
		if types != userContent {
			if err := u.record(rec.Type, string(rec.Data)); err != nil {
				return &Error{Type: rec.Type, Err: err}
			}
		}
		if rec.Type == types[0] {
			return nil
		}
	}
}

var errText = fmt.Errorf("text is not acceptable")

// maxRecipients bounds one message.
const maxRecipients = 1 << 20

func (u *user) record(typ byte, text string) error {
	env := &u.mail.Envelope
	if strings.ContainsAny(text, "\r\n\x00") {
		return errText
	}
	switch typ {
	case queuefile.Attr:
		if !allowedAttr(text) || !queuefile.SetAttr(env, &u.next, text) {
			return errText
		}
	case queuefile.From:
		if u.sender {
			return errText
		}
		u.sender = true
		return queuefile.SetText(env, typ, text)
	case queuefile.Rcpt:
		if len(env.Recipients) == maxRecipients {
			return errText
		}
		u.next.Address = addr.Address(text)
		env.Recipients = append(env.Recipients, u.next)
		u.next = envelope.Recipient{}
	case queuefile.DSNNotify, queuefile.Message, queuefile.Extra, queuefile.End:
	default:
		return queuefile.SetText(env, typ, text)
	}
	return nil
}
