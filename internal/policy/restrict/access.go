package restrict

import (
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/access"
	"posthaste/internal/table"
)

// found is what a lookup in an access table came to.
type found struct {
	match table.Match
	ok    bool
	err   error
}

func (e *eval) clientAccess(n *node, s subject) outcome {
	return e.hostAccess(n, e.v.Client.Name, subject{e.v.Client.NameAddr(), classClient, s.acl})
}

func (e *eval) reverseAccess(n *node, s subject) outcome {
	result := e.hostAccess(n, e.v.Client.ReverseName, subject{e.v.Client.ReverseName, classReverse, s.acl})
	return e.forbidOK(n, result, e.v.Client.ReverseName)
}

// hostAccess looks up a client's name, then its address.
func (e *eval) hostAccess(n *node, name string, s subject) outcome {
	f := e.byDomain(n.maps, name)
	if f.err == nil && !f.ok {
		f = e.byAddress(n.maps, e.v.Client.Address)
	}
	return e.result(n, f, s)
}

func (e *eval) byDomain(m *table.Maps, name string) found {
	match, ok, err := m.AccessDomain(e.ctx, name, e.c.accessKey)
	return found{match, ok, err}
}

func (e *eval) byAddress(m *table.Maps, ip string) found {
	match, ok, err := m.AccessHostAddress(e.ctx, ip)
	return found{match, ok, err}
}

func (e *eval) byKey(m *table.Maps, key string) found {
	value, ok, err := m.Lookup(e.ctx, key)
	return found{table.Match{Value: value, Key: key}, ok, err}
}

func (e *eval) heloAccess(n *node, s subject) outcome {
	if e.v.Helo == "" {
		return dunno
	}
	return e.result(n, e.byDomain(n.maps, e.v.Helo), subject{e.v.Helo, classHelo, s.acl})
}

func (e *eval) etrnAccess(n *node, s subject) outcome {
	if e.v.ETRN == "" {
		return dunno
	}
	return e.result(n, e.byDomain(n.maps, e.v.ETRN), subject{e.v.ETRN, classEtrn, s.acl})
}

func (e *eval) senderAccess(n *node, s subject) outcome {
	if !e.v.HasSender {
		return dunno
	}
	s = subject{string(e.v.Sender), classSender, s.acl}
	if e.v.Sender == "" {
		return e.result(n, e.byKey(n.maps, e.c.cfg.NullKey), s)
	}
	return e.mailAccess(n, e.v.Sender, s)
}

func (e *eval) recipientAccess(n *node, s subject) outcome {
	if !e.v.HasRecipient || e.v.Recipient == "" {
		return dunno
	}
	return e.mailAccess(n, e.v.Recipient, subject{string(e.v.Recipient), classRecipient, s.acl})
}

// mailAccess looks an address up in the form in which it would be delivered.
func (e *eval) mailAccess(n *node, a addr.Address, s subject) outcome {
	r, err := e.resolve(e.peer(s.class), a)
	if err != nil {
		return e.tryLater(string(a))
	}
	search := e.c.setup.Route.Search()
	search.Keys = e.c.accessKey
	match, ok, err := n.maps.AccessAddress(e.ctx, r.Recipient, search)
	result := e.result(n, found{match, ok, err}, s)
	if result == permit && s.class == classRecipient && r.Routed && !e.c.cfg.AllowUntrusted {
		// A table that knows user@here must not let user@elsewhere@here pass.
		return dunno
	}
	return result
}

func (e *eval) loginAccess(n *node, s subject) outcome {
	if !e.c.cfg.SASLEnabled || e.v.SASLUsername == "" {
		return dunno
	}
	return e.result(n, e.byKey(n.maps, e.v.SASLUsername), subject{e.v.SASLUsername, classLogin, s.acl})
}

// certAccess looks the client certificate up by what the search order names.
func (e *eval) certAccess(n *node, s subject) outcome {
	if !e.v.TLS.HasCertificate {
		return dunno
	}
	keys := map[string]string{"cert_fingerprint": e.v.TLS.Fingerprint, "pubkey_fingerprint": e.v.TLS.PubkeyFingerprint,
		"cert_subject": e.v.TLS.Subject, "cert_issuer": e.v.TLS.Issuer}
	for _, name := range n.order {
		key := keys[name]
		if key == "" {
			continue
		}
		f := e.byKey(n.maps, key)
		if f.ok || f.err != nil {
			return e.result(n, f, subject{e.v.Client.NameAddr(), classCert, s.acl})
		}
	}
	return dunno
}

// result acts on what was found in a node's table.
func (e *eval) result(n *node, f found, s subject) outcome {
	switch {
	case f.err != nil:
		enhanced, text := "4.3.5", "Server configuration error"
		return e.rejectf(451, enhanced, "<%s>: %s rejected: %s", s.name, s.class, text)
	case !f.ok:
		return dunno
	}
	return e.act(origin{n.maps.Title(), f.match.Key}, f.match.Value, s)
}

// origin is where an action comes from.
type origin struct {
	table string // table or policy server, as written
	entry string // key, or "policy query"
}

// act carries out one access(5) action.
func (e *eval) act(from origin, value string, s subject) outcome {
	a := access.Parse(value)
	switch a.Kind {
	case access.Dunno:
		return dunno
	case access.Permit:
		return e.permitted(a.Word, s, "from "+from.table)
	case access.Reject:
		return e.refuseBy(e.c.cfg.Codes.MapReject, "5.7.1", a.Text, s)
	case access.Defer:
		return e.refuseBy(e.c.cfg.Codes.MapDefer, "4.7.1", a.Text, s)
	case access.Code:
		return e.refuseBy(a.Code, "5.7.1", a.Text, s)
	case access.DeferIfPermit:
		return e.deferIfPermit("defer_if_permit", e.deferral(a.Text, s))
	case access.DeferIfReject:
		e.deferIfReject(e.deferral(a.Text, s))
		return dunno
	case access.Hangup:
		e.event("hangup", a.Text)
		e.hangup = true
		return refuse
	case access.Info:
		e.event("info", a.Text)
		return dunno
	case access.Warn:
		e.event("warn", a.Text)
		return dunno
	case access.Restrictions:
		return e.restrictions(from, a.Text, s)
	}
	return e.order(from, a, s)
}

