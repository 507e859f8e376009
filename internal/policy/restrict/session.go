package restrict

import (
	"net/netip"
	"strings"
	"time"

	"posthaste/internal/mail/dsn"
)

func (e *eval) permitAll(n *node, s subject) outcome {
	if n.next != "" {
		e.ignored(n)
	}
	return e.permitted(n.name, s, "")
}

// ignored complains about what can never be reached.
func (e *eval) ignored(n *node) {
	e.c.setup.Log.Warnf("restriction `%s' after `%s' is ignored", n.next, n.name)
}

func (e *eval) rejectAll(n *node, s subject) outcome {
	warn := e.warn
	result := e.rejectf(e.c.cfg.Codes.Reject, "5.7.1", "<%s>: %s rejected: Access denied", s.name, s.class)
	if n.next != "" && warn == 0 {
		e.ignored(n)
	}
	return result
}

func (e *eval) deferAll(n *node, s subject) outcome {
	warn := e.warn
	result := e.rejectf(e.c.cfg.Codes.Defer, "4.3.2", "<%s>: %s rejected: Try again later", s.name, s.class)
	if n.next != "" && warn == 0 {
		e.ignored(n)
	}
	return result
}

func (e *eval) deferIfPermitRequested(_ *node, s subject) outcome {
	return e.deferIfPermit("defer_if_permit", dsn.Newf(450, "4.7.0", "<%s>: %s rejected: defer_if_permit requested", s.name, s.class))
}

func (e *eval) deferIfRejectRequested(_ *node, s subject) outcome {
	e.deferIfReject(dsn.Newf(450, "4.7.0", "<%s>: %s rejected: defer_if_reject requested", s.name, s.class))
	return dunno
}

func (e *eval) sleep(n *node, _ subject) outcome {
	e.pause(time.Duration(n.number) * time.Second)
	return dunno
}

func (e *eval) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.ctx.Done():
	}
}

func (e *eval) unauthPipelining(_ *node, s subject) outcome {
	if !e.v.IllegalPipelining {
		return dunno
	}
	return e.rejectf(503, "5.5.0", "<%s>: %s rejected: Improper use of SMTP command pipelining", s.name, s.class)
}

func (e *eval) plaintextSession(*node, subject) outcome {
	if e.v.TLS.Active {
		return dunno
	}
	return e.rejectf(e.c.cfg.Codes.Plaintext, "4.7.1", "Session encryption is required")
}

func (e *eval) multiRecipientBounce(_ *node, s subject) outcome {
	allowed := 0
	if e.where == commandData {
		allowed = 1
	}
	if !e.v.HasSender || e.v.Sender != "" || e.v.RecipientCount <= allowed {
		return dunno
	}
	return e.rejectf(e.c.cfg.Codes.MultiRcpt, "5.5.3", "<%s>: %s rejected: Multi-recipient bounce", s.name, s.class)
}

func (e *eval) clientSubject() subject {
	return subject{name: e.v.Client.NameAddr(), class: classClient}
}

func (e *eval) permitMyNetworks(n *node, s subject) outcome {
	ok, err := e.c.networks.Match(e.ctx, e.v.Client.Name, e.v.Client.Address)
	switch {
	case err != nil:
		return e.tryLater(s.name)
	case !ok:
		return dunno
	}
	return e.permitted(n.name, e.clientSubject(), "")
}

func (e *eval) permitInterfaces(n *node, _ subject) outcome {
	ip, err := netip.ParseAddr(e.v.Client.Address)
	if err != nil || !e.c.isOwn(ip) {
		return dunno
	}
	return e.permitted(n.name, e.clientSubject(), "")
}

func (e *eval) permitLogin(n *node, _ subject) outcome {
	if !e.c.cfg.SASLEnabled || e.v.SASLUsername == "" {
		return dunno
	}
	return e.permitted(n.name, e.clientSubject(), "")
}

func (e *eval) permitAllCerts(n *node, _ subject) outcome {
	if !e.v.TLS.Trusted {
		return dunno
	}
	return e.permitted(n.name, e.clientSubject(), "")
}

// permitCerts looks the certificate's and the key's fingerprint up in
// relay_clientcerts.
func (e *eval) permitCerts(n *node, s subject) outcome {
	if !e.v.TLS.HasCertificate || e.c.certs.Empty() {
		return dunno
	}
	for _, key := range []string{e.v.TLS.Fingerprint, e.v.TLS.PubkeyFingerprint} {
		_, found, err := e.c.certs.Lookup(e.ctx, key)
		if err != nil {
			return e.tryLater(s.name)
		}
		if found {
			return e.permitted(n.name, e.clientSubject(), "")
		}
	}
	return dunno
}

func (e *eval) unknownClient(*node, subject) outcome {
	if e.v.Client.NameStatus == NameOK {
		return dunno
	}
	return e.rejectf(e.unknownClientCode(e.v.Client.NameStatus), "4.7.25",
		"Client host rejected: cannot find your hostname, [%s]", e.v.Client.Address)
}

func (e *eval) unknownReverse(*node, subject) outcome {
	if e.v.Client.ReverseStatus == NameOK {
		return dunno
	}
	return e.rejectf(e.unknownClientCode(e.v.Client.ReverseStatus), "4.7.1",
		"Client host rejected: cannot find your reverse hostname, [%s]", e.v.Client.Address)
}

// unknownClientCode is always temporary when DNS was in trouble.
func (e *eval) unknownClientCode(status NameStatus) int {
	if status == NameTemp {
		return 450
	}
	return e.c.cfg.Codes.UnknownClient
}

// knownLoginMismatch, loginMismatch and noLogin compare the sender with the
// owners that smtpd_sender_login_maps names.
func (e *eval) knownLoginMismatch(n *node, s subject) outcome { return e.ownership(n, s, ownsIfKnown) }
func (e *eval) loginMismatch(n *node, s subject) outcome      { return e.ownership(n, s, owns) }
func (e *eval) noLogin(n *node, s subject) outcome            { return e.ownership(n, s, hasNoOwner) }

type ownershipRule uint8

const (
	owns        ownershipRule = iota // who is logged in owns the sender
	ownsIfKnown                      // the same, for senders that have owners
	hasNoOwner                       // who is not logged in uses no owned sender
)

func (e *eval) ownership(n *node, _ subject, rule ownershipRule) outcome {
	if !e.c.cfg.SASLEnabled {
		e.c.setup.Log.Warnf("restriction `%s' ignored: no SASL support", n.name)
		return dunno
	}
	loggedIn := e.v.SASLUsername != ""
	if !e.v.HasSender || e.v.Sender == "" || e.c.logins.Empty() || loggedIn == (rule == hasNoOwner) {
		return dunno
	}
	r, err := e.resolve(e.v.Recipient, e.v.Sender)
	if err != nil {
		return e.tryLater(string(e.v.Sender))
	}
	match, known, err := e.c.logins.Address(e.ctx, r.Recipient, e.c.setup.Route.Search())
	if err != nil {
		return e.tryLater(string(e.v.Sender))
	}
	if rule == hasNoOwner {
		if !known {
			return dunno
		}
		return e.rejectf(553, "5.7.1", "<%s>: Sender address rejected: not logged in", e.v.Sender)
	}
	if rule == ownsIfKnown && !known {
		return dunno
	}
	for _, owner := range strings.FieldsFunc(match.Value, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		if strings.EqualFold(owner, e.v.SASLUsername) {
			return dunno
		}
	}
	return e.rejectf(553, "5.7.1", "<%s>: Sender address rejected: not owned by user %s", e.v.Sender, e.v.SASLUsername)
}
