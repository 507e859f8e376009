package checkspf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/policy/spf"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

const zoneText = `
pass.example TXT v=spf1 ip4:198.51.100.0/24 -all
fail.example TXT v=spf1 -all exp=why.example
why.example TXT ask the postmaster of %{d}
soft.example TXT v=spf1 ~all
broken.example TXT v=spf1 nonsense:x
down.example SERVFAIL
xn--mnchen-3ya.example TXT v=spf1 -all
here.example MX 10 mx1.here.example
here.example MX 20 backup.example
backup.example A 192.0.2.77
`

func defaults() Config {
	return Config{Fail: "reject", SoftFail: "dunno", PermError: "dunno", TempError: "defer", RejectCode: 550, CheckHelo: true,
		Header: "received-spf", AuthservID: "mx.here.example", BackupMX: true, VoidLimit: 2,
		MyHostname: "mail.here.example", MyNetworks: "10.0.0.0/8"}
}

// counter counts look-ups of TXT records.
type counter struct {
	dns.Resolver
	n *int
}

func (c counter) TXT(ctx context.Context, name string) ([]string, dns.Answer, error) {
	*c.n++
	return c.Resolver.TXT(ctx, name)
}

func gate(t *testing.T, c Config, asked *int) *Gate {
	t.Helper()
	g, err := New(c, Setup{DNS: counter{dnstest.Parse(zoneText), asked}, Tables: table.NewOpener(table.Setup{Types: all.Types()})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func view(ip string, sender addr.Address, helo string) *restrict.View {
	return &restrict.View{Client: restrict.Client{Name: "unknown", Address: ip}, Helo: helo, Sender: sender, HasSender: true,
		Recipient: "user@here.example", HasRecipient: true}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	const ip = "198.51.100.7"
	received := func(text string) string { return "PREPEND Received-SPF: " + text }
	for name, c := range map[string]struct {
		view   *restrict.View
		change func(*Config)
		want   string // or what it begins with
	}{
		"pass": {view(ip, "a@pass.example", "x.example"), nil, received("pass (pass.example: 198.51.100.7 is authorized to use 'a@pass.example' in 'mfrom' identity " +
			"(mechanism 'ip4:198.51.100.0/24' matched)) receiver=mail.here.example; identity=mailfrom; envelope-from=\"a@pass.example\"; helo=x.example; client-ip=198.51.100.7")},
		"fail": {view(ip, "a@fail.example", "x.example"), nil, "550 5.7.23 SPF fail for a@fail.example: fail.example: Sender is not authorized by default to use " +
			"'a@fail.example' in 'mfrom' identity (mechanism '-all' matched); fail.example explains: ask the postmaster of fail.example"},
		"soft":            {view(ip, "a@soft.example", "x.example"), nil, received("softfail ")},
		"soft refused":    {view(ip, "a@soft.example", "x.example"), func(c *Config) { c.SoftFail = "Reject"; c.RejectCode = 554 }, "554 5.7.23 SPF softfail "},
		"broken":          {view(ip, "a@broken.example", "x.example"), nil, received("permerror ")},
		"broken refused":  {view(ip, "a@broken.example", "x.example"), func(c *Config) { c.PermError = "reject" }, "550 5.7.24 SPF permerror for a@broken.example: "},
		"down":            {view(ip, "a@down.example", "x.example"), nil, "DEFER_IF_PERMIT 4.7.24 SPF temperror for a@down.example: down.example: 'SERVFAIL' error"},
		"down ignored":    {view(ip, "a@down.example", "x.example"), func(c *Config) { c.TempError = "dunno" }, received("temperror ")},
		"fail warned":     {view(ip, "a@fail.example", "x.example"), func(c *Config) { c.Fail = "warn" }, "WARN SPF fail "},
		"fail later":      {view(ip, "a@fail.example", "x.example"), func(c *Config) { c.Fail = "defer" }, "DEFER_IF_PERMIT 4.7.23 SPF fail "},
		"helo fail":       {view(ip, "a@pass.example", "fail.example"), nil, "550 5.7.23 SPF fail for fail.example: "},
		"helo unchecked":  {view(ip, "a@pass.example", "fail.example"), func(c *Config) { c.CheckHelo = false }, received("pass ")},
		"helo down":       {view(ip, "a@pass.example", "down.example"), nil, received("pass ")},
		"helo pass":       {view(ip, "a@none.example", "pass.example"), nil, received("pass (pass.example: 198.51.100.7 is authorized to use 'pass.example' in 'helo' identity ")},
		"null fail":       {view(ip, "", "fail.example"), func(c *Config) { c.CheckHelo = false }, "550 5.7.23 SPF fail for fail.example: "},
		"null pass":       {view(ip, "", "pass.example"), nil, received("pass ")},
		"no helo":         {view(ip, "", ""), nil, "DUNNO"},
		"nobody":          {view("unknown", "a@fail.example", "x.example"), nil, "DUNNO"},
		"mynetworks":      {view("10.1.2.3", "a@fail.example", "x.example"), nil, "DUNNO"},
		"backup MX":       {view("192.0.2.77", "a@fail.example", "x.example"), nil, received("fail ")},
		"no backup MX":    {view("192.0.2.77", "a@fail.example", "x.example"), func(c *Config) { c.BackupMX = false }, "550 5.7.23 "},
		"forwarder":       {view(ip, "a@fail.example", "x.example"), func(c *Config) { c.Forwarders = "198.51.100.0/25" }, "DUNNO"},
		"exempt":          {view(ip, "a@Fail.example", "x.example"), func(c *Config) { c.Exempt = "fail.example" }, "DUNNO"},
		"other is exempt": {view(ip, "a@fail.example", "x.example"), func(c *Config) { c.Exempt = "example" }, "550 "},
		"table is broken": {view(ip, "a@fail.example", "x.example"), func(c *Config) { c.Forwarders = "hash:/nonexistent/table" }, "DEFER_IF_PERMIT 4.3.0 "},
		"IDN":             {view(ip, "a@münchen.example", "x.example"), nil, "550 5.7.23 SPF fail for a@xn--mnchen-3ya.example: "},
		"no header":       {view(ip, "a@pass.example", "x.example"), func(c *Config) { c.Header = "none" }, "DUNNO"},
		"other header": {view(ip, "a b@pass.example", "x.example"), func(c *Config) { c.Header = "Authentication-Results" },
			`PREPEND Authentication-Results: mx.here.example; spf=pass (pass.example: 198.51.100.7 is authorized to use 'a b@pass.example' in 'mfrom' identity \(mechanism 'ip4:198.51.100.0/24' matched\)) smtp.mailfrom="a b@pass.example"`},
	} {
		set, asked := defaults(), 0
		if c.change != nil {
			c.change(&set)
		}
		g := gate(t, set, &asked)
		if got := g.Policy(context.Background(), c.view, "RCPT"); got != c.want && (c.want == "DUNNO" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %s", name, got)
		}
		c.view.SASLUsername = "somebody"
		if got := g.Policy(context.Background(), c.view, "RCPT"); got != "DUNNO" {
			t.Errorf("%s, logged in: %s", name, got)
		}
	}
}

// A message gets one header field, and one look-up is enough for all
// recipients and for who else asks.
func TestOncePerMessage(t *testing.T) {
	t.Parallel()
	asked := 0
	g := gate(t, defaults(), &asked)
	v := view("198.51.100.7", "a@pass.example", "pass.example")
	ctx := context.Background()
	for _, where := range []string{"RCPT", "RCPT", "DATA"} {
		if line, ok := strings.CutPrefix(g.Policy(ctx, v, where), "PREPEND "); ok {
			v.Actions.Prepend = append(v.Actions.Prepend, line)
		}
	}
	if a := g.Check(ctx, netip.MustParseAddr("198.51.100.7"), "a@pass.example", "pass.example"); a.Result != spf.Pass {
		t.Errorf("%+v", a)
	}
	if a := g.Check(ctx, netip.MustParseAddr("198.51.100.7"), "", "pass.example"); a.Result != spf.Pass || a.Query.Scope != spf.Helo {
		t.Errorf("%+v", a)
	}
	if len(v.Actions.Prepend) != 1 || asked != 2 {
		t.Errorf("%q after %d look-ups", v.Actions.Prepend, asked)
	}
	v.NewTransaction()
	v.HasSender, v.Sender = true, "a@pass.example"
	if got := g.Policy(ctx, v, "END-OF-MESSAGE"); got != "DUNNO" {
		t.Errorf("a header when it is too late: %s", got)
	}
	if got := g.Policy(ctx, v, "RCPT"); !strings.HasPrefix(got, "PREPEND ") {
		t.Errorf("next message: %s", got)
	}
	v.HasSender, v.Sender, v.Helo = false, "", "fail.example"
	if got := g.Policy(ctx, v, "EHLO"); !strings.HasPrefix(got, "550 5.7.23 SPF fail for fail.example") {
		t.Errorf("at EHLO: %s", got)
	}
}

func TestResultsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := &spf.Checker{DNS: counter{dnstest.Parse(zoneText), &asked}}
		r := NewResults()
		ask := func(sender string) {
			r.check(t.Context(), c, spf.Query{IP: netip.MustParseAddr("198.51.100.7"), Sender: sender})
		}
		ask("a@pass.example")
		time.Sleep(remember - time.Second)
		ask("a@pass.example")
		if asked != 1 {
			t.Errorf("asked %d times, want 1", asked)
		}
		time.Sleep(2 * time.Second)
		ask("a@pass.example")
		ask("a@down.example")
		ask("a@down.example")
		if asked != 4 {
			t.Errorf("asked %d times, want 4", asked)
		}
		for i := range maxResults + 100 {
			ask(fmt.Sprintf("a%d@pass.example", i))
		}
		if len(r.known) > maxResults {
			t.Errorf("remembers %d", len(r.known))
		}
	})
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for param, change := range map[string]func(*Config){
		"posthaste_spf_fail_action":      func(c *Config) { c.Fail = "bounce" },
		"posthaste_spf_softfail_action":  func(c *Config) { c.SoftFail = "" },
		"posthaste_spf_permerror_action": func(c *Config) { c.PermError = "x" },
		"posthaste_spf_temperror_action": func(c *Config) { c.TempError = "x" },
		"posthaste_spf_header":           func(c *Config) { c.Header = "both" },
		"posthaste_spf_reject_code":      func(c *Config) { c.RejectCode = 450 },
	} {
		c := defaults()
		change(&c)
		if g, err := New(c, Setup{Tables: table.NewOpener(table.Setup{Types: all.Types()})}); err == nil || !strings.Contains(err.Error(), param) {
			t.Errorf("%s: %v %v", param, g, err)
		}
	}
}

