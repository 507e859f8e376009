package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/inbound/smtpd/auth"
	"posthaste/internal/inbound/starttls"
	"posthaste/internal/policy/rate"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/mailtls/tlstest"
)

// dovecot is an auth service that lets in who says "alice" and "secret".
func dovecot(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "auth")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Add(1)
			go func() { defer wg.Done(); answerLogins(c) }()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return socket
}

func answerLogins(c net.Conn) {
	defer c.Close()
	fmt.Fprintf(c, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tANONYMOUS\tanonymous\nDONE\n")
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if fields[0] != "AUTH" && fields[0] != "CONT" {
			continue
		}
		last := strings.TrimPrefix(fields[len(fields)-1], "resp=")
		switch raw, _ := base64.StdEncoding.DecodeString(last); {
		case fields[0] == "AUTH" && !strings.HasPrefix(fields[len(fields)-1], "resp="):
			fmt.Fprintf(c, "CONT\t%s\t\n", fields[1])
		case string(raw) == "\x00alice\x00secret":
			fmt.Fprintf(c, "OK\t%s\tuser=alice\n", fields[1])
		default:
			fmt.Fprintf(c, "FAIL\t%s\tuser=alice\n", fields[1])
		}
	}
}

func login(password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00alice\x00" + password))
}

// secureConfig offers TLS and AUTH.
func secureConfig(t *testing.T) Config {
	leaf := tlstest.New(t, tlstest.Leaf{Name: "mail.example.com"})
	c := testConfig()
	c.ErrorSleep, c.RequireTLS, c.AuthHeader = 0, true, true
	c.TLS = starttls.Config{Level: "may", Server: mailtls.ServerConfig{
		Protocols: ">=TLSv1", MandatoryProtocols: ">=TLSv1.2", Ciphers: "medium", MandatoryCiphers: "medium",
		Lists: mailtls.CipherLists{Medium: "HIGH"}, Cert: tlstest.Write(t, "both.pem", leaf.Chain, leaf.PEM),
		Digest: "sha256", Depth: 9, Timeout: 10 * time.Second, TicketTime: time.Hour, Received: true,
	}}
	c.Auth = auth.Config{
		Enable: true, Type: "dovecot", Path: dovecot(t), Service: "smtp", Filter: "!external, static:rest",
		Options: "noanonymous", TLSOptions: "noanonymous", ResponseLimit: 12288,
	}
	return c
}

// secureServer serves on a port; views are what the restrictions saw.
type secureServer struct {
	*Server
	ln    net.Listener
	log   *maillog.Memory
	sink  *fakeSink
	texts *strings.Builder
	mu    *sync.Mutex
	views []restrict.View
}

type viewer struct {
	*fakeChecker
	s *secureServer
}

func (v viewer) Rcpt(_ context.Context, view *restrict.View) restrict.Verdict {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	v.s.views = append(v.s.views, *view)
	return restrict.Verdict{}
}

func serveSecure(t *testing.T, c Config, change func(*Deps)) *secureServer {
	t.Helper()
	s := &secureServer{log: &maillog.Memory{}, texts: &strings.Builder{}, mu: &sync.Mutex{}, ln: listen(t)}
	s.sink = &fakeSink{out: func(format string, args ...any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(s.texts, format+"\n", args...)
	}}
	log := maillog.New(s.log, "postfix/smtpd", 1, nil)
	deps := Deps{Sink: s.sink, Tables: testTables(log), Rates: rate.New(time.Minute, nil), Log: log, Checker: viewer{&fakeChecker{}, s}}
	if change != nil {
		change(&deps)
	}
	server, err := New(c, deps, Options{Service: "smtp"})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = server
	g := lifecycle.New(context.Background(), nil)
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(context.Background(), g, s.ln) }()
	t.Cleanup(func() {
		g.Stop(10 * time.Second)
		<-served
		server.Close()
	})
	return s
}

// talk sends lines and returns the last line of each reply; "STARTTLS" goes on
// to TLS.
func talk(t *testing.T, p *peerConn, lines ...string) []string {
	t.Helper()
	var replies []string
	for _, line := range lines {
		if line != "" {
			p.say(line)
		}
		r := p.reply()
		replies = append(replies, r)
		if line == "STARTTLS" && strings.HasPrefix(r, "220") {
			upgrade(t, p)
		}
	}
	return replies
}

func upgrade(t *testing.T, p *peerConn) {
	t.Helper()
	c := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	p.Conn, p.r = c, bufio.NewReader(c)
}

// keywords says EHLO and returns what is offered.
func keywords(t *testing.T, p *peerConn) string {
	t.Helper()
	p.say("EHLO c.example")
	var all []string
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(line[4:]))
		if line[3] == ' ' {
			return " " + strings.Join(all[1:], " ") + " "
		}
	}
}

