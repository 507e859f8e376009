package spf

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/dns/dnstest"
)

const zoneText = `
pass.example TXT v=spf1 ip4:198.51.100.0/24 -all
fail.example TXT v=spf1 ip4:203.0.113.0/24 -all exp=why.example
why.example TXT %{i} may not use %{o}, says %{r}: see %{S}
soft.example TXT v=spf1 A:nothing.example/24 mx/24//64 ~ALL
soft.example MX 10 mx.example
mx.example HOST 203.0.113.9
open.example TXT v=spf1 +ip4:203.0.113.0/24
none.example TXT some text
two.example TXT v=spf1 -all
two.example TXT v=spf1 ~all
include.example TXT v=spf1 include:pass.example -all
chain.example TXT v=spf1 include:include.example include:down.example -all
redirect.example TXT v=spf1 redirect=fail.example
lost.example TXT v=spf1 redirect=none.example
broken.example TXT v=spf1 nonsense:x -all
down.example SERVFAIL
adown.example TXT v=spf1 a:down.example -all
deep.example TXT v=spf1 include:deep.example -all
void.example TXT v=spf1 a:v1.example a:v2.example a:v3.example ip4:198.51.100.7 -all
slash.example TXT v=spf1 exists:%{l}.slash.example -all
evil.example TXT v=spf1 -all exp=evilwhy.example
evilwhy.example TXT see %{l}
nul.example MX 0 .
nul.example TXT v=spf1 mx -all
`

func ask(t *testing.T, sender string) Answer {
	t.Helper()
	c := Checker{DNS: dnstest.Parse(zoneText), Receiver: "mail.example.com"}
	return c.Check(context.Background(), Query{IP: netip.MustParseAddr("::ffff:198.51.100.7"), Sender: sender, Helo: "helo.example", Trace: true})
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for sender, want := range map[string]string{
		"a@pass.example":     "pass pass.example Mechanism 'ip4:198.51.100.0/24' matched",
		"a@PASS.example.":    "pass pass.example Mechanism 'ip4:198.51.100.0/24' matched",
		"a@fail.example":     "fail fail.example Mechanism '-all' matched",
		"a@soft.example":     "softfail soft.example Mechanism '~all' matched",
		"a@open.example":     "neutral open.example Default neutral result due to no mechanism matches",
		"a@none.example":     "none none.example No applicable sender policy available",
		"a@absent.example":   "none absent.example No applicable sender policy available",
		"a@localhost":        "none localhost No applicable sender policy available",
		"":                   "none helo.example No applicable sender policy available",
		"a@two.example":      "permerror two.example Redundant applicable 'v=spf1' sender policies found",
		"a@include.example":  "pass include.example Mechanism 'include:pass.example' matched",
		"a@redirect.example": "fail fail.example Mechanism '-all' matched",
		"a@lost.example":     "permerror lost.example Redirect domain 'none.example' has no applicable sender policy",
		"a@broken.example":   "permerror broken.example Unknown mechanism type 'nonsense' in 'v=spf1' record",
		"a@down.example":     "temperror down.example 'SERVFAIL' error on DNS 'TXT' lookup of 'down.example'",
		"a@adown.example":    "temperror adown.example 'SERVFAIL' error on DNS 'A' lookup of 'down.example'",
		"a@chain.example":    "pass chain.example Mechanism 'include:include.example' matched",
		"a@deep.example":     "permerror deep.example Maximum DNS-interactive terms limit (10) exceeded",
		"a@void.example":     "permerror void.example Maximum void DNS look-ups limit (2) exceeded",
		`a\@slash.example`:   "fail slash.example Mechanism '-all' matched",
		"a@nul.example":      "fail nul.example Mechanism '-all' matched",
	} {
		got := ask(t, sender)
		if text := got.Result.String() + " " + got.Authority + " " + got.Reason; text != want {
			t.Errorf("%s:\n%s, want\n%s", sender, text, want)
		}
		if got.Result != None && (len(got.Steps) == 0 || got.Steps[0].Domain != got.Domain) {
			t.Errorf("%s: steps %+v", sender, got.Steps)
		}
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	want := "198.51.100.7 may not use fail.example, says mail.example.com: see a%40fail.example"
	if got := ask(t, "a@fail.example"); got.Explanation != want {
		t.Errorf("%q", got.Explanation)
	}
	// The sender's address is the client's choice: it cannot add lines.
	if got := ask(t, "a\r\nX: y\x00é@evil.example"); got.Explanation != "see a??X: y??" {
		t.Errorf("%q", got.Explanation)
	}
	if got := ask(t, "a@pass.example"); got.Explanation != "" {
		t.Errorf("explains a pass: %q", got.Explanation)
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	got := ask(t, "a@soft.example")
	var lines []string
	for _, s := range got.Steps {
		lines = append(lines, s.Term+": "+s.Text)
	}
	want := []string{`: record "v=spf1 A:nothing.example/24 mx/24//64 ~ALL"`, "A:nothing.example/24: no match", "mx/24//64: no match", "~ALL: match: softfail"}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") || got.Lookups != 2 || got.Voids != 1 {
		t.Errorf("%q, %d look-ups, %d void", lines, got.Lookups, got.Voids)
	}
}

func TestVoidLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]Result{0: PermError, 2: PermError, 3: Pass, -1: PermError} {
		c := Checker{DNS: dnstest.Parse(zoneText), VoidLimit: limit}
		if got := c.Check(context.Background(), Query{IP: netip.MustParseAddr("198.51.100.7"), Sender: "a@void.example"}); got.Result != want {
			t.Errorf("limit %d: %s %s", limit, got.Result, got.Reason)
		}
	}
}

