package smtp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/internal/delivery/smtp/tlspolicy"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls"
)

const zone = `
two.example MX 20 b.two.example
two.example MX 10 a.two.example
a.two.example A 192.0.2.11
b.two.example A 192.0.2.12
plain.example A 192.0.2.15
null.example MX 0 .
me.example MX 10 mail.example.com
mail.example.com A 192.0.2.1
backup.example MX 10 a.two.example
backup.example MX 20 mail.example.com
backup.example MX 30 b.two.example
badname.example MX 10 bad_name-.example
noaddr.example MX 10 nohost.example
fail.example SERVFAIL
unknown.example TXT nothing here
`

// server answers commands by their first word ("greeting", "EHLO", "RCPT" ...)
// or "RCPT address"; "drop" hangs up, "hang" says nothing more.
type server map[string]string

const keywords = "250-s\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250 DSN"

var polite = server{
	"greeting": "220 s ESMTP", "EHLO": keywords, "LHLO": keywords, "HELO": "250 s", "MAIL": "250 2.1.0 Ok", "RCPT": "250 2.1.5 Ok",
	"DATA": "354 go", ".": "250 2.0.0 Ok: taken", "RSET": "250 2.0.0 Ok", "QUIT": "221 2.0.0 Bye",
}

func (s server) answer(words ...string) string {
	for _, word := range words {
		for _, from := range []server{s, polite} {
			if text, ok := from[word]; ok {
				return text
			}
		}
	}
	return "500 what?"
}

// world is the hosts that can be connected to, and what was said to them.
type world struct {
	hosts map[string]server
	mu    sync.Mutex
	said  map[string][]string
}

func (w *world) dial(_ context.Context, _, _, remote string) (net.Conn, error) {
	s, ok := w.hosts[remote]
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	ours, theirs := net.Pipe()
	go w.serve(remote, s, theirs)
	return ours, nil
}

func (w *world) note(remote, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[remote] = append(w.said[remote], line)
}

func (w *world) transcript(remote string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.said[remote], "\n")
}

// serve answers from its own goroutine, so that pipelined commands are read
// while replies wait.
func (w *world) serve(remote string, s server, c net.Conn) {
	replies := make(chan string, 1000)
	defer close(replies)
	go func() {
		for text := range replies {
			if text == "drop" {
				c.Close()
				return
			}
			io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")+"\r\n")
		}
	}()
	say := func(text string) bool {
		if text != "hang" {
			replies <- text
		}
		return text != "drop"
	}
	if !say(s.answer("greeting")) {
		return
	}
	in := bufio.NewReader(c)
	recipients := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		w.note(remote, line)
		verb, argument, _ := strings.Cut(line, " ")
		path, _, _ := strings.Cut(argument, " ")
		answer := s.answer(verb+" "+path, verb)
		if verb == "RCPT" && answer[0] == '2' {
			recipients++
		}
		if verb == "DATA" && recipients == 0 {
			answer = "554 5.5.1 no valid recipients"
		}
		if !say(answer) {
			return
		}
		if strings.HasPrefix(answer, "354") && !w.content(remote, s, in, say) {
			return
		}
	}
}

func (w *world) content(remote string, s server, in *bufio.Reader, say func(string) bool) bool {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			return say(s.answer("."))
		}
		w.note(remote, "| "+strings.TrimSuffix(line, "\r\n"))
	}
}

// result of one delivery.
type result struct {
	*world
	outcomes map[string]transport.Outcome
	log      string
}

func (r result) want(t *testing.T, rcpt, want string) {
	t.Helper()
	o, ok := r.outcomes[rcpt]
	if got := fmt.Sprintf("%s %s relay=%s tls=%s", o.Status.Enhanced(), o.Status.Text(), o.Relay, o.TLS); !ok || got != want {
		t.Errorf("%s: got  %s (reported: %v)\n want %s", rcpt, got, ok, want)
	}
}