func TestSessionWithTLSAndLogin(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.Auth.TLSOnly, c.Auth.Broken = true, true
	s := serveSecure(t, c, nil)
	p := dialTCP(t, s.ln)
	p.reply()
	before := keywords(t, &p)
	if !strings.Contains(before, " ETRN STARTTLS ENHANCEDSTATUSCODES ") || strings.Contains(before, "AUTH") || strings.Contains(before, "REQUIRETLS") {
		t.Errorf("before: %s", before)
	}
	if r := talk(t, &p, "AUTH PLAIN "+login("secret"), "MAIL FROM:<early@x.example>", "STARTTLS", "MAIL FROM:<a@b.example>", "RSET"); strings.Join(r, "|") !=
		"503 5.5.1 Error: authentication not enabled|250 2.1.0 Ok|220 2.0.0 Ready to start TLS|250 2.1.0 Ok|250 2.0.0 Ok" {
		t.Errorf("%q", r)
	}
	after := keywords(t, &p)
	if !strings.Contains(after, " ETRN AUTH PLAIN AUTH=PLAIN ENHANCEDSTATUSCODES ") || strings.Contains(after, "STARTTLS") || !strings.HasSuffix(after, " CHUNKING REQUIRETLS ") {
		t.Errorf("after: %s", after)
	}
	replies := talk(t, &p, "STARTTLS", "AUTH PLAIN "+login("wrong"), "AUTH PLAIN", login("secret"), "AUTH PLAIN "+login("secret"),
		"MAIL FROM:<a@b.example> AUTH=x+40y", "AUTH PLAIN", "RCPT TO:<c@d.example>", "DATA", "hello\r\n.", "QUIT")
	want := []string{
		"554 5.5.1 Error: TLS already active", "535 5.7.8 Error: authentication failed: (reason unavailable)", "334", "235 2.7.0 Authentication successful",
		"503 5.5.1 Error: already authenticated", "250 2.1.0 Ok", "503 5.5.1 Error: MAIL transaction in progress", "250 2.1.5 Ok",
		"354 End data with <CR><LF>.<CR><LF>", "250 2.0.0 Ok: queued as Q1", "221 2.0.0 Bye",
	}
	if strings.Join(replies, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", replies)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	view := s.views[0]
	if !view.TLS.Active || view.TLS.Protocol != "TLSv1.3" || view.SASLUsername != "alice" || view.SASLMethod != "PLAIN" || view.SASLSender != "x+40y" {
		t.Errorf("%+v", view)
	}
	text := s.texts.String()
	for _, part := range []string{`\t(using TLSv1.3 with cipher TLS_`, `\t key-exchange X25519`, " server-signature ECDSA (prime256v1) server-digest SHA256)", `\t(No client certificate requested)`, `\t(Authenticated sender: alice)`, "with ESMTPSA id Q1"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	for _, line := range []string{": SASL PLAIN authentication failed: (reason unavailable), sasl_username=alice", "Q1: client=unknown[127.0.0.1], sasl_method=PLAIN, sasl_username=alice, sasl_sender=x+40y"} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("no %q in\n%s", line, s.log)
		}
	}
}

// What was sent in the clear behind STARTTLS is not taken for what is said
// under TLS (CVE-2011-0411).
func TestNothingSlipsIntoTLS(t *testing.T) {
	t.Parallel()
	s := serveSecure(t, secureConfig(t), nil)
	p := dialTCP(t, s.ln)
	p.reply()
	p.say("EHLO c.example")
	p.reply()
	p.say("STARTTLS\r\nMAIL FROM:<injected@x.example>\r\nRCPT TO:<injected@y.example>")
	if r := p.reply(); !strings.HasPrefix(r, "220") {
		t.Fatal(r)
	}
	upgrade(t, &p)
	if r := talk(t, &p, "RCPT TO:<c@d.example>", "QUIT"); r[0] != "503 5.5.1 Error: need MAIL command" || r[1] != "221 2.0.0 Bye" {
		t.Errorf("%q", r)
	}
}

func TestTLSIsRequired(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.TLS.Level = "encrypt"
	s := serveSecure(t, c, nil)
	p := dialTCP(t, s.ln)
	p.reply()
	const must = "530 5.7.0 Must issue a STARTTLS command first"
	replies := talk(t, &p, "EHLO x", "HELO x", "NOOP", "HELP", "MAIL FROM:<a@b.example>", "RSET", "VRFY x", "ETRN x", "AUTH PLAIN x", "XCLIENT NAME=x", "STARTTLS x", "NONSENSE")
	for i, want := range []string{"250 ", "250 ", "250 ", "214 ", must, must, must, must, must, must, "501 5.5.4 Syntax: STARTTLS", "500 5.5.2"} {
		if !strings.HasPrefix(replies[i], want) {
			t.Errorf("%d: %s", i, replies[i])
		}
	}
	if r := talk(t, &p, "STARTTLS", "MAIL FROM:<a@b.example>", "QUIT"); r[1] != "250 2.1.0 Ok" {
		t.Errorf("%q", r)
	}
}

