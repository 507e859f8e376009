package restrict

import (
	"errors"
	"strconv"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/access"
	"posthaste/internal/policy/policyclient"
	"posthaste/internal/wire/smtpproto"
)

// fallbackAction is what counts when the default action of a policy server
// asks a policy server that fails.
const fallbackAction = "451 4.3.5 Server configuration problem"

// policyService asks a policy server; its answer is an access(5) action.
func (e *eval) policyService(n *node, s subject) outcome {
	server := n.policy.Server()
	from := origin{server.Text, "policy query"}
	action, err := n.policy.Ask(e.ctx, e.policyRequest(server.Settings.Context))
	if err == nil {
		return e.act(from, action, s)
	}
	action = server.Settings.DefaultAction
	if e.policies > 0 {
		action = fallbackAction
	}
	e.policies++
	defer func() { e.policies-- }()
	return e.act(from, action, s)
}

// inProcess is a policy of this process as a restriction.
func inProcess(name string, p Policy) check {
	return func(e *eval, _ *node, s subject) outcome {
		return e.act(origin{name, "policy query"}, p(e.ctx, e.v, e.where), s)
	}
}

// policyRequest has the attributes of SMTPD_POLICY_README in Postfix's order.
func (e *eval) policyRequest(context string) []policyclient.Attribute {
	v := e.v
	p := &e.c.cfg.Policy
	etrn := ""
	if e.where == "ETRN" {
		etrn = v.ETRN
	}
	recipient := ""
	if v.HasRecipient {
		recipient = string(v.Recipient)
	}
	count := 0
	if e.where == commandData || e.where == commandEnd {
		// Before, the recipients may still be refused one after the other.
		count = v.RecipientCount
	}
	return []policyclient.Attribute{
		{Name: "request", Value: "smtpd_access_policy"},
		{Name: "protocol_state", Value: e.where},
		{Name: "protocol_name", Value: v.Protocol},
		{Name: "client_address", Value: v.Client.Address},
		{Name: "client_name", Value: v.Client.Name},
		{Name: "client_port", Value: v.Client.Port},
		{Name: "reverse_client_name", Value: v.Client.ReverseName},
		{Name: "server_address", Value: v.ServerAddress},
		{Name: "server_port", Value: v.ServerPort},
		{Name: "helo_name", Value: v.Helo},
		{Name: "sender", Value: string(v.Sender)},
		{Name: "recipient", Value: recipient},
		{Name: "recipient_count", Value: strconv.Itoa(count)},
		{Name: "queue_id", Value: v.QueueID},
		{Name: "instance", Value: v.Instance},
		{Name: "size", Value: strconv.FormatInt(v.Size, 10)},
		{Name: "etrn_domain", Value: etrn},
		{Name: "stress", Value: p.Stress},
		{Name: "sasl_method", Value: v.SASLMethod},
		{Name: "sasl_username", Value: v.SASLUsername},
		{Name: "sasl_sender", Value: v.SASLSender},
		{Name: "ccert_subject", Value: smtpproto.EncodeXtext(v.TLS.Subject)},
		{Name: "ccert_issuer", Value: smtpproto.EncodeXtext(v.TLS.Issuer)},
		{Name: "ccert_fingerprint", Value: v.TLS.Fingerprint},
		{Name: "ccert_pubkey_fingerprint", Value: v.TLS.PubkeyFingerprint},
		{Name: "encryption_protocol", Value: v.TLS.Protocol},
		{Name: "encryption_cipher", Value: v.TLS.Cipher},
		{Name: "encryption_keysize", Value: strconv.Itoa(v.TLS.KeySize)},
		{Name: "policy_context", Value: context},
		{Name: "compatibility_level", Value: p.Level},
		{Name: "mail_version", Value: p.MailVersion},
	}
}

// unverified asks verify(8), waiting a little for a probe to end.
func (e *eval) unverified(a addr.Address, s subject) outcome {
	cfg := &e.c.cfg.Verify
	rejectCode, deferCode, reason, tempfail := cfg.RecipientReject, cfg.RecipientDefer, cfg.RecipientReason, cfg.RecipientTempfail
	if s.class == classSender {
		rejectCode, deferCode, reason, tempfail = cfg.SenderRejectCode, cfg.SenderDeferCode, cfg.SenderReason, cfg.SenderTempfail
	}
	enhanced := choose(s.class, "4.1.7", "4.1.1")
	v, err := e.verify(a)
	if err != nil {
		e.c.setup.Log.Warnf("verify service failure: %v", err)
		return e.deferIfPermit(tempfail, dsn.Newf(450, enhanced, "<%s>: %s rejected: address verification problem", s.name, s.class))
	}
	code := deferCode
	switch v.State {
	case VerifyOK:
		return dunno
	case VerifyBounced:
		code = rejectCode
	}
	why := v.Text
	if reason != "" {
		why = reason
	}
	switch code / 100 {
	case 2:
		return dunno
	case 4:
		const maxWhy = 250
		if len(why) > maxWhy {
			why = access.ReplyText(why[:maxWhy])
		}
		return e.deferIfPermit(tempfail, dsn.Newf(code, enhanced, "<%s>: %s rejected: unverified address: %s", s.name, s.class, why))
	}
	return e.rejectf(code, enhanced, "<%s>: %s rejected: undeliverable address: %s", s.name, s.class, why)
}

var errNoVerifier = errors.New("no address verification service")

func (e *eval) verify(a addr.Address) (Verification, error) {
	if e.c.setup.Verifier == nil {
		return Verification{}, errNoVerifier
	}
	// The address is probed in the form in which it would be routed.
	r, err := e.resolve("", a)
	if err != nil {
		return Verification{}, err
	}
	for try := 1; ; try++ {
		v, err := e.c.setup.Verifier.Query(e.ctx, r.Recipient)
		if err != nil || v.State != VerifyPending || try >= e.c.cfg.Verify.PollCount {
			return v, err
		}
		e.pause(e.c.cfg.Verify.PollDelay)
		if e.ctx.Err() != nil {
			return v, e.ctx.Err()
		}
	}
}
