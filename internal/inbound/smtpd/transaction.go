package smtpd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/cleanup"
	"posthaste/internal/inbound/peer"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/policy/rate"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/smtpproto"
)

const (
	badSender    = "501 5.1.7 Bad sender address syntax"
	badRecipient = "501 5.1.3 Bad recipient address syntax"
	dsnDisabled  = "501 5.7.1 DSN support is disabled"
)

// mail begins a transaction.
func (s *session) mail(args []smtpproto.Token) reply {
	switch {
	case s.txn.chunks != nil || s.txn.failed:
		return syntaxError("503 5.5.1 Error: MAIL after BDAT")
	case s.set.HeloRequired && s.conn.helo == "":
		return needHelo()
	case s.txn.active:
		// As in Postfix, it takes RET and BODY of the transaction along.
		s.txn.ret, s.txn.encoding = envelope.ReturnDefault, envelope.EncodingUnknown
		return syntaxError("503 5.5.1 Error: nested MAIL command")
	case len(args) < 3 || !strings.EqualFold(args[1].Text, "from:"):
		return syntaxError("501 5.5.4 Syntax: MAIL FROM:<address>")
	case args[2].Bad:
		return syntaxError(badSender)
	}
	if n, over := s.overRate(rate.Message, s.set.MessageRate); over {
		s.log.Warnf("Message delivery request rate limit exceeded: %d from %s for service %s", n, s.conn.nameAddr, s.srv.opt.Service)
		return say("450 4.7.1 Error: too much mail from " + s.conn.peer.Address).mark(errPolicy)
	}
	t := txn{forward: s.txn.forward, arrival: s.srv.deps.Now()}
	r := s.mailArguments(&t, args[2:])
	if !r.isZero() {
		return r
	}
	s.conn.messages++
	s.txn = t
	s.txn.active = true
	s.view.NewTransaction()
	s.view.Sender, s.view.HasSender, s.view.Size, s.view.Instance = t.sender.Address, true, t.size, s.instance()
	s.view.SASLSender = s.conn.login.Sender
	if r = s.acceptMail(); !r.isZero() {
		s.endTransaction()
		s.txn.forward = t.forward
		return r
	}
	return say("250 2.1.0 Ok")
}

// mailArguments reads address and parameters of MAIL into t.
func (s *session) mailArguments(t *txn, args []smtpproto.Token) reply {
	var ok bool
	t.sender, ok = s.address(addressArgument{verb: "MAIL", text: args[0].Text, empty: true, strict: s.set.StrictEnvelopes})
	if !ok {
		return syntaxError(badSender)
	}
	for _, a := range args[1:] {
		if r := s.mailParameter(t, a.Text); !r.isZero() {
			return r
		}
	}
	if t.verp != "" && t.sender.Address == "" {
		return syntaxError("503 5.5.4 Error: XVERP requires non-null sender")
	}
	if s.srv.opt.StandAlone {
		return reply{}
	}
	return s.checkRoom()
}

// mailParameter reads one parameter of MAIL.
func (s *session) mailParameter(t *txn, text string) reply {
	name, value, hasValue := strings.Cut(text, "=")
	offered := func(k smtpproto.Keywords) bool { return s.conn.discard&k == 0 }
	switch strings.ToUpper(name) {
	case "BODY":
		if offered(smtpproto.Keyword8BITMIME) && strings.EqualFold(value, "8BITMIME") {
			t.encoding = envelope.Encoding8bit
			return reply{}
		}
		if offered(smtpproto.Keyword8BITMIME) && strings.EqualFold(value, "7BIT") {
			t.encoding = envelope.Encoding7bit
			return reply{}
		}
	case "SIZE":
		if hasValue {
			return t.parseSize(value)
		}
	case "SMTPUTF8":
		if s.set.SMTPUTF8 && offered(smtpproto.KeywordSMTPUTF8) && !hasValue {
			t.smtputf8 = true
			return reply{}
		}
	case "AUTH":
		if hasValue && offered(smtpproto.KeywordAUTH) {
			return s.authParameter(value)
		}
	case "REQUIRETLS":
		if !hasValue && s.set.RequireTLS && s.conn.tls != nil && offered(smtpproto.KeywordREQUIRETLS) {
			return say("450 4.7.30 Error: REQUIRETLS is not available").mark(errSoftware)
		}
	case "RET":
		if hasValue {
			return s.parseRet(t, value)
		}
	case "ENVID":
		if hasValue {
			return s.parseEnvid(t, value)
		}
	case "XVERP":
		if allowed, err := s.matches(s.set.verp.Match); allowed && err == nil {
			return s.parseVerp(t, value, hasValue)
		}
	}
	return unsupported(text)
}

