package smtpd

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/policy/rate"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/queue"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

var update = flag.Bool("update", false, "rewrite the outcome in testdata")

// testConfig has Postfix's defaults, but no patience with errors to wait for.
func testConfig() Config {
	return Config{
		Hostname: "mail.example.com", Banner: "mail.example.com ESMTP Postfix", MailName: "Postfix", SMTPUTF8: true,
		LineLimit: 2048, MessageLimit: 50000, RecipientLimit: 1000, Overshoot: 1000, Timeout: 300 * time.Second,
		MinDataRate: 500, SoftErrors: 10, HardErrors: 20, JunkCommands: 100, HistoryFlush: 100,
		IPv4PrefixLength: 32, IPv6PrefixLength: 84, DelayOpen: true,
		ForbiddenCommands: "CONNECT GET POST", BareNewline: "normalize", BareNewlineCode: 550, ForbidPipelining: true,
		VerpFilter: "-=+", VerpDelimiters: "+=", RewriteClients: "permit_inet_interfaces", PeernameLookup: true,
		NotifyClasses: "resource, software",
	}
}

// fakeSink keeps messages and writes what became of them.
type fakeSink struct {
	mu     sync.Mutex
	n      int
	open   int // submissions that were neither committed nor aborted
	out    func(format string, args ...any)
	begin  error
	commit dsn.Status
	quiet  bool
}

func (f *fakeSink) Begin(_ context.Context, o cleanup.Options) (Submission, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begin != nil {
		return nil, f.begin
	}
	f.n++
	f.open++
	return &fakeSubmission{sink: f, id: queue.ID("Q" + strconv.Itoa(f.n)), opt: o}, nil
}

type fakeSubmission struct {
	sink *fakeSink
	id   queue.ID
	opt  cleanup.Options
	env  envelope.Envelope
	text bytes.Buffer
	done bool
}

func (m *fakeSubmission) ID() queue.ID                                { return m.id }
func (m *fakeSubmission) Envelope() *envelope.Envelope                { return &m.env }
func (m *fakeSubmission) SetSender(_ context.Context, a addr.Address) { m.env.Sender = a }
func (m *fakeSubmission) Trace(_ context.Context, headers []byte)     { m.text.Write(headers) }
func (m *fakeSubmission) Write(p []byte) (int, error)                 { return m.text.Write(p) }
func (m *fakeSubmission) AddRecipient(_ context.Context, r envelope.Recipient) {
	m.env.Recipients = append(m.env.Recipients, r)
}

func (m *fakeSubmission) end() bool {
	m.sink.mu.Lock()
	defer m.sink.mu.Unlock()
	if m.done {
		return false
	}
	m.done = true
	m.sink.open--
	return true
}

func (m *fakeSubmission) Commit(context.Context) dsn.Status {
	if !m.end() {
		panic("Commit after the end")
	}
	if !m.sink.commit.IsZero() {
		return m.sink.commit
	}
	if m.sink.quiet {
		return dsn.New(250, "2.0.0", "Ok")
	}
	e := &m.env
	m.sink.out("msg %s from=<%s>%s", m.id, e.Sender, details(e))
	for _, r := range e.Recipients {
		m.sink.out("msg %s to=<%s> orcpt=%s notify=%d", m.id, r.Address, r.ORCPT, r.Notify)
	}
	for line := range strings.Lines(m.text.String()) {
		m.sink.out("msg %s | %s", m.id, strconv.Quote(line))
	}
	return dsn.New(250, "2.0.0", "Ok")
}

// details names what is unusual about an envelope.
func details(e *envelope.Envelope) string {
	var b strings.Builder
	add := func(name string, value any) {
		if !reflect.ValueOf(value).IsZero() {
			fmt.Fprintf(&b, " %s=%v", name, value)
		}
	}
	add("ret", e.Return)
	add("envid", e.EnvID)
	add("body", e.Encoding)
	add("utf8", e.SMTPUTF8)
	add("verp", e.Verp)
	add("hold", e.Hold)
	add("filter", e.Filter)
	add("redirect", e.Redirect)
	add("context", e.RewriteContext)
	add("proto", e.Client.Protocol)
	if e.Origin.Client != e.Client {
		fmt.Fprintf(&b, " origin=%+v", e.Origin)
	}
	return b.String()
}

func (m *fakeSubmission) Discard() {
	if m.end() {
		m.sink.out("msg %s discarded", m.id)
	}
}

func (m *fakeSubmission) Abort() {
	if m.end() && !m.sink.quiet {
		m.sink.out("msg %s aborted", m.id)
	}
}

// fakeChecker has one rule per stage and argument.
type fakeChecker struct {
	rules map[string]string
	log   *maillog.Logger
}

