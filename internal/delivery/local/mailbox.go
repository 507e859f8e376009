package local

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/table"
)

// mailbox delivers to the user's mailbox, or to what the configuration has in
// its place. done is false when there is no such user.
func (d *delivery) mailbox(m mail) (ok result, done bool) {
	if d.before("mailbox %s", m.local) {
		return settled, true
	}
	if ok, done := d.passBy(m, d.agent.transports, d.agent.cfg.Transport); done {
		return ok, true
	}
	u, found, failed := d.lookupUser(m)
	if failed || !found {
		return tryAgain, failed
	}
	m.who = u.identity()
	command, found, err := d.agent.commands.Lookup(d.ctx, m.user)
	if err != nil {
		return d.fail(m, "4.3.0", "table lookup failure"), true
	}
	if !found {
		command = d.agent.cfg.MailboxCommand
	}
	home, spool := d.agent.cfg.HomeMailbox, d.agent.cfg.SpoolDir
	switch {
	case command != "":
		return d.command(m, command), true
	case strings.HasSuffix(home, "/"):
		return d.maildir(m, m.who.Rights, m.who.home+"/"+home), true
	case home == "" && strings.HasSuffix(spool, "/"):
		return d.maildir(m, m.who.Rights, spool+m.user+"/"), true
	}
	return d.mbox(m), true
}

// passBy passes the recipient on to a transport that a table or a setting
// names for the user.
func (d *delivery) passBy(m mail, maps *table.Maps, setting string) (ok result, done bool) {
	value, found, err := maps.Lookup(d.ctx, m.user)
	if err != nil {
		return d.fail(m, "4.3.0", "table lookup failure"), true
	}
	if !found {
		value = setting
	}
	if value == "" {
		return tryAgain, false
	}
	return d.pass(m, value), true
}

// pass has another transport deliver to the recipient.
func (d *delivery) pass(m mail, value string) result {
	name, nexthop, _ := strings.Cut(value, ":")
	if nexthop == "" {
		nexthop = d.r.Nexthop
	}
	d.agent.deps.Log.Infof("%s: passing <%s> to transport=%s", d.r.ID, m.rcpt.Address.External(), name)
	ok := tryAgain
	request := *d.r
	request.Transport, request.Nexthop = name, nexthop
	request.Recipients = []transport.Recipient{{Recipient: m.rcpt, Index: d.index}}
	request.Queued = d.agent.deps.Now()
	request.Report = func(o transport.Outcome) {
		d.answered = true
		ok = !o.Status.Temporary()
		d.r.Report(o)
	}
	if err := d.agent.deps.Pass(d.ctx, &request); err != nil {
		d.warn("%s: transport %s: %v", d.r.ID, name, err)
		return d.answer(m, dsn.FromEnhanced("4.3.0", "mail transport unavailable"))
	}
	return ok
}

// form is the message with the headers of this recipient. where is the item
// of prepend_delivered_header that asks for Delivered-To.
func (d *delivery) form(m mail, form mailbox.Form, where string) mailbox.Form {
	form.Sender, form.Time, form.OriginalTo = m.sender, d.agent.deps.Now(), m.rcpt.Original
	if d.agent.prepend[where] {
		form.DeliveredTo = m.delivered
	}
	return form
}

func (d *delivery) maildir(m mail, as worker.Rights, path string) result {
	if d.traceOnly() {
		return d.sent(m, "delivers to maildir")
	}
	if !d.agent.cfg.Frozen {
		m.delivered = m.rcpt.Address
	}
	form := d.form(m, mailbox.MaildirForm, "file")
	err := d.agent.deps.Host.Maildir(d.ctx, as, worker.Maildir{
		Dir: path, Hostname: mailbox.SystemName(), Limit: d.agent.cfg.SizeLimit, Body: form.Body(d.r.Open),
	})
	if err == nil {
		return d.sent(m, "delivered to maildir")
	}
	if errors.Is(err, syscall.EACCES) {
		d.warn("maildir access problem for UID/GID=%d/%d: %v", as.UID, as.GID, err)
		d.warn("perhaps you need to create the maildirs in advance")
	}
	return d.answer(m, mailbox.Trouble(err, "5.2.0", "maildir delivery failed: "))
}