func TestWrapperMode(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.TLS.Wrapper = true
	s := serveSecure(t, c, nil)
	p := dialTCP(t, s.ln)
	upgrade(t, &p)
	if r := talk(t, &p, "", "EHLO x", "STARTTLS", "QUIT"); r[0] != "220 mail.example.com ESMTP Postfix" || r[2] != "554 5.5.1 Error: TLS already active" {
		t.Errorf("%q", r)
	}
	p = dialTCP(t, s.ln)
	p.say("EHLO x")
	if r := p.reply(); strings.HasPrefix(r, "2") {
		t.Error(r)
	}
	c.TLS.Server.Cert = "/nonexistent"
	s = serveSecure(t, c, nil)
	p = dialTCP(t, s.ln)
	p.reply()
	if !strings.Contains(s.log.String(), "Wrapper-mode request dropped from unknown[127.0.0.1] for service smtp. TLS context initialization failed.") {
		t.Errorf("%s", s.log)
	}
}

func TestTLSIsNotAvailable(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.TLS.Server.Cert = "/nonexistent"
	s := serveSecure(t, c, nil)
	p := dialTCP(t, s.ln)
	p.reply()
	if k := keywords(t, &p); !strings.Contains(k, " STARTTLS ") {
		t.Error(k)
	}
	if r := talk(t, &p, "STARTTLS", "MAIL FROM:<a@b.example>", "QUIT"); r[0] != "454 4.7.0 TLS not available due to local problem" || r[1] != "250 2.1.0 Ok" {
		t.Errorf("%q", r)
	}
	c.TLS.Level = "none"
	s = serveSecure(t, c, nil)
	p = dialTCP(t, s.ln)
	p.reply()
	if k := keywords(t, &p); strings.Contains(k, "STARTTLS") {
		t.Error(k)
	}
	if r := talk(t, &p, "STARTTLS", "QUIT"); r[0] != "502 5.5.1 Error: command not implemented" {
		t.Errorf("%q", r)
	}
}

func TestClientCertificateIsRequired(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.TLS.Level, c.TLS.Server.Require = "encrypt", true
	s := serveSecure(t, c, nil)
	p := dialTCP(t, s.ln)
	p.reply()
	if r := talk(t, &p, "EHLO x", "STARTTLS", ""); r[2] != "421 4.7.1 mail.example.com Error: No client certificate presented" {
		t.Errorf("%q", r)
	}
	if !strings.Contains(s.log.String(), "NOQUEUE: abort: TLS from unknown[127.0.0.1]: No client certificate presented") {
		t.Errorf("%s", s.log)
	}
}

// A service without an auth server drops its clients and lets those that
// follow wait; nobody is told that AUTH is there.
func TestMissingAuthServerIsFatal(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.Auth.Path = "/nonexistent"
	throttled := make(chan struct{}, 10)
	s := serveSecure(t, c, func(d *Deps) {
		d.Throttle = func() time.Duration { throttled <- struct{}{}; return 200 * time.Millisecond }
	})
	p := dialTCP(t, s.ln)
	if r := p.reply(); r != "EOF" {
		t.Errorf("%s", r)
	}
	<-throttled
	began := time.Now()
	p = dialTCP(t, s.ln)
	if r := p.reply(); r != "EOF" || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%s after %v", r, time.Since(began))
	}
	for _, line := range []string{"warning: SASL: Connect to Dovecot auth socket '/nonexistent' failed: No such file or directory", "fatal: no SASL authentication mechanisms"} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("no %q in %s", line, s.log)
		}
	}
}

func TestAuthLimitsAndErrors(t *testing.T) {
	t.Parallel()
	c := secureConfig(t)
	c.AuthRate = 8
	var transcript Transcript
	done := make(chan struct{})
	c.NotifyClasses = "protocol"
	s := serveSecure(t, c, func(d *Deps) {
		d.Notify = func(_ context.Context, t Transcript) { transcript = t; close(done) }
	})
	p := dialTCP(t, s.ln)
	p.reply()
	replies := talk(t, &p, "EHLO x", "AUTH", "AUTH PLAIN x y", "AUTH ANONYMOUS", "AUTH PLAIN", "*", "AUTH PLAIN", "!!", "AUTH PLAIN !!",
		"AUTH PLAIN", strings.Repeat("A", 13000), "AUTH PLAIN "+login("wrong"), "AUTH PLAIN "+login("secret"), "QUIT")
	for i, want := range []string{
		"250 ", "501 5.5.4 Syntax: AUTH mechanism", "501 5.5.4 Syntax: AUTH mechanism",
		"535 5.7.8 Error: authentication failed: Invalid authentication mechanism: 'ANONYMOUS'", "334", "501 5.7.0 Authentication aborted",
		"334", "535 5.7.8 Error: authentication failed: Invalid base64 data in continued response",
		"535 5.7.8 Error: authentication failed: Invalid base64 data in initial response", "334", "500 5.5.6 Authentication response too long",
		"535 5.7.8", "450 4.7.1 Error: too many AUTH commands from 127.0.0.1", "221 ",
	} {
		if !strings.HasPrefix(replies[i], want) {
			t.Errorf("%d: want %s, got %s", i, want, replies[i])
		}
	}
	<-done
	lines := strings.Join(transcript.Lines, "\n")
	if strings.Contains(lines, login("wrong")) || strings.Contains(lines, "!!") || !strings.Contains(lines, "In:  AUTH PLAIN (response)") {
		t.Errorf("transcript:\n%s", lines)
	}
}