func (f *fakeChecker) ask(v *restrict.View, stage, argument string) restrict.Verdict {
	rule, found := f.rules[stage+" "+argument]
	if !found {
		return restrict.Verdict{}
	}
	word, rest, _ := strings.Cut(rule, " ")
	switch word {
	case "PANIC":
		panic("a rule that breaks")
	case "HANGUP":
		return restrict.Verdict{Hangup: true}
	case "HOLD":
		v.Actions.Hold = true
	case "DISCARD":
		v.Actions.Discard = true
	case "FILTER":
		v.Actions.Filter = rest
	case "REDIRECT":
		v.Actions.Redirect = addr.Address(rest)
	case "BCC":
		v.Actions.BCC = append(v.Actions.BCC, addr.Address(rest))
	case "PREPEND":
		v.Actions.Prepend = append(v.Actions.Prepend, rest)
	case "SHOW":
		f.log.Infof("view %s id=%s sender=%s/%v rcpt=%s/%v count=%d size=%d helo=%s proto=%s early=%v", stage, v.QueueID, v.Sender, v.HasSender,
			v.Recipient, v.HasRecipient, v.RecipientCount, v.Size, v.Helo, v.Protocol, v.IllegalPipelining)
	default:
		status, err := dsn.Parse(rule)
		if err != nil {
			panic(err)
		}
		return restrict.Verdict{Status: status}
	}
	return restrict.Verdict{}
}

func (f *fakeChecker) Client(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "client", v.Client.Address)
}
func (f *fakeChecker) Helo(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "helo", v.Helo)
}
func (f *fakeChecker) Mail(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "mail", v.Sender.String())
}
func (f *fakeChecker) Rcpt(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "rcpt", v.Recipient.String())
}
func (f *fakeChecker) Data(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "data", v.Sender.String())
}
func (f *fakeChecker) EndOfData(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "end", v.Sender.String())
}
func (f *fakeChecker) Etrn(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "etrn", v.ETRN)
}
func (f *fakeChecker) Vrfy(_ context.Context, v *restrict.View) restrict.Verdict {
	return f.ask(v, "vrfy", v.Recipient.String())
}

// fakeNames answers for one client with a name, and three that have none.
type fakeNames struct{}

func (fakeNames) LookupAddr(_ context.Context, ip netip.Addr) (string, error) {
	switch ip.String() {
	case "198.51.100.7":
		return "client.example.net", nil
	case "198.51.100.8":
		return "forged.example.net", nil
	case "198.51.100.9":
		return "gone.example.net", nil
	case "198.51.100.10":
		return "", errors.New("SERVFAIL")
	case "198.51.100.11":
		return "not a name", nil
	}
	return "", dns.ErrNoHost
}

func (fakeNames) LookupHost(_ context.Context, host string) ([]netip.Addr, error) {
	switch host {
	case "client.example.net", "forged.example.net":
		return []netip.Addr{netip.MustParseAddr("198.51.100.7")}, nil
	}
	return nil, dns.ErrNoHost
}

// tcpPipe is one end of a pipe with addresses.
type tcpPipe struct {
	net.Conn
	remote netip.AddrPort
}

func (c tcpPipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
func (c tcpPipe) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:25"))
}

// script plays one file of testdata: what stands there is what is to be sent
// and what comes of it.
type script struct {
	t       *testing.T
	out     bytes.Buffer
	cfg     Config
	opt     Options
	rules   map[string]string
	sink    *fakeSink
	rates   *rate.Counter
	free    int64
	notify  bool
	address string
	server  *Server

	mu     sync.Mutex
	log    *maillog.Memory
	logged int
	conn   net.Conn
	got    bytes.Buffer
	closed bool
	ended  chan struct{}
}

func (s *script) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.out, format+"\n", args...)
}

// settle waits until nothing moves, and writes what happened.
func (s *script) settle() {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.got.String()) {
		fmt.Fprintf(&s.out, "< %s\n", strings.TrimSuffix(line, "\r\n"))
	}
	s.got.Reset()
	lines := s.log.Lines()
	for _, line := range lines[s.logged:] {
		fmt.Fprintf(&s.out, "log %s\n", strings.TrimPrefix(line, "postfix/smtpd: "))
	}
	s.logged = len(lines)
	if s.closed {
		s.out.WriteString("closed\n")
		s.closed = false
		s.conn = nil
	}
}

