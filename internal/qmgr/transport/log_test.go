package transport

import (
	"strings"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
)

func TestLine(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	env := &envelope.Envelope{Arrival: at(0)}
	verify := &envelope.Envelope{Arrival: at(0), Trace: envelope.TraceVerify}
	rcpt := func(a, orig addr.Address) envelope.Recipient { return envelope.Recipient{Address: a, Original: orig} }
	sent, no := dsn.New(250, "2.0.0", "250 2.0.0 Ok: taken"), dsn.New(550, "5.1.1", `unknown user: "x"`)
	for _, test := range []struct {
		name string
		soft bool
		env  *envelope.Envelope
		out  Outcome
		want string
	}{
		{"sent", false, env, Outcome{Recipient: rcpt("u@a.example", "U@a.example"), Status: sent, Relay: "a.example[192.0.2.1]:25", ConnUse: 2, TLS: "may:none", Connected: at(150), Begun: at(112)},
			"Q: to=<u@a.example>, relay=a.example[192.0.2.1]:25, conn_use=2, delay=12, delays=0.1/0.01/0.04/12, tls=may:none, dsn=2.0.0, status=sent (250 2.0.0 Ok: taken)"},
		{"bounced", false, env, Outcome{Recipient: rcpt("x y@a.example", "alias"), Status: no, Relay: "local"},
			`Q: to=<"x y"@a.example>, orig_to=<alias>, relay=local, delay=12, delays=0.1/0.01/0/12, dsn=5.1.1, status=bounced (unknown user: "x")`},
		{"soft", true, env, Outcome{Recipient: rcpt("x@a", ""), Status: no, ConnUse: 1},
			`Q: to=<x@a>, relay=none, delay=12, delays=0.1/0.01/0/12, dsn=4.1.1, status=SOFTBOUNCE (unknown user: "x")`},
		{"deferred", true, env, Outcome{Recipient: rcpt("x@a", ""), Status: dsn.New(450, "4.4.1", "no answer")},
			`Q: to=<x@a>, relay=none, delay=12, delays=0.1/0.01/0/12, dsn=4.4.1, status=deferred (no answer)`},
		{"deliverable", false, verify, Outcome{Recipient: rcpt("x@a", ""), Status: sent},
			`Q: to=<x@a>, relay=none, delay=12, delays=0.1/0.01/0/12, dsn=2.0.0, status=deliverable (250 2.0.0 Ok: taken)`},
		{"undeliverable", true, verify, Outcome{Recipient: rcpt("x@a", ""), Status: no},
			`Q: to=<x@a>, relay=none, delay=12, delays=0.1/0.01/0/12, dsn=5.1.1, status=undeliverable (unknown user: "x")`},
	} {
		r := &Request{ID: "Q", Envelope: test.env, Active: at(100), Queued: at(111)}
		if got := (LogConfig{Digits: 2, SoftBounce: test.soft}).Line(r, test.out, at(12300)); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		d     string
		limit int
		want  string
	}{
		{"0s", 2, "0"}, {"4ms", 2, "0"}, {"6ms", 2, "0.01"}, {"123456us", 2, "0.12"}, {"1234567us", 2, "1.2"},
		{"1950ms", 2, "2"}, {"1960ms", 2, "2"}, {"12345ms", 2, "12"}, {"99.6s", 2, "100"}, {"123456ms", 2, "123"},
		{"123456789ms", 2, "123457"}, {"1234us", 6, "0.0012"}, {"12us", 6, "0.000012"}, {"1500ms", 0, "2"}, {"999ms", 2, "1"}, {"500ms", 2, "0.5"},
	} {
		d, err := time.ParseDuration(test.d)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if writeSeconds(&b, d, test.limit); b.String() != test.want {
			t.Errorf("%s limit %d: %s, want %s", test.d, test.limit, b.String(), test.want)
		}
	}
}

func TestVERP(t *testing.T) {
	t.Parallel()
	for _, test := range [][4]addr.Address{
		{"owner@list", "+=", "user@site", "owner+user=site@list"}, {"owner@list", "-@", "user", "owner-user@list"},
		{"owner", "+=", "u@s", "owner"}, {"owner@list", "+", "u@s", "owner@list"}, {"", "+=", "u@s", ""},
	} {
		if got := VERP(test[0], string(test[1]), test[2]); got != test[3] {
			t.Errorf("%v: %s", test, got)
		}
	}
}
