package restrict

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/access"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

// minimal is a checker of a few lists, without a configuration behind it.
func minimal(t testing.TB, lists Lists, classes map[string]string) (*Checker, *route.Resolver) {
	t.Helper()
	rewrite := route.RewriteConfig{MyOrigin: "here.example", MyDomain: "here.example", AppendAtMyOrigin: true, SwapBangPath: true, PercentHack: true}
	tables := table.NewOpener(table.Setup{Types: all.Types()})
	own := func(ip netip.Addr) bool { return ip == netip.MustParseAddr("192.0.2.1") }
	resolver, _ := route.Open(route.Config{Rewrite: rewrite, MyHostname: "here.example", MyDestination: "here.example, localhost",
		RelayDomains: "relay.example", ResolveDequoted: true,
		Routing: route.Routing{LocalTransport: "local", RelayTransport: "relay", DefaultTransport: "smtp"}}, tables, own)
	var names []string
	for name := range classes {
		names = append(names, name)
	}
	c, err := New(Config{Lists: lists, Classes: strings.Join(names, " "), DelayReject: true,
		Codes: Codes{Reject: 554, Defer: 450, MapReject: 554, MapDefer: 450, Relay: 554, UnknownClient: 450, UnknownHost: 450, UnknownAddress: 450,
			InvalidHost: 501, NonFQDN: 504, Plaintext: 450, MultiRcpt: 550, Rbl: 554}},
		Setup{Tables: tables, Route: resolver, DNS: dnstest.Parse(""), Own: own,
			Parameter: func(name string) (string, bool) { v, ok := classes[name]; return v, ok }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, resolver
}

func stranger(sender, rcpt addr.Address) *View {
	return &View{Client: Client{Name: "unknown", NameStatus: NamePerm, ReverseName: "unknown", ReverseStatus: NamePerm, Address: "198.51.100.7"},
		Protocol: "ESMTP", Helo: "x.example", HeloVerb: "EHLO", Sender: sender, HasSender: true, Recipient: rcpt, HasRecipient: true}
}

// What a stranger may send to ends here or in relay_domains, however the
// address is written: what was checked is what is routed.
func TestNoRelayForStrangers(t *testing.T) {
	t.Parallel()
	c, resolver := minimal(t, Lists{Relay: "reject_unauth_destination"}, nil)
	ctx := context.Background()
	pieces := []string{"u", "far.example", "here.example", "relay.example", "localhost", "@", "@", "%", "!", ".", ":", ",", `"`, `\`, " ", "[192.0.2.1]", "[192.0.2.9]", ""}
	random := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 30_000 {
		var b strings.Builder
		for range 1 + random.IntN(9) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		rcpt := addr.Address(b.String())
		if v := c.Rcpt(ctx, stranger("", rcpt)); v.Refused() {
			continue
		}
		accepted++
		r, err := resolver.Resolve(ctx, "", resolver.Rewriter().Rewrite(ctx, route.ContextLocal, rcpt))
		if err != nil || (r.Problem.IsZero() && r.Class != route.ClassLocal && r.Class != route.ClassRelay) {
			t.Fatalf("<%s> accepted, but goes to %s:%s %v", rcpt, r.Transport, r.Nexthop, err)
		}
		if strings.ContainsAny(r.Recipient.Local(), "@!%") {
			t.Fatalf("<%s> accepted with routing left: <%s>", rcpt, r.Recipient)
		}
	}
	if accepted < 100 {
		t.Errorf("only %d addresses accepted: the test tests nothing", accepted)
	}
}

// A problem with the address is found by smtpd before it comes here; but it is
// never relayed either.
func TestBadAddressIsRefused(t *testing.T) {
	t.Parallel()
	c, _ := minimal(t, Lists{Relay: "reject_unauth_destination"}, nil)
	for _, rcpt := range []addr.Address{"u@", "u@.", "u@a..b", "u@[1.2.3]", "-u@far.example"} {
		if v := c.Rcpt(context.Background(), stranger("", rcpt)); !v.Refused() {
			t.Errorf("<%s> accepted", rcpt)
		}
	}
}

// The attributes of a policy request, in the order of SMTPD_POLICY_README.
func TestPolicyRequest(t *testing.T) {
	t.Parallel()
	c, _ := minimal(t, Lists{Relay: "reject"}, nil)
	c.cfg.Policy.Level, c.cfg.Policy.MailVersion = "3.11", "3.11.6"
	v := stranger("a@x.example", "b@y.example")
	v.RecipientCount, v.Size, v.QueueID, v.ETRN = 2, 42, "ABC", "ignored.example"
	v.TLS = TLS{Active: true, Subject: "a=b c", KeySize: 256}
	var got []string
	for _, a := range c.eval(context.Background(), v, commandData).policyRequest("ctx") {
		got = append(got, a.Name+"="+a.Value)
	}
	want := `request=smtpd_access_policy protocol_state=DATA protocol_name=ESMTP client_address=198.51.100.7 client_name=unknown client_port= ` +
		`reverse_client_name=unknown server_address= server_port= helo_name=x.example sender=a@x.example recipient=b@y.example recipient_count=2 ` +
		`queue_id=ABC instance= size=42 etrn_domain= stress= sasl_method= sasl_username= sasl_sender= ccert_subject=a+3Db+20c ccert_issuer= ` +
		`ccert_fingerprint= ccert_pubkey_fingerprint= encryption_protocol= encryption_cipher= encryption_keysize=256 policy_context=ctx ` +
		`compatibility_level=3.11 mail_version=3.11.6`
	if text := strings.Join(got, " "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// sleep ends with the session.
func TestSleepStops(t *testing.T) {
	t.Parallel()
	c, _ := minimal(t, Lists{Relay: "sleep 3600, reject"}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if v := c.Rcpt(ctx, stranger("", "u@here.example")); !v.Refused() {
		t.Error("accepted")
	}
}

// Replies stay within a line, whatever they quote.
func TestReplyTextFits(t *testing.T) {
	t.Parallel()
	text := access.ReplyText(strings.Repeat("ü", 400) + "\r\n\x00")
	if len("554 5.7.1 ")+len(text) > access.MaxReply || strings.ContainsAny(text, "\r\n\x00") || !strings.HasSuffix(text, "ü") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	if got := access.ReplyText("a\r\nb\x00c\xff"); got != "a  b c " {
		t.Errorf("%q", got)
	}
}

// Every restriction that the manual lists is known.
func TestNamesAreKnown(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/restrictions")
	if err != nil {
		t.Fatal(err)
	}
	known := specs()
	for name := range strings.FieldsSeq(string(text)) {
		if _, ok := known[name]; !ok && name != "reject_sender_login_mismatch" {
			t.Errorf("%s is not known", name)
		}
	}
}

// Lists of any words are evaluated in bounded time, and without a panic.
func FuzzList(f *testing.F) {
	for name := range specs() {
		f.Add(name+" hash:x bl.example 5", name)
	}
	f.Add("warn_if_reject warn_if_reject loop", "loop, loop, loop")
	f.Add("defer_if_reject, reject, { permit }, inline:{a=b}", "permit")
	f.Fuzz(func(t *testing.T, list, class string) {
		if strings.Contains(list+class, "sleep") || strings.Contains(list+class, "policy") || strings.Contains(list+class, ":") {
			t.Skip("waits, or opens what the fuzzer names")
		}
		classes := map[string]string{}
		if strings.TrimSpace(class) != "" {
			classes["loop"] = class
		}
		c, _ := minimal(t, Lists{Relay: "reject_unauth_destination", Recipient: list}, classes)
		v := stranger("a@x.example", "u@here.example")
		v.Explain = true
		if verdict := c.Rcpt(context.Background(), v); verdict.Refused() && verdict.Status.Code() < 400 {
			t.Errorf("%q: %s", list, verdict.Status)
		}
	})
}