// silent is a name service that never answers.
type silent struct{ dns.Resolver }

func (silent) TXT(ctx context.Context, _ string) ([]string, dns.Answer, error) {
	<-ctx.Done()
	return nil, dns.Answer{}, ctx.Err()
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := Checker{DNS: silent{}}
		got := c.Check(context.Background(), Query{IP: netip.MustParseAddr("198.51.100.7"), Sender: "a@slow.example"})
		if got.Result != TempError || got.Reason != "Time-out on DNS 'TXT' lookup of 'slow.example'" || time.Since(start) != 20*time.Second {
			t.Errorf("%s %s after %s", got.Result, got.Reason, time.Since(start))
		}
	})
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"all:x", "all/8", "include", "include:", "include:x", "include:a.example/24", "a:", "a:/8", "a/33", "a//129", "a/08", "a/8/8", "a///8", "a:1.2.3.4",
		"a:b", "mx:", "ptr:", "ptr/8", "exists", "exists:a.example/8", "ip4", "ip4:", "ip4:1.2.3", "ip4:1.2.3.4/", "ip4:1.2.3.4/33", "ip4:1.2.3.4/-1",
		"ip4:::1", "ip6:1.2.3.4", "ip6:::1/129", "ip6:fe80::1%eth0", "redirect=", "redirect=a.example redirect=b.example", "exp=a", "x=%", "x=%{", "x=%{}",
		"x=%{c}", "x=%{q}", "x=%{d0}", "x=%{d1r2}", "x=%{dx}", "x=%(d)", "%all", "1a:b.example", "-", "~", "a,mx", "all\tall", "a:\xff.example",
	} {
		if _, err := parse("v=spf1 " + text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	for _, text := range []string{
		"", "  ", "a", "A/0//0", "a:b.example/8//8", "a:x/8.example", "+a -mx ~ptr ?all", "ip6:::ffff:1.2.3.4", "a:%{d}", "a:%%", "x.-_y=%{d99999999999999999999r-+}",
		"default=pass a=b", "exists:%{ir}.%{v}.x.example", "redirect=x.example exp=y.example", "a:a-b.c-d.",
	} {
		if _, err := parse("v=spf1 " + text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{"", " a mx ptr -all", " ip4:1.2.3.4/24 ip6:::1/64", " a:%{ir}.x.example/24//64 redirect=%{d2}", " exp=a.example x=%{l1r+-}", " include:a.b ~", " a//8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parse(versionTag + s)
		if err != nil {
			return
		}
		for _, term := range r.terms {
			again, err := parse(versionTag + " " + term.text)
			if err != nil || len(again.terms) != 1 || again.terms[0].text != term.text {
				t.Errorf("%q becomes %q: %v", s, term.text, err)
			}
		}
	})
}

func FuzzMacro(f *testing.F) {
	for _, s := range []string{"", "%{s}", "%{L1r-}.%{d2}%%%_%-", "%{i}%{p}%{v}%{h}", "%{c}%{R}%{t}", "%{d5r.+,-/_=}", "%", "%{", "a b"} {
		f.Add(s, "a-b.c@sub.example.com")
	}
	f.Fuzz(func(t *testing.T, s, sender string) {
		k := &check{Checker: &Checker{DNS: dnstest.Parse("")}, ctx: context.Background(), ip: netip.MustParseAddr("2001:db8::1"), helo: "helo.example"}
		k.local, k.origin = identity(Query{Sender: sender})
		for _, where := range []place{inRecord, inExplanation} {
			m, err := parseMacros(s, where)
			if err != nil {
				continue
			}
			if name := k.expandDomain(&m, "example.com"); len(name) > 253 && strings.Contains(name, ".") {
				t.Errorf("%q expands to %d characters", s, len(name))
			}
			if !strings.Contains(s, "%") && k.expand(&m, "example.com") != s && len(s) < maxExpansion {
				t.Errorf("%q is changed", s)
			}
		}
	})
}
