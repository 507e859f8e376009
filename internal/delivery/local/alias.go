package local

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/table"
)

// aliasTable is one table of alias_maps. Its file's owner gives the rights.
type aliasTable struct{ table.Table }

// owner finds who owns the table: what the table's owner writes into it runs
// with the owner's rights. trusted means root, or a table without a file.
func (t aliasTable) owner() (uid int, trusted bool, err error) {
	_, path, _ := strings.Cut(t.Name(), ":")
	if !strings.HasPrefix(path, "/") {
		return 0, true, nil
	}
	for _, suffix := range []string{".db", ".lmdb", ".cdb", ".pag", ""} {
		info, err := os.Stat(path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, false, errors.New("no owner")
		}
		return int(st.Uid), st.Uid == 0, nil
	}
	return 0, false, os.ErrNotExist
}

// alias expands name if it is an alias. done is false if it is not.
func (d *delivery) alias(m mail, name string) (ok result, done bool) {
	m.level++
	// An alias that lists its own name means the user of that name.
	if m.from != "" && strings.EqualFold(m.from, name) {
		return tryAgain, false
	}
	if m.level > maxLevel {
		d.warn("alias database loop for %s", name)
		return d.fail(m, "5.4.6", "alias database loop for %s", name), true
	}
	m.from = name
	for _, t := range d.agent.aliases {
		value, found, err := t.Lookup(d.ctx, name)
		if err != nil {
			d.warn("%v", err)
			d.warn("%s: lookup of '%s' failed", t.Name(), name)
			return d.fail(m, "4.3.0", "alias database unavailable"), true
		}
		if !found {
			continue
		}
		if d.r.Envelope.Trace == envelope.TraceProbe {
			return d.sent(m, "aliased to %s", value), true
		}
		m.origin = fromAlias
		if answer, failed := d.aliasRights(&m, t); failed {
			return answer, true
		}
		return d.expandAlias(m, name, value), true
	}
	return tryAgain, false
}

// aliasRights sets whose rights the alias has: the table owner's, or the
// default ones if that is root.
func (d *delivery) aliasRights(m *mail, t aliasTable) (answer result, failed bool) {
	uid, trusted, err := t.owner()
	if err != nil {
		d.warn("%s: no owner UID for alias database %s", d.r.ID, t.Name())
		return d.fail(*m, "4.3.0", "mail system configuration error"), true
	}
	if trusted {
		m.who = identity{}
		return settled, false
	}
	u, found, err := d.agent.deps.Users.ByUID(uid)
	if err != nil || !found {
		d.warn("cannot find alias database owner for %s", t.Name())
		return d.fail(*m, "4.3.0", "cannot find alias database owner"), true
	}
	m.who = u.identity()
	return settled, false
}

// expandAlias delivers to what an alias lists. With an owner- alias it is a
// mailing list: problems go to the owner, and nothing of the sender's DSN
// parameters is passed on (RFC 3461 §5.2.7).
func (d *delivery) expandAlias(m mail, name, value string) result {
	original := m
	isList, err := d.setOwner(&m, name)
	if err != nil {
		return d.fail(m, "4.3.0", "alias database unavailable")
	}
	if isList {
		m.anew = true
		m.rcpt.Original, m.rcpt.ORCPT, m.rcpt.Notify = "", "", 0
	} else {
		m.rcpt.Notify = withoutSuccess(m.rcpt.Notify)
	}
	if !d.agent.cfg.Frozen {
		m.delivered = m.rcpt.Address
	}
	ok, count := d.list(m, value)
	if count == 0 {
		d.warn("no recipient in alias lookup result for %s", name)
		return d.fail(original, "4.3.0", "alias database unavailable")
	}
	if ok && original.rcpt.Notify&envelope.NotifySuccess != 0 {
		d.expanded(original, isList)
	}
	return ok
}

// setOwner looks for the alias of the list's owner.
func (d *delivery) setOwner(m *mail, name string) (isList bool, err error) {
	if !d.agent.cfg.OwnerSpecial {
		return false, nil
	}
	owner := "owner-" + name
	value, found, err := d.agent.owners.Lookup(d.ctx, owner)
	if err != nil {
		return false, err
	}
	if !found {
		if d.agent.cfg.ResetOwner {
			m.owner = ""
		}
		return false, nil
	}
	if d.agent.cfg.ExpandOwner {
		owner = value
	}
	text := addr.Unquote(owner)
	if boxes := addr.ParseList(owner, maxTokens).Mailboxes(); len(boxes) > 0 {
		text = boxes[0].Address()
	}
	m.owner = d.agent.deps.Resolver.Rewrite(d.ctx, "local", text)
	m.sender = m.owner
	return true, nil
}

// withoutSuccess is what is asked for the parts of an expansion: the success
// of the whole is reported for the whole.
func withoutSuccess(n envelope.Notify) envelope.Notify {
	if n == envelope.NotifySuccess {
		return envelope.NotifyNever
	}
	return n &^ envelope.NotifySuccess
}

// expanded reports an alias to a sender who asked for it: as expanded, or for
// a mailing list as delivered. The log has the lines of the parts.
func (d *delivery) expanded(m mail, isList bool) {
	d.r.Report(transport.Outcome{
		Index: d.index, Recipient: m.rcpt, Status: dsn.FromEnhanced("2.0.0", "alias expanded"),
		Relay: d.r.Transport, Begun: d.begun, Expanded: !isList, Unlogged: true,
	})
}
