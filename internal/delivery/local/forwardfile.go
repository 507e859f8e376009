package local

import (
	"errors"
	"strings"

	"posthaste/internal/config/macro"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
)

// dotForward expands the user's .forward file. done is false when there is
// none that counts.
func (d *delivery) dotForward(m mail) (ok result, done bool) {
	if d.agent.cfg.ForwardPath == "" {
		return tryAgain, false
	}
	u, found, failed := d.lookupUser(m)
	if failed || !found {
		return tryAgain, failed
	}
	if !d.agent.cfg.Frozen {
		m.delivered = m.rcpt.Address
	}
	original := m
	m.who, m.origin = u.identity(), fromForward
	m.owner = addrOf(m.user)
	path, info, err := d.findForward(&m)
	if err != nil {
		return d.fail(original, "4.3.0", "cannot look for the forward file of %s: %v", m.user, err), true
	}
	if path == "" {
		return tryAgain, false
	}
	if d.r.Envelope.Trace == envelope.TraceProbe {
		return d.sent(original, "forward via file: %s", path), true
	}
	if d.before("forward %s", path) {
		// We are inside of it: it counts only when it was good for something.
		return settled, d.wasDone("forward-done %s", path)
	}
	m.from = m.local
	text, usable := d.readForward(m, path, info)
	if !usable {
		return tryAgain, false
	}
	m.rcpt.Notify = withoutSuccess(m.rcpt.Notify)
	ok, count := d.lines(m, text)
	if count == 0 {
		return tryAgain, false
	}
	d.before("forward-done %s", path)
	if ok && original.rcpt.Notify&envelope.NotifySuccess != 0 {
		d.expanded(original, false)
	}
	return ok, true
}

// findForward finds the first file of forward_path that is there. An extension
// that is part of its name is used up.
func (d *delivery) findForward(m *mail) (string, worker.Info, error) {
	for _, pattern := range table.SplitList(d.agent.cfg.ForwardPath) {
		x := d.expander(*m, d.agent.cfg.ForwardFilter)
		path, err := x.Expand(pattern)
		if err != nil || x.filtered || path == "" {
			continue
		}
		info, err := d.agent.deps.Host.Stat(d.ctx, m.who.Rights, path)
		var e *worker.Error
		if err != nil && !errors.As(err, &e) {
			return "", info, err
		}
		if err != nil {
			continue
		}
		if x.extension || !d.agent.propagate["forward"] {
			m.unmatched = ""
		}
		return path, info, nil
	}
	return "", worker.Info{}, nil
}

// readForward reads a .forward file that is the user's own and that nobody
// else can change.
func (d *delivery) readForward(m mail, path string, info worker.Info) ([]byte, bool) {
	file := worker.File{Info: info}
	for _, read := range []bool{false, true} {
		if read {
			var err error
			file, err = d.agent.deps.Host.Read(d.ctx, m.who.Rights, path, maxDot)
			if err != nil {
				d.warn("cannot open file %s: %s", path, strerror.Text(err))
				return nil, false
			}
		}
		// The second look is at what was opened.
		switch {
		case !file.Mode.IsRegular():
			d.warn("file %s is not a regular file", path)
		case file.UID != 0 && file.UID != m.who.UID:
			d.warn("file %s has bad owner uid %d", path, file.UID)
		case file.Mode.Perm()&0o002 != 0:
			d.warn("file %s is world writable", path)
		default:
			continue
		}
		return nil, false
	}
	return file.Data, true
}

// expander expands $name for local(8): forward_path, luser_relay,
// command_execution_directory.
type expander struct {
	macro.Expander
	extension bool // $extension was there
	filtered  bool // a value had characters that are not allowed
}

// expander makes one. filter lists the characters allowed in values, "" for
// all.
func (d *delivery) expander(m mail, filter string) *expander {
	x := &expander{}
	var allowed *macro.ByteSet
	if filter != "" {
		allowed = macro.NewByteSet(filter)
	}
	x.Lookup = func(name string) (string, bool, error) {
		value := d.variable(m, name)
		if value == "" {
			return "", false, nil
		}
		if name == "extension" {
			x.extension = true
		}
		if allowed != nil {
			clean := allowed.Filter(value)
			x.filtered = x.filtered || clean != value
			value = clean
		}
		return value, true, nil
	}
	return x
}

func (d *delivery) variable(m mail, name string) string {
	client := &d.r.Envelope.Client
	switch name {
	case "user":
		return m.user
	case "home":
		return m.who.home
	case "shell":
		return m.who.shell
	case "domain":
		return m.domain
	case "local":
		return m.local
	case "recipient":
		return string(m.rcpt.Address)
	case "extension":
		return m.extension
	case "recipient_delimiter":
		if rest := strings.TrimPrefix(m.local, m.user); m.extension != "" && rest != "" {
			return rest[:1]
		}
		return d.agent.cfg.Delimiter[:min(1, len(d.agent.cfg.Delimiter))]
	case "client_hostname":
		return client.Name
	case "client_address":
		return client.Address
	case "client_protocol":
		return client.Protocol
	case "client_helo":
		return client.Helo
	case "sasl_method":
		return d.r.Envelope.Login.Method
	case "sasl_sender":
		return d.r.Envelope.Login.Sender
	case "sasl_username":
		return d.r.Envelope.Login.Username
	}
	return ""
}