func (t *txn) parseSize(value string) reply {
	n, err := strconv.ParseUint(value, 10, 63)
	if errors.Is(err, strconv.ErrRange) && n > 0 {
		return say("552 5.3.4 Message size exceeds file system imposed limit").mark(errPolicy)
	}
	if err != nil {
		return syntaxError("501 5.5.4 Bad message size syntax")
	}
	t.size = int64(n)
	return reply{}
}

func (s *session) parseRet(t *txn, value string) reply {
	if s.conn.discard&smtpproto.KeywordDSN != 0 {
		return syntaxError(dsnDisabled)
	}
	ret, err := smtpproto.ParseReturn(value)
	if err != nil || t.ret != envelope.ReturnDefault {
		return syntaxError("501 5.5.4 Bad RET parameter syntax")
	}
	t.ret = ret
	return reply{}
}

func (s *session) parseEnvid(t *txn, value string) reply {
	if s.conn.discard&smtpproto.KeywordDSN != 0 {
		return syntaxError(dsnDisabled)
	}
	id, err := smtpproto.DecodeXtext(value)
	if err != nil || id == "" || t.envid != "" || id != maillog.Printable(id) {
		return syntaxError("501 5.5.4 Bad ENVID parameter syntax")
	}
	t.envid = id
	return reply{}
}

func (s *session) parseVerp(t *txn, value string, hasValue bool) reply {
	if !hasValue {
		t.verp = s.set.VerpDelimiters
		return reply{}
	}
	if len(value) != 2 || strings.Trim(value, s.set.VerpFilter) != "" {
		return syntaxError("501 5.5.4 Error: XVERP needs two characters from " + s.set.VerpFilter)
	}
	t.verp = value
	return reply{}
}

// checkRoom makes sure that the queue has room for a message.
func (s *session) checkRoom() reply {
	if s.srv.deps.Free == nil {
		return reply{}
	}
	free, err := s.srv.deps.Free(s.ctx)
	if err != nil {
		s.log.Warnf("cannot tell the room in the mail queue: %v", err)
		return reply{}
	}
	if float64(free)/1.5 > float64(s.set.MessageLimit) && free > s.set.MinFree {
		return reply{}
	}
	r := say("452 4.3.1 Insufficient system storage").mark(errResource)
	s.logReject("MAIL", r.String())
	s.log.Warnf("not enough free space in mail queue: %d bytes < 1.5*message size limit", free)
	return r
}

// acceptMail asks whether the sender is welcome; s.txn is the new transaction.
func (s *session) acceptMail() reply {
	if s.set.MessageLimit > 0 && s.txn.size > s.set.MessageLimit {
		r := say("552 5.3.4 Message size exceeds fixed limit").mark(errPolicy)
		s.logReject("MAIL", r.String())
		return r
	}
	where, err := s.rewriteContext()
	if err != nil {
		s.log.Warnf("local_header_rewrite_clients: lookup error: %v", err)
		return statusReply(dsn.Trouble(err, "Server local configuration error")).mark(errSoftware)
	}
	if s.txn.rewrite = where; s.txn.forward != nil && s.txn.forward.Source != "" {
		s.txn.rewrite = s.txn.forward.Source
	}
	if r := s.judge(Checker.Mail); !r.isZero() {
		return r
	}
	if !s.set.DelayOpen || s.srv.opt.StandAlone {
		return s.begin()
	}
	return reply{}
}