func testConfig() Config {
	return Config{
		Myhostname: "mail.example.com", HeloName: "mail.example.com", LHLOName: "mail.example.com", TCPPort: "25",
		ConnectTimeout: 30 * time.Second, HeloTimeout: 300 * time.Second, MailTimeout: 300 * time.Second,
		RcptTimeout: 300 * time.Second, DataInitTimeout: 120 * time.Second, DataXferTimeout: 180 * time.Second,
		DataDoneTimeout: 600 * time.Second, RsetTimeout: 20 * time.Second, QuitTimeout: 300 * time.Second,
		AlwaysEHLO: true, SkipQuitResponse: true, Skip5xxGreeting: true, LineLimit: 998,
		MXAddressLimit: 5, MXSessionLimit: 2, AddressPreference: "any", InetProtocols: "all", MinBackoff: 300 * time.Second,
		TLS: testTLS("may"),
	}
}

// testTLS is Postfix's defaults about TLS.
func testTLS(level string) tlspolicy.Config {
	return tlspolicy.Config{
		Level: level, Protocols: ">=TLSv1", MandatoryProtocols: ">=TLSv1", Ciphers: "medium", MandatoryCiphers: "medium",
		VerifyMatch: "hostname", SecureMatch: "nexthop, dot-nexthop", Timeout: 300 * time.Second,
		Client: mailtls.ClientConfig{Digest: "sha256", Depth: 9, Lists: mailtls.CipherLists{Medium: "HIGH:MEDIUM", High: "HIGH"}},
	}
}

type job struct {
	config  Config
	hosts   map[string]server
	nexthop string
	sender  string
	rcpts   string
	content io.ReadSeeker
	envelope.Envelope
	lmtp bool
	ctx  context.Context
}

func deliver(t *testing.T, j job) result {
	t.Helper()
	w := &world{hosts: j.hosts, said: map[string][]string{}}
	log := &maillog.Memory{}
	a, err := New(j.config, Deps{DNS: dnstest.Parse(zone), Log: maillog.New(log, "postfix/smtp", 1, nil), LMTP: j.lmtp, QueueDirectory: "/queue",
		Own: func(ip netip.Addr) bool { return ip.String() == "192.0.2.1" }})
	if err != nil {
		t.Fatal(err)
	}
	a.dial = w.dial
	j.Envelope.Sender = addr.Address(j.sender)
	out := result{world: w, outcomes: map[string]transport.Outcome{}}
	var mu sync.Mutex
	r := &transport.Request{
		ID: "QID", Envelope: &j.Envelope, Size: 7, Transport: "smtp", Nexthop: j.nexthop,
		Open: func() io.ReadSeeker {
			if j.content != nil {
				return j.content
			}
			return strings.NewReader("Subject: x\n\n.hello\n")
		},
		Report: func(o transport.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			if _, twice := out.outcomes[string(o.Recipient.Address)]; twice {
				t.Errorf("%s was answered twice", o.Recipient.Address)
			}
			out.outcomes[string(o.Recipient.Address)] = o
		},
	}
	for i, rcpt := range strings.Fields(j.rcpts) {
		r.Recipients = append(r.Recipients, transport.Recipient{Index: i,
			Recipient: envelope.Recipient{Address: addr.Address(rcpt), Original: addr.Address(rcpt)}})
	}
	if j.ctx == nil {
		j.ctx = t.Context()
	}
	a.Deliver(j.ctx, r)
	out.log = strings.ReplaceAll(log.String(), "postfix/smtp: ", "")
	return out
}

const (
	hostA = "192.0.2.11:25"
	hostB = "192.0.2.12:25"
	relA  = "relay=a.two.example[192.0.2.11]:25 tls=may:none"
	relB  = "relay=b.two.example[192.0.2.12]:25 tls=may:none"
)

func TestDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{hostA: {}}, nexthop: "two.example", sender: "s@x.example", rcpts: `u+1@two.example "q"@two.example`})
		synctest.Wait()
		r.want(t, "u+1@two.example", "2.0.0 250 2.0.0 Ok: taken "+relA)
		want := "EHLO mail.example.com\nMAIL FROM:<s@x.example> SIZE=7\n" +
			"RCPT TO:<u+1@two.example> ORCPT=rfc822;u+2B1@two.example\n" +
			"RCPT TO:<\"\\\"q\\\"\"@two.example> ORCPT=rfc822;\"\\\"q\\\"\"@two.example\nDATA\n| Subject: x\n| \n| ..hello\nQUIT"
		if got := r.transcript(hostA); got != want {
			t.Errorf("said:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestNextHostTakesOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		a    server
		log  string
	}{
		{"refused", nil, "connect to a.two.example[192.0.2.11]:25: Connection refused"},
		{"busy", server{"greeting": "421 4.3.2 busy"}, "QID: host a.two.example[192.0.2.11] refused to talk to me: 421 4.3.2 busy"},
		{"unfriendly", server{"greeting": "554 5.7.1 go away"}, "QID: host a.two.example[192.0.2.11] refused to talk to me: 554 5.7.1 go away"},
		{"mail 4xx", server{"MAIL": "451 4.3.0 not now"}, "QID: host a.two.example[192.0.2.11] said: 451 4.3.0 not now (in reply to MAIL FROM command)"},
		{"rcpt 4xx", server{"RCPT": "450 4.2.1 later"}, "QID: host a.two.example[192.0.2.11] said: 450 4.2.1 later (in reply to RCPT TO command)"},
		{"data 4xx", server{"DATA": "451 4.3.0 no data"}, "QID: host a.two.example[192.0.2.11] said: 451 4.3.0 no data (in reply to DATA command)"},
		{"end 4xx", server{".": "452 4.3.1 full"}, "QID: host a.two.example[192.0.2.11] said: 452 4.3.1 full (in reply to end of DATA command)"},
		{"hangs up", server{"RCPT": "drop"}, "QID: lost connection with a.two.example[192.0.2.11] while sending RCPT TO"},
		{"silent", server{"EHLO": "hang"}, "QID: conversation with a.two.example[192.0.2.11] timed out while performing the EHLO handshake"},
		{"garbage", server{"MAIL": "hello"}, "QID: Protocol error: host a.two.example[192.0.2.11] sent an invalid reply while sending MAIL FROM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hosts := map[string]server{hostB: {}}
				if c.a != nil {
					hosts[hostA] = c.a
				}
				r := deliver(t, job{config: testConfig(), hosts: hosts, nexthop: "two.example", rcpts: "u@two.example"})
				r.want(t, "u@two.example", "2.0.0 250 2.0.0 Ok: taken "+relB)
				if r.log != c.log {
					t.Errorf("log:\n%s\nwant:\n%s", r.log, c.log)
				}
			})
		})
	}
}

func TestLastHostAnswers(t *testing.T) {
	t.Parallel()
	const where = "host plain.example[192.0.2.15] "
	const relay = "relay=plain.example[192.0.2.15]:25 tls=may:none"
	for _, c := range []struct {
		name string
		s    server
		want string
	}{
		{"busy", server{"greeting": "421 4.3.2 busy"}, "4.3.2 " + where + "refused to talk to me: 421 4.3.2 busy relay=plain.example[192.0.2.15]:25 tls=may"},
		{"unfriendly", server{"greeting": "554 5.7.1 no"}, "4.7.1 " + where + "refused to talk to me: 554 5.7.1 no relay=plain.example[192.0.2.15]:25 tls=may"},
		{"sender", server{"MAIL": "554 5.1.8 evil"}, "5.1.8 " + where + "said: 554 5.1.8 evil (in reply to MAIL FROM command) " + relay},
		{"no code", server{"RCPT": "553 sorry"}, "5.0.0 " + where + "said: 553 sorry (in reply to RCPT TO command) " + relay},
		{"lines", server{"RCPT": "550-5.7.1 one\n550 5.7.1 two"}, "5.7.1 " + where + "said: 550-5.7.1 one 550 5.7.1 two (in reply to RCPT TO command) " + relay},
		{"end", server{".": "550 5.6.0 refused"}, "5.6.0 " + where + "said: 550 5.6.0 refused (in reply to end of DATA command) " + relay},
		{"dropped", server{"DATA": "drop"}, "4.4.2 lost connection with plain.example[192.0.2.15] while sending DATA command " + relay},
		{"dropped at end", server{".": "drop"}, "4.4.2 lost connection with plain.example[192.0.2.15] while sending end of data -- message may be sent more than once " + relay},
		{"small server", server{"EHLO": "250-s\n250 SIZE 5"}, "5.3.4 message size 7 exceeds size limit 5 of server plain.example[192.0.2.15] " + relay},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": c.s}, nexthop: "plain.example", rcpts: "u@plain.example"})
				r.want(t, "u@plain.example", c.want)
			})
		})
	}
}

