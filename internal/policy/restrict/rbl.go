package restrict

import (
	"fmt"
	"net/netip"
	"strings"

	"posthaste/internal/config/macro"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/dnsbl"
	"posthaste/internal/policy/mailhost"
)

// maxListings bounds what a session remembers of DNS lists.
const maxListings = 200

// ask looks a name up in the node's list; a session asks once for each.
func (e *eval) ask(n *node, name string) dnsbl.Result {
	m := &e.v.memo
	key := name + " " + n.arg
	if r, ok := m.dnsbl[key]; ok {
		return r
	}
	r := n.dnsbl.Lookup(e.ctx, e.c.setup.DNS, name)
	query := n.dnsbl.Query(name)
	if r.Trouble != nil {
		e.c.setup.Log.Warnf("%s: RBL lookup error: Host or domain name not found. Name service error for name=%s type=A: %s", query, query, mailhost.DNSText(r.Trouble))
	}
	if r.TextTrouble != nil {
		e.c.setup.Log.Warnf("%s: TXT lookup error: Host or domain name not found. Name service error for name=%s type=TXT: %s", query, query, mailhost.DNSText(r.TextTrouble))
	}
	if m.dnsbl == nil || len(m.dnsbl) >= maxListings {
		m.dnsbl = map[string]dnsbl.Result{}
	}
	m.dnsbl[key] = r
	return r
}

func (e *eval) rejectListedAddress(n *node, _ subject) outcome {
	ip, err := netip.ParseAddr(e.v.Client.Address)
	if err != nil {
		return dunno
	}
	r := e.ask(n, dnsbl.Reverse(ip))
	if !r.Listed {
		return dunno
	}
	return e.listedReply(n, r, e.v.Client.Address, classClient)
}

// rejectListed makes reject_rhsbl_* of what pick finds.
func rejectListed(pick selector) check {
	return func(e *eval, n *node, _ subject) outcome {
		what, s, ok := pick(e.v)
		if !ok {
			return dunno
		}
		domain, ok := listDomain(what)
		if !ok {
			return dunno
		}
		r := e.ask(n, domain)
		if !r.Listed {
			return dunno
		}
		return e.listedReply(n, r, what, s.class)
	}
}

// listDomain is the domain to look up. Addresses have no place in these lists,
// and some answer to names that merely end in a number.
func listDomain(what string) (string, bool) {
	domain := what
	if at := strings.LastIndexByte(what, '@'); at >= 0 {
		domain = what[at+1:]
	}
	if !addr.ValidHostname(domain) {
		return "", false
	}
	last := domain[strings.LastIndexByte(domain, '.')+1:]
	if strings.Trim(last, "0123456789") == "" {
		return "", false
	}
	ascii, err := addr.ToASCII(domain)
	return ascii, err == nil
}

func (e *eval) permitListedAddress(n *node, _ subject) outcome {
	ip, err := netip.ParseAddr(e.v.Client.Address)
	if err != nil {
		return dunno
	}
	return e.permitListed(n, dnsbl.Reverse(ip), e.v.Client.Address)
}

func (e *eval) permitListedName(n *node, _ subject) outcome {
	domain, ok := listDomain(e.v.Client.Name)
	if !ok || e.v.Client.Name == "unknown" {
		return dunno
	}
	return e.permitListed(n, domain, e.v.Client.Name)
}

// permitListed never permits a recipient that reject_unauth_destination would
// refuse: a list of somebody else's must not open the relay.
func (e *eval) permitListed(n *node, name, shown string) outcome {
	if e.v.HasRecipient && e.v.Recipient != "" {
		r, err := e.resolve(e.v.Sender, e.v.Recipient)
		if err != nil {
			return e.tryLater(string(e.v.Recipient))
		}
		if !e.authorized(r) {
			return dunno
		}
	}
	r := e.ask(n, name)
	if r.Trouble != nil {
		e.deferIfReject(dsn.Newf(450, "4.7.1", "<%s>: %s rejected: Service unavailable", shown, classClient))
	}
	if !r.Listed {
		return dunno
	}
	return e.permitted(n.name, e.clientSubject(), "")
}

// listedReply makes the reply from default_rbl_reply or rbl_reply_maps.
func (e *eval) listedReply(n *node, r dnsbl.Result, what, class string) outcome {
	template, known, err := e.c.rblReply.Lookup(e.ctx, n.dnsbl.Domain)
	if err != nil {
		return e.configError()
	}
	if !known {
		template = e.c.cfg.Rbl.DefaultReply
	}
	macros := map[string]string{"rbl_code": fmt.Sprint(e.c.cfg.Codes.Rbl), "rbl_domain": n.dnsbl.Domain,
		"rbl_reason": r.Text, "rbl_txt": r.Text, "rbl_what": what, "rbl_class": class}
	text, err := e.expand(template, macros)
	if err != nil && known {
		e.c.setup.Log.Warnf("rbl_reject_reply: bad rbl reply template for domain %s: %s", n.dnsbl.Domain, template)
		text, err = e.expand(e.c.cfg.Rbl.DefaultReply, macros)
	}
	if err != nil {
		e.c.setup.Log.Warnf("rbl_reject_reply: bad default rbl reply template: %s", e.c.cfg.Rbl.DefaultReply)
		return e.configError()
	}
	status, err := dsn.Parse(text)
	if err != nil || status.Code() < 400 || len(text) < len("554 ") || text[3] != ' ' {
		e.c.setup.Log.Warnf("rbl response code configuration error: %s", text)
		return e.rejectf(450, "4.7.1", "Service unavailable")
	}
	enhanced, text := split("4.7.1", text[4:])
	return e.rejectf(status.Code(), e.fix(enhanced, class), "%s", orElse(text, "Service unavailable"))
}

func (e *eval) expand(template string, extra map[string]string) (string, error) {
	x := macro.Expander{Lookup: func(name string) (string, bool, error) {
		if value, ok := extra[name]; ok {
			return value, true, nil
		}
		value, ok := e.c.Expand(e.v, name)
		return value, ok, nil
	}}
	if e.c.cfg.Rbl.Filter != "" {
		x.Filter = macro.NewByteSet(macro.Unescape(e.c.cfg.Rbl.Filter))
	}
	return x.Expand(template)
}

// Expand is the value of a macro in reply texts: default_rbl_reply and
// smtpd_reject_footer (postconf(5)). ok is false for an unknown name.
func (c *Checker) Expand(v *View, name string) (value string, ok bool) {
	switch name {
	case "client":
		return v.Client.NameAddr(), true
	case "client_address":
		return v.Client.Address, true
	case "client_name":
		return v.Client.Name, true
	case "client_port":
		return v.Client.Port, true
	case "reverse_client_name":
		return v.Client.ReverseName, true
	case "helo_name":
		return v.Helo, true
	case "server_name":
		return c.cfg.MyHostname, true
	case "server_address":
		return v.ServerAddress, true
	case "server_port":
		return v.ServerPort, true
	case "localtime":
		return c.setup.Now().Format("Jan _2 15:04:05"), true
	case "sender":
		if v.HasSender && v.Sender == "" {
			return "<>", true
		}
		return string(v.Sender), true
	case "sender_name":
		return orElse(v.Sender.Local(), "<>"), true
	case "sender_domain":
		return v.Sender.Domain(), true
	case "recipient":
		return string(v.Recipient), true
	case "recipient_name":
		return v.Recipient.Local(), true
	case "recipient_domain":
		return v.Recipient.Domain(), true
	}
	return "", false
}