func (s *script) connect() {
	if s.server == nil {
		s.rates = rate.New(time.Minute, nil)
		deps := Deps{
			Sink: s.sink, Resolver: fakeNames{}, Tables: testTables(maillog.New(s.log, "postfix/smtpd", 1, nil)), Rates: s.rates,
			Checker: &fakeChecker{s.rules, maillog.New(s.log, "postfix/smtpd", 1, nil)},
			Log:     maillog.New(s.log, "postfix/smtpd", 1, nil),
			Flush: func(_ context.Context, domain string) Flushed {
				return map[string]Flushed{"ok.example": FlushOK, "bad.example": FlushBad, "down.example": FlushFailed}[domain] + denied(domain)
			},
			OwnAddress: func(ip netip.Addr) bool { return ip.String() == "192.0.2.1" },
		}
		if s.free > 0 {
			deps.Free = func(context.Context) (int64, error) { return s.free, nil }
		}
		if s.notify {
			deps.Notify = func(_ context.Context, t Transcript) {
				s.printf("notify %v %s %q", t.Classes, t.Subject, t.Reason)
				for _, line := range t.Lines {
					s.printf("notify | %s", line)
				}
			}
		}
		server, err := New(s.cfg, deps, s.opt)
		if err != nil {
			s.t.Fatal(err)
		}
		s.server = server
	}
	client, serverEnd := net.Pipe()
	s.conn, s.ended = client, make(chan struct{})
	go func() {
		defer close(s.ended)
		if s.opt.StandAlone {
			s.server.ServeStream(context.Background(), serverEnd, serverEnd)
			serverEnd.Close()
			return
		}
		s.server.ServeConn(context.Background(), tcpPipe{serverEnd, netip.AddrPortFrom(netip.MustParseAddr(s.address), 1234)})
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := client.Read(buf)
			s.mu.Lock()
			s.got.Write(buf[:n])
			s.closed = s.closed || err == io.EOF
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.settle()
}

func denied(domain string) Flushed {
	if domain == "x.example" {
		return FlushDenied
	}
	return 0
}

func testTables(log *maillog.Logger) *table.Opener {
	return table.NewOpener(table.Setup{Log: log, Types: []table.Type{
		{Name: "inline", Open: text.Inline}, {Name: "static", Open: text.Static}, {Name: "fail", Open: text.Fail},
	}})
}

// line carries one line of the script out.
func (s *script) line(text string) {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "#", "":
	case "config":
		s.configure(rest)
	case "rule":
		stage, rest, _ := strings.Cut(rest, " ")
		argument, rule, _ := strings.Cut(rest, " ")
		s.rules[stage+" "+argument] = rule
	case "client":
		s.address = rest
	case "free":
		s.free, _ = strconv.ParseInt(rest, 10, 64)
	case "notify":
		s.notify = true
	case "standalone":
		s.opt.StandAlone = true
	case "commit":
		s.sink.commit, _ = dsn.Parse(rest)
	case "full":
		s.sink.begin = queue.ErrFull
	case "connect":
		s.connect()
	case ">":
		s.send(rest + "\r\n")
	case ">>":
		raw, err := strconv.Unquote(rest)
		if err != nil {
			s.t.Fatal(text, err)
		}
		s.send(raw)
	case "wait":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.t.Fatal(text, err)
		}
		time.Sleep(d)
		s.settle()
	case "hangup":
		s.conn.Close()
		s.settle()
		s.conn = nil
	default:
		s.t.Fatalf("what is %q?", text)
	}
}

func (s *script) send(text string) {
	if s.conn == nil {
		s.connect()
	}
	if s.conn == nil {
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = s.conn.Write([]byte(text))
	s.settle()
}

// configure sets a field of Config: "Name=value".
func (s *script) configure(text string) {
	name, value, _ := strings.Cut(text, "=")
	f := reflect.ValueOf(&s.cfg).Elem().FieldByName(name)
	switch f.Interface().(type) {
	case string:
		f.SetString(value)
	case bool:
		f.SetBool(value == "yes")
	case time.Duration:
		d, err := time.ParseDuration(value)
		if err != nil {
			s.t.Fatal(text, err)
		}
		f.SetInt(int64(d))
	default:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			s.t.Fatal(text, err)
		}
		f.SetInt(n)
	}
}

// isInput tells lines of a script from what came of them.
func isInput(line string) bool {
	word, _, _ := strings.Cut(line, " ")
	switch word {
	case "<", "log", "msg", "closed", "notify|":
		return false
	}
	return !strings.HasPrefix(line, "notify ")
}

func play(t *testing.T, file string) string {
	input, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, cfg: testConfig(), rules: map[string]string{}, address: "198.51.100.7", log: &maillog.Memory{}, opt: Options{Service: "smtp"}}
	s.sink = &fakeSink{out: s.printf}
	for line := range strings.Lines(string(input)) {
		line = strings.TrimSuffix(line, "\n")
		if isInput(line) {
			s.printf("%s", line)
			s.line(line)
		}
	}
	if s.conn != nil {
		s.conn.Close()
		s.settle()
	}
	<-s.ended
	s.settle()
	if s.sink.open != 0 {
		t.Errorf("%d submissions were left open", s.sink.open)
	}
	if err := s.server.Close(); err != nil {
		t.Error(err)
	}
	return s.out.String()
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			var got string
			synctest.Test(t, func(t *testing.T) { got = play(t, file) })
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if *update && !t.Failed() {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s: the outcome is another one:\n%s", file, difference(string(want), got))
			}
		})
	}
}

// difference shows the first lines that differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			from := max(i-3, 0)
			return fmt.Sprintf("line %d, want:\n%s\ngot:\n%s", i+1,
				strings.Join(w[min(from, len(w)):min(i+4, len(w))], "\n"), strings.Join(g[min(from, len(g)):min(i+4, len(g))], "\n"))
		}
	}
	return "nothing"
}
