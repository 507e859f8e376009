package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// serve runs a name server on loopback with the given handler, over UDP and TCP.
func serve(t *testing.T, h mdns.HandlerFunc) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		l.Close()
		t.Skipf("no matching UDP port: %v", err)
	}
	for _, s := range []*mdns.Server{{Listener: l, Handler: h}, {PacketConn: p, Handler: h}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return Config{Servers: []string{l.Addr().String()}, Timeout: 2 * time.Second, Attempts: 1}
}

func answering(records ...string) mdns.HandlerFunc {
	return func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		for _, text := range records {
			rr, err := mdns.NewRR(text)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if udp, ok := w.RemoteAddr().(*net.UDPAddr); ok && udp != nil {
			m.Truncate(512)
		}
		w.WriteMsg(m)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	c := NewClient(serve(t, answering("a.example. 60 MX 10 MX.a.example.", "a.example. 60 MX 20 b.example.",
		"other.example. 60 MX 5 evil.example.")))
	mx, answer, err := c.MX(t.Context(), "a.example")
	if err != nil || len(mx) != 2 || mx[0] != (MX{10, "MX.a.example"}) || answer.Name != "a.example" {
		t.Errorf("MX = %v %+v %v", mx, answer, err)
	}
	c = NewClient(serve(t, answering("a.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.7")))
	ips, answer, err := c.A(t.Context(), "A.example")
	if err != nil || len(ips) != 1 || ips[0] != netip.MustParseAddr("192.0.2.7") || answer.Name != "b.example" {
		t.Errorf("A through CNAME = %v %+v %v", ips, answer, err)
	}
	c = NewClient(serve(t, answering(`t.example. 60 TXT "v=spf1 " "ip4:192.0.2.0/24 \"q\""`)))
	if txt, _, err := c.TXT(t.Context(), "t.example"); err != nil || len(txt) != 1 || txt[0] != `v=spf1 ip4:192.0.2.0/24 "q"` {
		t.Errorf("TXT = %q %v", txt, err)
	}
}

func TestLongAnswersComeOverTCP(t *testing.T) {
	t.Parallel()
	var records []string
	for i := range 150 {
		records = append(records, fmt.Sprintf("a.example. 60 A 192.0.2.%d", i))
	}
	ips, _, err := NewClient(serve(t, answering(records...))).A(t.Context(), "a.example")
	if err != nil || len(ips) != maxRecords {
		t.Errorf("%d addresses, %v; want the first %d", len(ips), err, maxRecords)
	}
}

func TestRefusalsAndTrouble(t *testing.T) {
	t.Parallel()
	rcode := func(code int) mdns.HandlerFunc {
		return func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := new(mdns.Msg)
			m.SetRcode(q, code)
			w.WriteMsg(m)
		}
	}
	for _, test := range []struct {
		name    string
		handler mdns.HandlerFunc
		want    error
	}{
		{"no such name", rcode(mdns.RcodeNameError), ErrNoHost},
		{"no record", rcode(mdns.RcodeSuccess), ErrNoData},
		{"broken server", rcode(mdns.RcodeServerFailure), ErrServer},
		{"refused", rcode(mdns.RcodeRefused), ErrServer},
		{"another question", func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := new(mdns.Msg)
			m.SetReply(q)
			m.Question[0].Name = "evil.example."
			w.WriteMsg(m)
		}, ErrServer},
		{"endless aliases", answering("a.example. 60 CNAME a.example."), ErrInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := NewClient(serve(t, test.handler)).A(t.Context(), "a.example")
			if !errors.Is(err, test.want) {
				t.Errorf("err = %v, want %v", err, test.want)
			}
		})
	}
}

func TestSilentServerIsTrouble(t *testing.T) {
	t.Parallel()
	c := serve(t, func(mdns.ResponseWriter, *mdns.Msg) {})
	c.Timeout = 50 * time.Millisecond
	_, _, err := NewClient(c).A(t.Context(), "a.example")
	if !errors.Is(err, ErrServer) || Reason(err) != "Host not found, try again" {
		t.Errorf("err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := NewClient(c).MX(ctx, "a.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want one that tells of the cancelled context", err)
	}
}

func TestHostsFileComesFirst(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hosts")
	text := "127.0.0.1 localhost\n::1 localhost ip6-localhost # comment\n192.0.2.1 Mail.example.com mail\nnonsense\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := serve(t, answering("x.example. 60 A 192.0.2.99"))
	config.Hosts = path
	c := NewClient(config)
	ips, err := c.LookupHost(t.Context(), "MAIL")
	if err != nil || fmt.Sprint(ips) != "[192.0.2.1]" {
		t.Errorf("LookupHost = %v %v", ips, err)
	}
	if name, err := c.LookupAddr(t.Context(), netip.MustParseAddr("::1")); name != "localhost" || err != nil {
		t.Errorf("LookupAddr = %q %v", name, err)
	}
	if ips, err := c.LookupHost(t.Context(), "x.example"); err != nil || fmt.Sprint(ips) != "[192.0.2.99]" {
		t.Errorf("LookupHost without table entry = %v %v", ips, err)
	}
}

func TestSystemConfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	os.WriteFile(path, []byte("nameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:1 attempts:1\n"), 0o600)
	c := SystemConfig(path, "")
	if strings.Join(c.Servers, " ") != "192.0.2.53:53 [2001:db8::53]:53" || c.Timeout != time.Second || c.Attempts != 1 {
		t.Errorf("%+v", c)
	}
	if c := SystemConfig("/nonexistent", ""); strings.Join(c.Servers, " ") != "127.0.0.1:53" {
		t.Errorf("without a file: %+v", c)
	}
}