// A gate works as a restriction, in Postfix's ways of refusing.
func TestAsRestriction(t *testing.T) {
	t.Parallel()
	asked := 0
	g := gate(t, defaults(), &asked)
	sink := &maillog.Memory{}
	c, err := restrict.New(restrict.Config{Lists: restrict.Lists{Client: "check_spf, reject"}, DelayReject: true},
		restrict.Setup{Log: maillog.New(sink, "postfix/smtpd", 0, nil), Tables: table.NewOpener(table.Setup{Types: all.Types()}),
			Policies: map[string]restrict.Policy{Name: g.Policy}})
	if c != nil || err == nil || !strings.Contains(err.Error(), "smtpd_relay_restrictions") {
		t.Fatalf("%v %v: a list that relays for all is accepted", c, err)
	}
	c, err = restrict.New(restrict.Config{Lists: restrict.Lists{Relay: "check_spf, reject"}, DelayReject: true, Codes: restrict.Codes{Reject: 554}},
		restrict.Setup{Log: maillog.New(sink, "postfix/smtpd", 0, nil), Tables: table.NewOpener(table.Setup{Types: all.Types()}),
			Policies: map[string]restrict.Policy{Name: g.Policy}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	verdict := c.Rcpt(context.Background(), view("198.51.100.7", "a@fail.example", "x.example"))
	if got := verdict.Status.Reply(); !strings.HasPrefix(got, "550 5.7.23 <user@here.example>: Recipient address rejected: SPF fail for a@fail.example: fail.example: ") {
		t.Errorf("%s", got)
	}
	v := view("198.51.100.7", "a@pass.example", "x.example")
	if verdict := c.Rcpt(context.Background(), v); verdict.Status.Code() != 554 || len(v.Actions.Prepend) != 1 {
		t.Errorf("%s, %q", verdict.Status.Reply(), v.Actions.Prepend)
	}
}
