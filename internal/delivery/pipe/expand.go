package pipe

import (
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/config/macro"
	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/mail/addr"
	"posthaste/internal/qmgr/transport"
)

// perRecipient are the macros that differ from recipient to recipient: an
// argument with one of them is repeated for each.
var perRecipient = map[string]func(e *expansion, r *transport.Recipient) string{
	"recipient":          func(e *expansion, r *transport.Recipient) string { return e.address(r.Address) },
	"original_recipient": func(e *expansion, r *transport.Recipient) string { return e.address(e.original(r)) },
	"user":               func(e *expansion, r *transport.Recipient) string { user, _ := e.split(r); return user },
	"extension":          func(e *expansion, r *transport.Recipient) string { _, ext := e.split(r); return ext },
	"mailbox":            func(e *expansion, r *transport.Recipient) string { return e.local(r.Address.Local()) },
	"domain":             func(e *expansion, r *transport.Recipient) string { return e.domain(r.Address.Domain()) },
}

// perMessage are the others.
var perMessage = map[string]func(e *expansion) string{
	"sender":          (*expansion).sender,
	"nexthop":         func(e *expansion) string { return e.domain(e.r.Nexthop) },
	"size":            func(e *expansion) string { return strconv.FormatInt(e.r.Size, 10) },
	"queue_id":        func(e *expansion) string { return string(e.r.ID) },
	"envid":           func(e *expansion) string { return e.r.Envelope.EnvID },
	"client_address":  func(e *expansion) string { return e.r.Envelope.Client.Address },
	"client_helo":     func(e *expansion) string { return e.r.Envelope.Client.Helo },
	"client_hostname": func(e *expansion) string { return e.r.Envelope.Client.Name },
	"client_port":     func(e *expansion) string { return e.r.Envelope.Client.Port },
	"client_protocol": func(e *expansion) string { return e.r.Envelope.Client.Protocol },
	"sasl_method":     func(e *expansion) string { return e.r.Envelope.Login.Method },
	"sasl_sender":     func(e *expansion) string { return e.r.Envelope.Login.Sender },
	"sasl_username":   func(e *expansion) string { return e.r.Envelope.Login.Username },
}

func known(name string) bool {
	_, message := perMessage[name]
	_, recipient := perRecipient[name]
	return message || recipient
}

// expansion is the command line of one request.
type expansion struct {
	s    *Settings
	r    *transport.Request
	ext  addr.Extensions
	keep mailbox.Keep
}

func (e *expansion) original(r *transport.Recipient) addr.Address {
	return mailbox.Original(r.Recipient, e.keep)
}

func (e *expansion) local(s string) string {
	if e.s.has('u') {
		return addr.Fold(s)
	}
	return s
}

func (e *expansion) domain(s string) string {
	if e.s.has('h') {
		return addr.Fold(s)
	}
	return s
}

// address is a recipient with the flags h, q and u.
func (e *expansion) address(a addr.Address) string {
	local, domain, ok := a.Split()
	local = e.local(local)
	if e.s.has('q') && a != "" {
		local = addr.QuoteLocal(local)
	}
	if !ok {
		return local
	}
	return local + "@" + e.domain(domain)
}

// split divides the local part; the delimiter belongs to neither part.
func (e *expansion) split(r *transport.Recipient) (user, extension string) {
	user, extension = e.ext.Split(r.Address.Local())
	if extension != "" {
		extension = extension[1:]
	}
	return e.local(user), e.local(extension)
}

func (e *expansion) sender() string {
	sender := e.envelopeSender()
	if sender == "" {
		if e.s.NullSender == "" || !e.s.has('q') {
			return e.s.NullSender
		}
		return addr.Address(e.s.NullSender).External()
	}
	if e.s.has('q') {
		return sender.External()
	}
	return string(sender)
}

func (e *expansion) envelopeSender() addr.Address {
	if len(e.r.Recipients) == 0 {
		return e.r.Envelope.Sender
	}
	return mailbox.Sender(e.r.Envelope, e.r.Recipients[0].Address)
}

// argv expands the command line.
func (e *expansion) argv() ([]string, error) {
	var out []string
	for _, arg := range e.s.Argv {
		for i := range e.r.Recipients {
			text, repeat, err := e.argument(arg, &e.r.Recipients[i])
			if err != nil {
				return nil, err
			}
			out = append(out, text)
			if !repeat {
				break
			}
		}
	}
	return out, nil
}

// argument expands one argument for a recipient; repeat says that other
// recipients have their own.
func (e *expansion) argument(arg string, r *transport.Recipient) (text string, repeat bool, err error) {
	var b strings.Builder
	err = macro.Parse(arg, func(p macro.Piece) error {
		if !p.Reference {
			b.WriteString(p.Text)
			return nil
		}
		if f, ok := perMessage[p.Text]; ok {
			b.WriteString(f(e))
			return nil
		}
		f, ok := perRecipient[p.Text]
		if !ok {
			return fmt.Errorf("unknown macro name: \"%s\"", p.Text)
		}
		repeat = true
		b.WriteString(f(e, r))
		return nil
	})
	if err == nil && strings.IndexByte(b.String(), 0) >= 0 {
		err = fmt.Errorf("argument %q with a null byte", arg)
	}
	return b.String(), repeat, err
}
