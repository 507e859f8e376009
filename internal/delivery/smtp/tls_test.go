package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls/tlstest"
)

// tlsHost is a server with STARTTLS.
type tlsHost struct {
	t        *testing.T
	cert     tls.Certificate
	starttls string // reply to STARTTLS
	garbage  bool   // says something else than TLS after it
	wrapped  bool

	mu   sync.Mutex
	said []string
	wait sync.WaitGroup
}

func (h *tlsHost) note(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, line)
}

func (h *tlsHost) dial(context.Context, string, string, string) (net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	h.wait.Add(1)
	go func() { defer h.wait.Done(); h.serve(far) }()
	return near, nil
}

func (h *tlsHost) serve(c net.Conn) {
	defer func() { c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	offer := "250-s\r\n250 STARTTLS"
	secure := func() {
		c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{h.cert}})
		offer = "250-s\r\n250 X-SECRET"
	}
	if h.wrapped {
		secure()
	}
	fmt.Fprintf(c, "220 s ESMTP\r\n")
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		h.note(line)
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "EHLO":
			fmt.Fprintf(c, "%s\r\n", offer)
		case "STARTTLS":
			fmt.Fprintf(c, "%s\r\n", h.starttls)
			if h.garbage {
				fmt.Fprintf(c, "250 not TLS at all\r\n")
				return
			}
			if h.starttls[0] == '2' {
				secure()
				in = bufio.NewReader(c)
			}
		case "DATA":
			io.WriteString(c, "354 go\r\n")
			for line != ".\r\n" && err == nil {
				line, err = in.ReadString('\n')
			}
			io.WriteString(c, "250 2.0.0 Ok\r\n")
		case "QUIT":
			io.WriteString(c, "221 bye\r\n")
			return
		default:
			io.WriteString(c, "250 2.0.0 Ok\r\n")
		}
	}
}

// send delivers one message that has waited for some time.
func (h *tlsHost) send(c Config, waited time.Duration) (outcome, said, log string) {
	h.t.Helper()
	memory := &maillog.Memory{}
	a, err := New(c, Deps{DNS: dnstest.Parse(zone), Log: maillog.New(memory, "postfix/smtp", 1, nil)})
	if err != nil {
		h.t.Fatal(err)
	}
	defer a.Close()
	a.dial = h.dial
	now := time.Now()
	e := &envelope.Envelope{Sender: "a@b.example", Arrival: now.Add(-waited)}
	r := &transport.Request{
		ID: "QID", Envelope: e, Size: 7, Transport: "smtp", Nexthop: "[plain.example]", Active: now, Queued: now,
		Open: func() io.ReadSeeker { return strings.NewReader("Subject: x\n\nhello\n") },
		Report: func(o transport.Outcome) {
			outcome = fmt.Sprintf("%s %s tls=%s", o.Status.Enhanced(), o.Status.Text(), o.TLS)
		},
		Recipients: []transport.Recipient{{Recipient: envelope.Recipient{Address: addr.Address("u@x.example")}}},
	}
	a.Deliver(h.t.Context(), r)
	h.wait.Wait()
	return outcome, strings.Join(h.said, "|"), memory.String()
}

func TestDeliveryOverTLS(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "x", DNS: []string{"plain.example"}})
	cert, err := tls.X509KeyPair([]byte(leaf.Chain), []byte(leaf.PEM))
	if err != nil {
		t.Fatal(err)
	}
	caFile := tlstest.Write(t, "ca.pem", leaf.Chain)
	const (
		hello   = "EHLO mail.example.com"
		message = "MAIL FROM:<a@b.example>|RCPT TO:<u@x.example>|DATA|QUIT"
		failed  = "4.7.5 Cannot start TLS: handshake failure "
	)
	for _, c := range []struct {
		host    *tlsHost
		change  func(*Config)
		waited  time.Duration
		outcome string
		said    string
	}{
		{&tlsHost{starttls: "220 go"}, func(c *Config) {}, 0, "2.0.0 250 2.0.0 Ok tls=may", hello + "|STARTTLS|" + hello + "|" + message},
		{&tlsHost{starttls: "454 no"}, func(c *Config) {}, 0, "2.0.0 250 2.0.0 Ok tls=may:none", hello + "|STARTTLS|" + message},
		{&tlsHost{starttls: "220 go"}, func(c *Config) { c.TLS.Level = "none" }, 0, "2.0.0 250 2.0.0 Ok tls=none", hello + "|" + message},
		{&tlsHost{starttls: "220 go", garbage: true}, func(c *Config) {}, 0, failed + "tls=!may", hello + "|STARTTLS"},
		{&tlsHost{starttls: "220 go", garbage: true}, func(c *Config) { c.TLS.Level = "encrypt" }, time.Hour, failed + "tls=!encrypt", hello + "|STARTTLS"},
		{&tlsHost{starttls: "220 go", garbage: true}, func(c *Config) {}, time.Hour, "2.0.0 250 2.0.0 Ok tls=may:none", hello + "|STARTTLS|" + hello + "|" + message},
		{&tlsHost{starttls: "220 go"}, func(c *Config) { c.TLS.Level = "secure" }, 0, "4.7.5 Server certificate not verified tls=!secure", hello + "|STARTTLS|QUIT"},
		{&tlsHost{starttls: "220 go"}, func(c *Config) { c.TLS.Level, c.TLS.Client.CAFile = "secure", caFile }, 0, "2.0.0 250 2.0.0 Ok tls=secure", hello + "|STARTTLS|" + hello + "|" + message},
		{&tlsHost{starttls: "220 go"}, func(c *Config) { c.TLS.Client.CAFile = "/nonexistent" }, 0, "2.0.0 250 2.0.0 Ok tls=may:none", hello + "|" + message},
		{&tlsHost{starttls: "220 go"}, func(c *Config) { c.TLS.Level, c.TLS.Client.CAFile = "encrypt", "/nonexistent" }, 0, "4.7.5 TLS is required, but our TLS engine is unavailable tls=!encrypt", hello + "|QUIT"},
		{&tlsHost{wrapped: true}, func(c *Config) { c.TLS.Level, c.TLS.Wrapper = "encrypt", true }, 0, "2.0.0 250 2.0.0 Ok tls=encrypt", hello + "|" + message},
		{&tlsHost{starttls: "454 4.7.0 no"}, func(c *Config) { c.TLS.Level = "encrypt" }, 0, "4.7.0 TLS is required, but host plain.example[192.0.2.15] refused to start TLS: 454 4.7.0 no tls=!encrypt", hello + "|STARTTLS|QUIT"},
	} {
		h := c.host
		h.t, h.cert = t, cert
		config := testConfig()
		config.SkipQuitResponse = false
		c.change(&config)
		outcome, said, log := h.send(config, c.waited)
		if outcome != c.outcome || said != c.said {
			t.Errorf("level %s:\n got %s\n     %s\nwant %s\n     %s\n%s", config.TLS.Level, outcome, said, c.outcome, c.said, log)
		}
	}
}

// A policy that cannot be used keeps the mail from being sent at all.
func TestUnusablePolicy(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.TLS.Level = "fingerprint"
	h := &tlsHost{t: t}
	outcome, said, log := h.send(c, 0)
	if outcome != "4.7.5 client TLS configuration problem tls=" || said != "" ||
		!strings.Contains(log, "warning: TLS policy lookup for [plain.example]/plain.example: client TLS configuration problem") {
		t.Errorf("%s %s\n%s", outcome, said, log)
	}
}