// mbox appends to the user's mailbox file.
func (d *delivery) mbox(m mail) result {
	if d.traceOnly() {
		return d.sent(m, "delivers to mailbox")
	}
	if !d.agent.cfg.Frozen {
		m.delivered = m.rcpt.Address
	}
	job, as := d.mboxJob(m)
	done, err := d.agent.deps.Host.Append(d.ctx, as, job)
	if err != nil {
		prefix := "cannot update mailbox " + job.Path + " for user " + m.user + ". "
		var e *worker.Error
		if errors.As(err, &e) && e.Kind == worker.KindNotOwner {
			d.warn("specify \"strict_mailbox_ownership = no\" to ignore mailbox ownership mismatch")
		}
		return d.answer(m, mailbox.Trouble(err, "5.2.0", prefix))
	}
	if d.agent.cfg.Biff && d.agent.deps.Notify != nil {
		d.agent.deps.Notify(m.user, done.Offset)
	}
	return d.sent(m, "delivered to mailbox")
}

// mboxJob is the work with the rights that do it: the user's, if the directory
// lets the user in; with the directory's group, if that may write; else root's,
// and the file is given to the user.
func (d *delivery) mboxJob(m mail) (worker.Append, worker.Rights) {
	as, path := m.who.Rights, m.who.home+"/"+d.agent.cfg.HomeMailbox
	give := false
	if d.agent.cfg.HomeMailbox == "" {
		spool := d.agent.cfg.SpoolDir
		path = spool + "/" + m.user
		if info, err := os.Stat(spool); err == nil && info.Mode().Perm()&0o002 == 0 {
			group := -1
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				group = int(st.Gid)
			}
			switch {
			case as.UID == 0:
			case info.Mode().Perm()&0o020 != 0 && group >= 0:
				as.GID = group
			default:
				as, give = worker.Rights{}, true
			}
		}
	}
	form := d.form(m, mailbox.MboxForm, "file")
	return worker.Append{
		Path: path, Locks: d.agent.locks, Attempts: d.agent.cfg.Attempts, Delay: d.agent.cfg.Delay, Stale: d.agent.cfg.Stale,
		Limit: d.agent.cfg.SizeLimit, RegularOnly: true, CheckOwner: d.agent.cfg.StrictOwner, Owner: m.who.UID,
		Give: give, OwnerUID: m.who.UID, OwnerGID: m.who.GID, Body: form.Body(d.r.Open),
	}, as
}

// comsat is where biff(1) users' mail is announced.
const comsat = "127.0.0.1:512"

// ComsatNotify tells comsat(8) in one datagram and does not care whether
// anybody listens.
func ComsatNotify(user string, offset int64) {
	conn, err := net.Dial("udp", comsat)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(user + "@" + strconv.FormatInt(offset, 10) + "\x00"))
}

// unknown is the end of a recipient that is neither alias nor user.
func (d *delivery) unknown(m mail) result {
	if d.before("unknown %s", m.local) {
		return settled
	}
	if ok, done := d.passBy(m, d.agent.fallbacks, d.agent.cfg.Fallback); done {
		return ok
	}
	if d.agent.cfg.LuserRelay != "" {
		return d.luserRelay(m)
	}
	if m.user == "mailer-daemon" || m.user == "postmaster" {
		d.warn("required alias not found: %s", m.user)
		return d.sent(m, "discarded")
	}
	return d.fail(m, "5.1.1", "unknown user: \"%s\"", m.user)
}

// luserRelay is where mail for unknown users goes. It may name a user of ours,
// but not lead back to the same address.
func (d *delivery) luserRelay(m mail) result {
	m.unmatched = ""
	x := d.expander(m, "")
	text, err := x.Expand(d.agent.cfg.LuserRelay)
	if err != nil {
		d.warn("bad parameter value syntax for luser_relay: %v", err)
		return d.fail(m, "4.3.5", "mail system configuration error")
	}
	to := d.agent.deps.Resolver.Rewrite(d.ctx, "local", addrOf(text))
	if strings.EqualFold(string(to), string(m.rcpt.Address)) {
		return d.fail(m, "5.1.1", "unknown user: \"%s\"", m.user)
	}
	return d.resolve(m, to)
}