// recipient adds a recipient to the transaction.
func (s *session) recipient(args []smtpproto.Token) reply {
	s.rcpt = recipient{}
	switch {
	case s.txn.chunks != nil || s.txn.failed:
		return syntaxError("503 5.5.1 Error: RCPT after BDAT")
	case !s.txn.active:
		return syntaxError("503 5.5.1 Error: need MAIL command")
	case len(args) < 3 || !strings.EqualFold(args[1].Text, "to:"):
		return syntaxError("501 5.5.4 Syntax: RCPT TO:<address>")
	case args[2].Bad:
		return syntaxError(badRecipient)
	}
	var ok bool
	s.rcpt.path, ok = s.address(addressArgument{verb: "RCPT", text: args[2].Text, strict: s.set.StrictEnvelopes})
	if !ok {
		return syntaxError(badRecipient)
	}
	for _, a := range args[3:] {
		if r := s.rcptParameter(a.Text); !r.isZero() {
			return r
		}
	}
	if s.set.RecipientLimit > 0 && s.txn.accepted >= s.set.RecipientLimit {
		r := say("452 4.5.3 Error: too many recipients")
		if s.txn.overshoot++; s.txn.overshoot <= s.set.Overshoot {
			r.forgiven = true
			return r
		}
		return r.mark(errPolicy)
	}
	if n, over := s.overRate(rate.Recipient, s.set.RecipientRate); over {
		s.log.Warnf("Recipient address rate limit exceeded: %d from %s for service %s", n, s.conn.nameAddr, s.srv.opt.Service)
		return say("450 4.7.1 Error: too many recipients from " + s.conn.peer.Address).mark(errPolicy)
	}
	back := s.about(s.rcpt.path.Address)
	if r := s.judge(Checker.Rcpt); !r.isZero() {
		back()
		return r
	}
	if s.txn.accepted > 0 {
		back()
	}
	return s.addRecipient()
}

// rcptParameter reads one parameter of RCPT.
func (s *session) rcptParameter(text string) reply {
	name, value, hasValue := strings.Cut(text, "=")
	name = strings.ToUpper(name)
	if !hasValue || (name != "NOTIFY" && name != "ORCPT") {
		return unsupported(text)
	}
	if s.conn.discard&smtpproto.KeywordDSN != 0 {
		return syntaxError(dsnDisabled)
	}
	if name == "NOTIFY" {
		return s.parseNotify(value)
	}
	kind, encoded, found := strings.Cut(value, ";")
	address, err := smtpproto.DecodeXtext(encoded)
	if !found || kind == "" || err != nil || s.rcpt.orcpt != "" || address != maillog.Printable(address) {
		return syntaxError("501 5.5.4 Error: Bad ORCPT parameter syntax")
	}
	s.rcpt.orcpt = kind + ";" + address
	return reply{}
}

func (s *session) parseNotify(value string) reply {
	set, err := smtpproto.ParseNotify(value)
	if err == nil && s.rcpt.notify == 0 {
		s.rcpt.notify = set
		return reply{}
	}
	for word := range strings.SplitSeq(value, ",") {
		if _, err := smtpproto.ParseNotify(word); err != nil && word != "" {
			s.log.Warnf("unknown DSN NOTIFY command value \"%s\" in \"%s\"", word, value)
			break
		}
	}
	return syntaxError("501 5.5.4 Error: Bad NOTIFY parameter syntax")
}

// addRecipient hands the recipient on.
func (s *session) addRecipient() reply {
	if s.txn.sub == nil {
		if r := s.begin(); !r.isZero() {
			return r
		}
	}
	orcpt := s.rcpt.orcpt
	if orcpt == "" {
		orcpt = "rfc822;" + s.rcpt.path.External
	}
	s.txn.sub.AddRecipient(s.ctx, envelope.Recipient{Address: s.rcpt.path.Address, ORCPT: orcpt, Notify: s.rcpt.notify})
	if s.txn.accepted++; s.txn.accepted == 1 {
		s.txn.only = s.rcpt.path.Address
	}
	return say("250 2.1.5 Ok")
}