func (e *eval) refuseBy(code int, enhanced, text string, s subject) outcome {
	enhanced, text = split(enhanced, text)
	if strings.TrimSpace(text) == "" {
		text = "Access denied"
	}
	return e.rejectf(code, e.fix(enhanced, s.class), "<%s>: %s rejected: %s", s.name, s.class, text)
}

func (e *eval) deferral(text string, s subject) dsn.Status {
	enhanced, text := split("4.7.1", text)
	if text == "" {
		text = "Service unavailable"
	}
	return dsn.Newf(e.c.cfg.Codes.MapDefer, e.fix(enhanced, s.class), "<%s>: %s rejected: %s", s.name, s.class, text)
}

// restrictions evaluates a result that is a list of restrictions.
func (e *eval) restrictions(from origin, text string, s subject) outcome {
	log := e.c.setup.Log
	if strings.Contains(text, ":") {
		log.Warnf("access table %s has entry with lookup table: %s", from.table, text)
		log.Warnf("do not specify lookup tables inside SMTPD access maps")
		log.Warnf("define a restriction class and specify its name instead.")
		return e.configError()
	}
	if e.depth >= maxDepth {
		log.Warnf("access table %s entry %s causes unreasonable recursion", from.table, from.entry)
		return e.configError()
	}
	l := &list{param: from.table}
	if err := e.c.parse(l, text, false); err != nil {
		log.Warnf("access table %s entry \"%s\": %v", from.table, from.entry, err)
		return e.configError()
	}
	if len(l.nodes) == 0 {
		log.Warnf("access table %s entry %s has empty value", from.table, text)
		return permit
	}
	return e.list(l, s)
}

// order is an action about the message as a whole. The message may still be
// refused for other reasons.
func (e *eval) order(from origin, a access.Action, s subject) outcome {
	if a.Kind == access.Prepend {
		return e.prepend(from, a)
	}
	word := strings.ToUpper(a.Word)
	if e.c.cfg.ProxyFilter != "" {
		e.c.setup.Log.Warnf("access table %s: with smtpd_proxy_filter specified, action %s is unavailable", from.table, word)
		return dunno
	}
	if e.where == "ETRN" {
		e.c.setup.Log.Warnf("access table %s: action %s is unavailable in smtpd_etrn_restrictions", from.table, word)
		return dunno
	}
	if !e.hasMessage(from, word) {
		return dunno
	}
	to := &e.v.Actions
	switch a.Kind {
	case access.Filter:
		switch {
		case a.Text == "":
			e.complain(from, "has FILTER entry without value")
		case !strings.Contains(a.Text, ":"):
			e.complain(from, "requires transport:destination")
		default:
			e.trigger(s, word, "triggers FILTER "+a.Text)
			to.Filter = a.Text
		}
	case access.Redirect, access.BCC:
		if !strings.Contains(a.Text, "@") {
			e.complain(from, "requires user@domain target")
			return dunno
		}
		e.trigger(s, word, "triggers "+word+" "+a.Text)
		if a.Kind == access.BCC {
			to.BCC = append(to.BCC, addr.Address(a.Text))
		} else {
			to.Redirect = addr.Address(a.Text)
		}
	case access.Hold:
		if !to.Hold {
			e.trigger(s, word, orElse(a.Text, "triggers HOLD action"))
			to.Hold = true
		}
	case access.Discard:
		e.trigger(s, word, orElse(a.Text, "triggers DISCARD action"))
		to.Discard = true
		return permit
	}
	return dunno
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (e *eval) trigger(s subject, word, what string) {
	e.event(strings.ToLower(word), "<"+s.name+">: "+s.class+" "+what)
}

func (e *eval) complain(from origin, what string) {
	e.c.setup.Log.Warnf("access table %s entry \"%s\" %s", from.table, from.entry, what)
}

// hasMessage reports whether there is a message for an action to apply to.
func (e *eval) hasMessage(from origin, word string) bool {
	if e.v.HasSender {
		return true
	}
	e.c.setup.Log.Warnf("access table %s: with smtpd_delay_reject=no, action %s is always skipped in %s or %s restrictions",
		from.table, word, classClient, classHelo)
	return false
}

func (e *eval) prepend(from origin, a access.Action) outcome {
	switch {
	case !e.hasMessage(from, "PREPEND"):
	case e.where == commandEnd:
		e.c.setup.Log.Warnf("access table %s: action PREPEND must be used before smtpd_end_of_data_restrictions", from.table)
	case !access.IsHeader(a.Text):
		e.complain(from, "requires header: text")
	default:
		e.v.Actions.Prepend = append(e.v.Actions.Prepend, oneLine.Replace(a.Text))
	}
	return dunno
}

// oneLine keeps a header from becoming two.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ")

// forbidOK keeps a result about a name that the client chose freely from
// permitting anything.
func (e *eval) forbidOK(n *node, result outcome, name string) outcome {
	if result != permit || e.v.Actions.Discard {
		return result
	}
	log := e.c.setup.Log
	log.Warnf("restriction %s returns OK for %s", n.name, name)
	log.Warnf("this is not allowed for security reasons")
	log.Warnf("use DUNNO instead of OK if you want to make an exception")
	return e.configError()
}
