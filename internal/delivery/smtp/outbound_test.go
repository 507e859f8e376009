package smtp

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/internal/mail/envelope"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, hello := range map[string]string{"pipelining": keywords, "one by one": "250 s"} {
		synctest.Test(t, func(t *testing.T) {
			r := deliver(t, job{config: testConfig(), nexthop: "[192.0.2.11]", sender: "s@x", rcpts: "good@two.example bad@two.example",
				hosts:    map[string]server{hostA: {"EHLO": hello, "RCPT TO:<bad@two.example>": "550 5.1.1 no"}},
				Envelope: envelope.Envelope{Trace: envelope.TraceProbe}})
			if o := r.outcomes["good@two.example"]; o.Status.Enhanced() != "2.1.5" || o.Status.Text() != "250 2.1.5 Ok" {
				t.Errorf("%s: good: %v", name, o.Status)
			}
			if o := r.outcomes["bad@two.example"]; !o.Status.Permanent() {
				t.Errorf("%s: bad: %v", name, o.Status)
			}
			said := r.transcript(hostA)
			if strings.Contains(said, "DATA") || strings.Count(said, "RSET") != 1 {
				t.Errorf("%s: said\n%s", name, said)
			}
		})
	}
}

func TestXforward(t *testing.T) {
	t.Parallel()
	offers := "250-s\n250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
	client := envelope.Client{Name: "c.example", Address: "2001:db8::1", Port: "1025", Helo: "he lo", Protocol: "ESMTP"}
	for _, test := range []struct {
		name, ehlo, reply, want string
		env                     envelope.Envelope
	}{
		{"all", offers, "250 ok", "XFORWARD NAME=c.example ADDR=IPV6:2001:db8::1 PORT=1025\nXFORWARD PROTO=ESMTP HELO=he+20lo IDENT=QID SOURCE=REMOTE",
			envelope.Envelope{Client: client}},
		{"some", "250-s\n250 XFORWARD ADDR HELO", "250 ok", "XFORWARD ADDR=IPV6:2001:db8::1\nXFORWARD HELO=he+20lo", envelope.Envelope{Client: client}},
		{"earlier client", offers, "250 ok", "XFORWARD NAME=first.example\nXFORWARD IDENT=FIRST SOURCE=LOCAL",
			envelope.Envelope{Client: client, RewriteContext: "local", Origin: envelope.Origin{Client: envelope.Client{Name: "first.example"}, QueueID: "FIRST"}}},
		{"refused", offers, "550 no", "XFORWARD NAME=c.example ADDR=IPV6:2001:db8::1 PORT=1025\nXFORWARD PROTO=ESMTP HELO=he+20lo IDENT=QID SOURCE=REMOTE",
			envelope.Envelope{Client: client}},
		{"not offered", "250 s", "", "", envelope.Envelope{Client: client}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := testConfig()
			c.SendXforward, c.XforwardTimeout = true, 300*time.Second
			r := deliver(t, job{config: c, nexthop: "[192.0.2.11]", sender: "s@x", rcpts: "u@two.example", Envelope: test.env,
				hosts: map[string]server{hostA: {"EHLO": test.ehlo, "XFORWARD": test.reply}}})
			var said []string
			for _, line := range strings.Split(r.transcript(hostA), "\n") {
				if strings.HasPrefix(line, "XFORWARD") {
					said = append(said, line)
				}
			}
			if got := strings.Join(said, "\n"); got != test.want {
				t.Errorf("%s: said\n%s\nwant\n%s", test.name, got, test.want)
			}
			if o := r.outcomes["u@two.example"]; !o.Status.OK() {
				t.Errorf("%s: %v", test.name, o.Status)
			}
		})
	}
}

func TestUTF8Header(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, ehlo, content string
		want                string
		asked               bool
	}{
		{"header", "250 s", "Subject: \xc3\xa9\n\nx\n", "5.6.7", true},
		{"body only", "250 s", "Subject: x\n\n\xc3\xa9\n", "2.0.0", true},
		{"not asked for", "250 s", "Subject: \xc3\xa9\n\nx\n", "2.0.0", false},
		{"offered", "250-s\n250 SMTPUTF8", "Subject: \xc3\xa9\n\nx\n", "2.0.0", true},
		{"long header", "250 s", "Subject: " + strings.Repeat("x", 10000) + "\xc3\xa9\n\nx\n", "5.6.7", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := deliver(t, job{config: testConfig(), nexthop: "[192.0.2.11]", sender: "s@x", rcpts: "u@two.example",
				content: strings.NewReader(test.content), hosts: map[string]server{hostA: {"EHLO": test.ehlo}},
				Envelope: envelope.Envelope{SMTPUTF8: test.asked}})
			if o := r.outcomes["u@two.example"]; o.Status.Enhanced() != test.want {
				t.Errorf("%s: %v", test.name, o.Status)
			}
			if strings.Contains(r.transcript(hostA), " SMTPUTF8") != (test.name == "offered") {
				t.Errorf("%s: said\n%s", test.name, r.transcript(hostA))
			}
		})
	}
}
