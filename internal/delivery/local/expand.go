package local

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"

	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/sys/strerror"
)

const (
	maxTokens = 1 << 20  // of one alias or line
	maxFile   = 16 << 20 // bytes of an :include: file
	maxDot    = 1 << 20  // bytes of a .forward file
	include   = ":include:"
)

// list delivers to each destination of a list, as an alias or a line of a file
// has it, and counts them.
func (d *delivery) list(m mail, text string) (ok result, count int) {
	ok = settled
	for _, destination := range addr.ParseList(text, maxTokens).Mailboxes() {
		count++
		if !d.destination(m, string(destination.Address())) {
			ok = tryAgain
		}
		if d.ctx.Err() != nil {
			return tryAgain, count
		}
	}
	return ok, count
}

// lines delivers to the destinations of a file, line by line. It ends with the
// first line that has to be tried again.
func (d *delivery) lines(m mail, text []byte) (ok result, count int) {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if bytes.HasPrefix(line, []byte("#")) {
			continue
		}
		ok, n := d.list(m, string(line))
		count += n
		if !ok {
			return tryAgain, count
		}
	}
	return settled, count
}

// destination delivers to one item of a list.
func (d *delivery) destination(m mail, item string) result {
	switch {
	case strings.HasPrefix(item, "/"):
		return d.file(m, item)
	case strings.HasPrefix(item, "~"):
		return d.homeFile(m, item)
	case strings.HasPrefix(item, "|"):
		if !d.agent.commandsFrom[string(m.origin)] {
			return d.fail(m, "5.7.1", "mail to command is restricted")
		}
		return d.command(m, item[1:])
	case len(item) >= len(include) && strings.EqualFold(item[:len(include)], include):
		return d.include(m, item[len(include):])
	}
	return d.resolve(m, addr.Address(item))
}

// homeFile delivers to ~/name.
func (d *delivery) homeFile(m mail, item string) result {
	switch {
	case !strings.HasPrefix(item, "~/"):
		d.warn("bad home directory syntax for: %s", item)
	case m.who.home == "":
		d.warn("unknown home directory for: %s", item)
	case m.who.home == "/":
		d.warn("home directory is the file system root for: %s", item)
	default:
		return d.file(m, m.who.home+item[1:])
	}
	return d.configurationError(m)
}

// resolve finds out where an address goes: to us, or back into the queue.
func (d *delivery) resolve(m mail, a addr.Address) result {
	m.level++
	if a == "" {
		a = "MAILER-DAEMON"
	}
	a = d.agent.deps.Resolver.Rewrite(d.ctx, "local", a)
	to, err := d.agent.deps.Resolver.Resolve(d.ctx, m.sender, a)
	if err != nil {
		return d.fail(m, "4.3.0", "address resolver failure")
	}
	if !to.Problem.IsZero() {
		return d.fail(m, "5.1.3", "bad recipient address syntax: %s", to.Recipient.External())
	}
	m.rcpt.Address = to.Recipient
	if m.unmatched != "" && d.agent.cfg.Delimiter != "" {
		local, domain, hasDomain := to.Recipient.Split()
		local += d.agent.cfg.Delimiter[:1] + m.unmatched
		if hasDomain {
			local += "@" + domain
		}
		m.rcpt.Address = addr.Address(local)
	}
	if to.Transport == d.r.Transport {
		return d.recipient(m)
	}
	return d.indirect(m)
}

// include delivers to the destinations in a file.
func (d *delivery) include(m mail, path string) result {
	if d.before("include %d %s", m.who.UID, path) {
		return settled
	}
	m.from = m.local
	if !strings.HasPrefix(path, "/") {
		d.warn(":include:%s uses a relative path", path)
		return d.configurationError(m)
	}
	info, err := d.agent.deps.Host.StatTarget(d.ctx, m.who.Rights, path)
	if answer, failed := d.includeFacts(m, path, info, err); failed {
		return answer
	}
	m.origin = fromInclude
	as := m.who.Rights
	if as.UID == 0 && info.UID != 0 {
		// An alias of root's may include a user's file: it gets the user's rights.
		u, found, err := d.agent.deps.Users.ByUID(info.UID)
		if err != nil || !found {
			d.warn("cannot find username for uid %d", info.UID)
			d.warn("%s: cannot find :include: file owner username", path)
			return d.fail(m, "4.3.5", "mail system configuration error")
		}
		m.who = u.identity()
		as = m.who.Rights
	}
	if as.UID == 0 {
		as = d.agent.defaults
	}
	if !d.agent.propagate["include"] {
		m.unmatched = ""
	}
	if m.owner == "" {
		m.owner = m.rcpt.Address
	}
	file, err := d.agent.deps.Host.Read(d.ctx, as, path, maxFile)
	if err != nil {
		d.warn("cannot open include file %s: %s", path, strerror.Text(err))
		return d.unreadable(m, err)
	}
	ok, _ := d.lines(m, file.Data)
	return ok
}

// includeFacts decides whether an :include: file is believed.
func (d *delivery) includeFacts(m mail, path string, info worker.Info, err error) (answer result, failed bool) {
	switch {
	case err != nil:
		d.warn("unable to lookup :include: file %s: %s", path, strerror.Text(err))
		return d.unreadable(m, err), true
	case !info.Mode.IsRegular():
		d.warn(":include: file %s is not a regular file", path)
	case info.Mode.Perm()&0o002 != 0:
		d.warn(":include: file %s is world writable", path)
	default:
		return settled, false
	}
	return d.configurationError(m), true
}

// unreadable answers for a file of destinations: a definite no is an error in
// the configuration; anything else may get better.
func (d *delivery) unreadable(m mail, err error) result {
	var e *worker.Error
	if errors.As(err, &e) && (errors.Is(e, fs.ErrNotExist) || errors.Is(e, fs.ErrPermission) || e.Errno == 0) {
		return d.configurationError(m)
	}
	return d.fail(m, "4.3.5", "mail system configuration error")
}

// errorText is a system error with the name before it, once.
func errorText(name string, err error) string {
	var e *worker.Error
	if errors.As(err, &e) && strings.HasPrefix(e.Text, name+": ") {
		return e.Text
	}
	return name + ": " + strerror.Text(err)
}