// begin starts the submission and fills its envelope.
func (s *session) begin() reply {
	t, p := &s.txn, &s.conn.peer
	sub, err := s.srv.deps.Sink.Begin(s.ctx, cleanup.Options{
		Flags: s.set.flags, Origin: s.conn.nameAddr,
		Proto: s.conn.protocol, Helo: s.conn.helo, Size: t.size,
	})
	if err != nil {
		s.log.Warnf("cannot start a message: %v", err)
		return trouble(err)
	}
	t.sub = sub
	e := sub.Envelope()
	e.Return, e.EnvID, e.Encoding, e.SMTPUTF8, e.Verp = t.ret, t.envid, t.encoding, t.smtputf8, t.verp
	e.Arrival, e.Login, e.Inject, e.RewriteContext = t.arrival, s.conn.login, "smtpd", t.rewrite
	e.Filter = s.set.ContentFilter
	e.Client = envelope.Client{
		Name: p.Name, ReverseName: p.ReverseName, Address: p.Address, Port: p.Port, Helo: s.conn.helo,
		Protocol: s.conn.protocol, ServerAddress: p.ServerAddress, ServerPort: p.ServerPort,
	}
	e.Origin = envelope.Origin{Client: e.Client}
	if t.forward != nil {
		e.Origin = t.forward.Origin
	}
	sub.SetSender(s.ctx, t.sender.Address)
	s.log.Infof("%s: client=%s%s", sub.ID(), s.conn.nameAddr, s.clientDetails())
	return reply{}
}

// clientDetails is the rest of the client= line.
func (s *session) clientDetails() string {
	var b strings.Builder
	add := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, ", %s=%s", name, value)
		}
	}
	add("sasl_method", s.conn.login.Method)
	add("sasl_username", s.conn.login.Username)
	add("sasl_sender", s.conn.login.Sender)
	if o := s.txn.forward; o != nil {
		add("orig_queue_id", o.QueueID)
		client := o.Name
		if client == "" && o.Address != "" {
			client = peer.Unknown
		}
		if o.Address != "" {
			client += "[" + o.Address + "]"
		}
		if s.set.PortLogging && o.Port != "" {
			client += ":" + o.Port
		}
		add("orig_client", client)
	}
	return b.String()
}

// addressArgument is an address in a command.
type addressArgument struct {
	verb   string
	text   string
	empty  bool // the null address may be meant
	strict bool // strict_rfc821_envelopes
}

// address reads an address as far as mail can be sent to it; what cannot be
// read is logged.
func (s *session) address(a addressArgument) (smtpproto.Path, bool) {
	path, err := smtpproto.ParsePath(a.text)
	ok := err == nil && (!a.strict || path.Strict)
	switch {
	case !ok:
	case path.Address == "":
		ok = a.empty
	case a.strict && path.Address[0] == '@', path.Address == "@" && !s.set.ResolveNullDomain:
		ok = false
	case !s.srv.opt.StandAlone:
		ok = s.deliverable(path.Address, a.verb)
	}
	if !ok {
		s.log.Warnf("Illegal address syntax from %s in %s command: %s", s.conn.nameAddr, a.verb, a.text)
	}
	return path, ok
}

// deliverable reports whether an address has a form that mail can be sent to.
func (s *session) deliverable(a addr.Address, verb string) bool {
	if s.srv.deps.ValidAddress == nil {
		return s.set.validSyntax(a)
	}
	sender := s.txn.sender.Address
	if verb == "MAIL" {
		sender = ""
	}
	return s.srv.deps.ValidAddress(s.ctx, sender, a)
}

// validSyntax is the part of resolving an address that looks at its form.
func (s *settings) validSyntax(a addr.Address) bool {
	local, domain, hasDomain := a.Split()
	if !s.AllowMinUser && strings.HasPrefix(local, "-") {
		return false
	}
	if !hasDomain {
		return true
	}
	domain = strings.TrimSuffix(domain, ".")
	switch {
	case domain == "":
		return s.ResolveNullDomain
	case domain[0] == '[':
		_, ok := addr.ParseLiteral(domain)
		return ok
	case addr.ValidHostaddr(domain):
		return s.ResolveNumeric
	}
	return addr.ValidHostname(domain)
}

// Resolvable is Deps.ValidAddress by the rules of trivial-rewrite(8). Trouble
// there says nothing about the address: the restrictions will meet it.
func Resolvable(r *route.Resolver) func(ctx context.Context, sender, a addr.Address) bool {
	return func(ctx context.Context, sender, a addr.Address) bool {
		to, err := r.Resolve(ctx, sender, r.Rewriter().Rewrite(ctx, route.ContextLocal, a))
		return err != nil || to.Problem != route.BadSyntax
	}
}
