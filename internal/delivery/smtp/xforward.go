package smtp

import (
	"net/netip"
	"strings"

	"posthaste/internal/mail/envelope"
	"posthaste/internal/wire/smtpproto"
)

// xforward is what a content filter is told about the client that the message
// came from (XFORWARD_README): the attributes that the server asks for, in two
// commands.
func (t *transaction) xforward() []step {
	c := t.agent.config
	if !c.SendXforward || !t.has("XFORWARD") {
		return nil
	}
	wanted := map[string]bool{}
	for _, name := range strings.Fields(strings.ToUpper(t.keywords["XFORWARD"])) {
		wanted[name] = true
	}
	r := t.delivery.request
	from, ident := r.Envelope.Client, string(r.ID)
	if o := r.Envelope.Origin; o != (envelope.Origin{}) {
		from = o.Client
		if o.QueueID != "" {
			ident = o.QueueID
		}
	}
	address := from.Address
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() {
		address = "IPV6:" + address
	}
	source := "REMOTE"
	if r.Envelope.RewriteContext == "local" {
		source = "LOCAL"
	}
	var steps []step
	for _, attributes := range [][][2]string{
		{{"NAME", from.Name}, {"ADDR", address}, {"PORT", from.Port}},
		{{"PROTO", from.Protocol}, {"HELO", from.Helo}, {"IDENT", ident}, {"SOURCE", source}},
	} {
		command := ""
		for _, a := range attributes {
			if wanted[a[0]] && a[1] != "" && a[1] != "unknown" {
				command += " " + a[0] + "=" + smtpproto.EncodeXtext(a[1])
			}
		}
		if command != "" {
			steps = append(steps, step{"XFORWARD" + command, c.XforwardTimeout, "sending XFORWARD command", t.takeXforward})
		}
	}
	return steps
}

// takeXforward: the message goes on without what the server does not want.
func (t *transaction) takeXforward(r reply) {
	if !r.ok() {
		t.agent.log.Warnf("host %s said: %s (in reply to XFORWARD command)", t.where, r.text())
	}
}
