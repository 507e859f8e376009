package restrict

import (
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/table"
)

// unlistedRecipient refuses the recipient if it is known not to exist
// (reject_unlisted_recipient). It is looked up once for each recipient.
func (e *eval) unlistedRecipient() outcome {
	if e.v.memo.unlistedRecipient || e.overridden() {
		return dunno
	}
	if e.warn == 0 {
		e.v.memo.unlistedRecipient = true
	}
	return e.unlisted(e.v.Sender, e.v.Recipient, classRecipient)
}

// unlistedSender refuses a sender that could not be replied to because it is
// known not to exist here (reject_unlisted_sender).
func (e *eval) unlistedSender() outcome {
	if e.v.memo.unlistedSender || e.overridden() {
		return dunno
	}
	if e.warn == 0 {
		e.v.memo.unlistedSender = true
	}
	return e.unlisted(e.v.Recipient, e.v.Sender, classSender)
}

// overridden is receive_override_options = no_unknown_recipient_checks.
func (e *eval) overridden() bool {
	for _, option := range table.SplitList(e.c.cfg.ReceiveOverride) {
		if strings.EqualFold(option, "no_unknown_recipient_checks") {
			return true
		}
	}
	return false
}

func (e *eval) unlisted(from, a addr.Address, class string) outcome {
	r, err := e.resolve(from, a)
	if err != nil {
		return e.tryLater(string(a))
	}
	rewritten, err := e.hasRewriting(r.Recipient, class)
	if err != nil {
		return e.tryLater(string(a))
	}
	if rewritten {
		return dunno
	}
	switch r.Transport {
	case "error":
		return e.undeliverable(a, class, r)
	case "retry":
		enhanced, text := split(choose(class, "4.1.0", "4.1.1"), r.Nexthop)
		return e.rejectf(450, e.fix(enhanced, class), "<%s>: %s rejected: %s", a, class, text)
	}
	return e.notInTable(a, class, r)
}

// hasRewriting reports whether a table turns the address into another: it
// exists then, whatever its class says.
func (e *eval) hasRewriting(a addr.Address, class string) (bool, error) {
	r := &e.c.recipient
	tables := []*table.Maps{r.recipientCanonical, r.canonical, r.virtual}
	if class == classSender {
		tables = []*table.Maps{r.recipientCanonical, r.senderCanonical, r.canonical, r.virtual}
	}
	for _, m := range tables {
		if listed, err := e.listed(m, a); listed || err != nil {
			return listed, err
		}
	}
	return false, nil
}

func (e *eval) listed(m *table.Maps, a addr.Address) (bool, error) {
	_, found, err := m.Address(e.ctx, a, e.c.setup.Route.Search())
	return found, err
}

// undeliverable is for addresses that are routed to the error transport.
func (e *eval) undeliverable(a addr.Address, class string, r route.Route) outcome {
	code := 550
	if r.Class == route.ClassVirtualAlias {
		code = e.c.cfg.Codes.AliasRcpt
	}
	enhanced, text := split(choose(class, "5.1.0", "5.1.1"), r.Nexthop)
	return e.rejectf(code, e.fix(enhanced, class), "<%s>: %s rejected: %s", a, class, text)
}

func choose(class, forSender, forOthers string) string {
	if class == classSender {
		return forSender
	}
	return forOthers
}

// notInTable looks the address up in the recipient table of its class. A class
// without a table takes every recipient.
func (e *eval) notInTable(a addr.Address, class string, r route.Route) outcome {
	var m *table.Maps
	var code int
	var name string
	switch r.Class {
	case route.ClassLocal:
		m, code, name = e.c.recipient.local, e.c.cfg.Codes.LocalRcpt, "local recipient"
		for _, local := range []string{e.c.cfg.DoubleBounce, "postmaster", "mailer-daemon"} {
			if strings.EqualFold(local, r.Recipient.Local()) {
				return dunno
			}
		}
	case route.ClassVirtualMailbox:
		m, code, name = e.c.recipient.mailbox, e.c.cfg.Codes.MailboxRcpt, "virtual mailbox"
	case route.ClassRelay:
		m, code, name = e.c.recipient.relay, e.c.cfg.Codes.RelayRcpt, "relay recipient"
	}
	if m.Empty() {
		return dunno
	}
	listed, err := e.listed(m, r.Recipient)
	switch {
	case err != nil:
		return e.tryLater(string(a))
	case listed:
		return dunno
	}
	where := ""
	if e.c.cfg.ShowTable {
		where = " in " + name + " table"
	}
	return e.rejectf(code, choose(class, "5.1.0", "5.1.1"), "<%s>: %s rejected: User unknown%s", a, class, where)
}