func TestEachRecipientHasItsAnswer(t *testing.T) {
	t.Parallel()
	for _, ehlo := range []string{keywords, "250 s"} {
		synctest.Test(t, func(t *testing.T) {
			a := server{"EHLO": ehlo, "RCPT TO:<later@two.example>": "450 4.2.1 later", "RCPT TO:<never@two.example>": "550 5.1.1 never"}
			r := deliver(t, job{config: testConfig(), hosts: map[string]server{hostA: a, hostB: {}}, nexthop: "two.example",
				rcpts: "later@two.example never@two.example ok@two.example"})
			r.want(t, "ok@two.example", "2.0.0 250 2.0.0 Ok: taken "+relA)
			r.want(t, "never@two.example", "5.1.1 host a.two.example[192.0.2.11] said: 550 5.1.1 never (in reply to RCPT TO command) "+relA)
			r.want(t, "later@two.example", "2.0.0 250 2.0.0 Ok: taken "+relB)
		})
	}
}

func TestResetWhenNobodyIsWanted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": {"RCPT": "550 5.1.1 no"}}, nexthop: "plain.example", rcpts: "u@plain.example"})
		synctest.Wait()
		if got := r.transcript("192.0.2.15:25"); !strings.HasSuffix(got, "DATA\nRSET\nQUIT") {
			t.Errorf("said:\n%s", got)
		}
	})
}

func TestHeloWhenEhloIsNotKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": {"EHLO": "502 what?"}}, nexthop: "plain.example", rcpts: "u@plain.example"})
		synctest.Wait()
		if got, want := r.transcript("192.0.2.15:25"), "EHLO mail.example.com\nHELO mail.example.com\nMAIL FROM:<>\nRCPT TO:<u@plain.example>\nDATA\n| Subject: x\n| \n| ..hello\nQUIT"; got != want {
			t.Errorf("said:\n%s\nwant\n%s", got, want)
		}
	})
}

func TestNamesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	for nexthop, want := range map[string]string{
		"null.example":      "5.1.0 Domain null.example does not accept mail (nullMX) relay=none tls=",
		"me.example":        "5.4.6 mail for me.example loops back to myself relay=none tls=",
		"mail.example.com":  "5.4.6 mail for mail.example.com loops back to myself relay=none tls=",
		"badname.example":   "5.4.4 Name service error for name=badname.example type=MX: Malformed or unexpected name server reply relay=none tls=",
		"noaddr.example":    "5.4.4 Host or domain name not found. Name service error for name=nohost.example type=AAAA: Host not found relay=none tls=",
		"nosuch.example":    "5.4.4 Host or domain name not found. Name service error for name=nosuch.example type=AAAA: Host not found relay=none tls=",
		"unknown.example":   "5.4.4 Host or domain name not found. Name service error for name=unknown.example type=AAAA: Host found but no data record of requested type relay=none tls=",
		"fail.example":      "4.4.3 Host or domain name not found. Name service error for name=fail.example type=MX: Host not found, try again relay=none tls=",
		"[fail.example]":    "4.4.3 Host or domain name not found. Name service error for name=fail.example type=A: Host not found, try again relay=none tls=",
		"plain.example:nix": "4.3.5 Server configuration error relay=none tls=",
		"plain.example":     "4.4.1 connect to plain.example[192.0.2.15]:25: Connection refused relay=none tls=may?",
	} {
		t.Run(nexthop, func(t *testing.T) {
			t.Parallel()
			r := deliver(t, job{config: testConfig(), nexthop: nexthop, rcpts: "u@x.example"})
			r.want(t, "u@x.example", want)
		})
	}
}

func TestOnlyBetterExchangersThanOurselves(t *testing.T) {
	t.Parallel()
	r := deliver(t, job{config: testConfig(), nexthop: "backup.example", rcpts: "u@x.example"})
	if strings.Contains(r.log, "b.two.example") || !strings.Contains(r.log, "a.two.example") {
		t.Errorf("log: %s", r.log)
	}
}

func TestFallbackRelay(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.FallbackRelay = "[b.two.example]:2525"
	r := deliver(t, job{config: c, hosts: map[string]server{"192.0.2.12:2525": {}}, nexthop: "plain.example", rcpts: "u@x.example"})
	r.want(t, "u@x.example", "2.0.0 250 2.0.0 Ok: taken relay=b.two.example[192.0.2.12]:2525 tls=may:none")
}

func TestConfiguredHostThatDoesNotExistIsOurMistake(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Relayhost = "nosuch.example"
	r := deliver(t, job{config: c, nexthop: "nosuch.example", rcpts: "u@x.example"})
	r.want(t, "u@x.example", "4.3.5 Host or domain name not found. Name service error for name=nosuch.example type=AAAA: Host not found relay=none tls=")
	if r.log != "warning: relayhost configuration problem" {
		t.Errorf("log: %s", r.log)
	}
}

func TestTLSWhereItIsDemanded(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.TLS.Level = "encrypt"
	r := deliver(t, job{config: c, hosts: map[string]server{"192.0.2.15:25": {}}, nexthop: "plain.example", rcpts: "u@x.example"})
	r.want(t, "u@x.example", "4.7.4 TLS is required, but was not offered by host plain.example[192.0.2.15] relay=plain.example[192.0.2.15]:25 tls=!encrypt")
}

func TestLMTPAnswersForEach(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.TLS.Level = "none"
	s := server{".": "250 2.0.0 kept\n552 5.2.2 over quota"}
	synctest.Test(t, func(t *testing.T) {
		r := deliver(t, job{config: c, lmtp: true, hosts: map[string]server{"/queue/private/lmtp": s}, nexthop: "unix:private/lmtp", rcpts: "a@x.example b@x.example"})
		r.want(t, "a@x.example", "2.0.0 250 2.0.0 kept relay=mail.example.com[private/lmtp] tls=none")
		r.want(t, "b@x.example", "5.2.2 host mail.example.com[private/lmtp] said: 552 5.2.2 over quota (in reply to end of DATA command) relay=mail.example.com[private/lmtp] tls=none")
	})
}

// brokenContent fails in mid-message, as a bad disk does.
type brokenContent struct{ io.ReadSeeker }

func (b brokenContent) Read(p []byte) (int, error) { return 0, errors.New("read error") }

func TestOwnTroubleNeverEndsAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": {}}, nexthop: "plain.example", rcpts: "u@x.example", content: brokenContent{}})
		r.want(t, "u@x.example", "4.3.0 queue file read error relay=plain.example[192.0.2.15]:25 tls=may:none")
		synctest.Wait()
		if got := r.transcript("192.0.2.15:25"); !strings.HasSuffix(got, "DATA") {
			t.Errorf("after the failure the server heard:\n%s", got)
		}
	})
}

func TestStopLeavesNoOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": {"EHLO": "hang"}}, nexthop: "plain.example", rcpts: "u@x.example", ctx: ctx})
		if len(r.outcomes) != 0 {
			t.Errorf("a cut-off delivery was answered: %v", r.outcomes)
		}
	})
}

func TestDSNParameters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := envelope.Envelope{EnvID: "a+b=", Return: envelope.ReturnHeaders, Encoding: envelope.Encoding8bit}
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": {}}, nexthop: "plain.example", rcpts: "u@x.example", Envelope: e})
		synctest.Wait()
		if got := r.transcript("192.0.2.15:25"); !strings.Contains(got, "MAIL FROM:<> SIZE=7 BODY=8BITMIME ENVID=a+2Bb+3D RET=HDRS\n") {
			t.Errorf("said:\n%s", got)
		}
		if r.outcomes["u@x.example"].Relayed {
			t.Error("a server with DSN support counts as one without")
		}
	})
}

func TestReplyOutOfPlaceIsTemporary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := deliver(t, job{config: testConfig(), hosts: map[string]server{"192.0.2.15:25": {"EHLO": "250 s", "RCPT": "354 go"}}, nexthop: "plain.example", rcpts: "u@x.example"})
		if s := r.outcomes["u@x.example"].Status; !s.Temporary() {
			t.Errorf("answer %v", s)
		}
	})
}

func TestScopes(t *testing.T) {
	t.Parallel()
	r := deliver(t, job{config: testConfig(), nexthop: "plain.example", rcpts: "u@x.example"})
	if got := r.outcomes["u@x.example"].Status.Scope; got != dsn.Site {
		t.Errorf("a host that is down has scope %v, want Site", got)
	}
}
