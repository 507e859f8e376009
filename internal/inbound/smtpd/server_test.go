package smtpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"posthaste/internal/cleanup"
	"posthaste/internal/policy/rate"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

var (
	_ Checker    = (*restrict.Checker)(nil)
	_ Submission = (*cleanup.Submission)(nil)
	_ Sink       = CleanupSink{}
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quietServer has a sink that keeps nothing.
func quietServer(t testing.TB, cfg Config, opt Options) (*Server, *fakeSink, *maillog.Memory) {
	t.Helper()
	log, sink := &maillog.Memory{}, &fakeSink{quiet: true, out: func(string, ...any) {}}
	s, err := New(cfg, Deps{
		Sink: sink, Tables: testTables(nil), Rates: rate.New(time.Minute, nil), Log: maillog.New(log, "postfix/smtpd", 1, nil),
	}, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s, sink, log
}

// dial opens a session; replies are read line by line from the result.
type peerConn struct {
	net.Conn
	r *bufio.Reader
}

func (p peerConn) say(text string) { fmt.Fprintf(p, "%s\r\n", text) }

// reply reads one reply and returns its last line.
func (p peerConn) reply() string {
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if len(line) > 3 && line[3] == ' ' {
			return strings.TrimSpace(line)
		}
	}
}

func dialTCP(t *testing.T, ln net.Listener) peerConn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return peerConn{c, bufio.NewReader(c)}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Stopping ends idle sessions at once and the others after their message; a
// reload only stops accepting.
func TestStop(t *testing.T) {
	t.Parallel()
	s, _, _ := quietServer(t, testConfig(), Options{Service: "smtp"})
	ln := listen(t)
	g := lifecycle.New(context.Background(), nil)
	ctx, reload := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, g, ln) }()

	idle, busy := dialTCP(t, ln), dialTCP(t, ln)
	for _, c := range []peerConn{idle, busy} {
		c.reply()
		c.say("EHLO x")
		c.reply()
	}
	for _, command := range []string{"MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"} {
		busy.say(command)
		busy.reply()
	}
	reload()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	idle.say("NOOP")
	if r := idle.reply(); !strings.HasPrefix(r, "250") {
		t.Errorf("after a reload: %s", r)
	}
	// The next configuration takes the listener over.
	s2, _, _ := quietServer(t, testConfig(), Options{Service: "smtp"})
	go func() { served <- s2.Serve(context.Background(), g, ln) }()
	next := dialTCP(t, ln)
	if r := next.reply(); !strings.HasPrefix(r, "220") {
		t.Errorf("the next server says %s", r)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop(10 * time.Second) }()
	for _, c := range []peerConn{idle, next} {
		if r := c.reply(); r != "421 4.3.2 mail.example.com Service shutting down" {
			t.Errorf("an idle session ends with %s", r)
		}
	}
	busy.say("Subject: x\r\n\r\nbody\r\n.")
	if r := busy.reply(); !strings.HasPrefix(r, "250 2.0.0 Ok: queued") {
		t.Errorf("a message under way ends with %s", r)
	}
	if r := busy.reply(); !strings.HasPrefix(r, "421 4.3.2") {
		t.Errorf("and its session with %s", r)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// The second phase of a stop ends a session inside a message.
func TestStopHard(t *testing.T) {
	t.Parallel()
	s, sink, _ := quietServer(t, testConfig(), Options{Service: "smtp"})
	ln := listen(t)
	g := lifecycle.New(context.Background(), nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), g, ln) }()
	c := dialTCP(t, ln)
	c.reply()
	for _, command := range []string{"HELO x", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"} {
		c.say(command)
		c.reply()
	}
	c.say("half a message")
	if err := g.Stop(50 * time.Millisecond); err != nil {
		t.Error(err)
	}
	if r := c.reply(); !strings.HasPrefix(r, "421") {
		t.Errorf("it ends with %s", r)
	}
	if err := <-served; err != nil || sink.open != 0 {
		t.Error(err, sink.open, "messages left open")
	}
}

// MaxProc bounds the sessions; the rest wait, and stress settings apply.
func TestMaxProc(t *testing.T) {
	t.Parallel()
	stressed := testConfig()
	stressed.Banner = "stressed"
	s, _, _ := quietServer(t, testConfig(), Options{Service: "smtp", MaxProc: 2, Stress: &stressed})
	ln := listen(t)
	g := lifecycle.New(context.Background(), nil)
	go func() { _ = s.Serve(context.Background(), g, ln) }()
	defer func() {
		if err := g.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	}()
	first, second, third := dialTCP(t, ln), dialTCP(t, ln), dialTCP(t, ln)
	if r := first.reply(); r != "220 mail.example.com ESMTP Postfix" {
		t.Errorf("first: %s", r)
	}
	if r := second.reply(); r != "220 stressed" {
		t.Errorf("second: %s", r)
	}
	_ = third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if r := third.reply(); !strings.Contains(r, "timeout") {
		t.Errorf("third, with two sessions open: %s", r)
	}
	first.say("QUIT")
	_ = third.SetReadDeadline(time.Now().Add(10 * time.Second))
	if r := third.reply(); r != "220 stressed" {
		t.Errorf("third: %s", r)
	}
}

// A reload while clients come loses none of them.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	g := lifecycle.New(context.Background(), nil)
	var bad atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				bad.Add(1)
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			p := peerConn{c, bufio.NewReader(c)}
			if r := p.reply(); !strings.HasPrefix(r, "220") {
				bad.Add(1)
			}
			p.say("QUIT")
			p.reply()
			c.Close()
		}
	}()
	for reloads := 0; ; reloads++ {
		select {
		case <-done:
			if bad.Load() > 0 {
				t.Errorf("%d sessions failed in %d reloads", bad.Load(), reloads)
			}
			if err := g.Stop(5 * time.Second); err != nil {
				t.Error(err)
			}
			return
		default:
		}
		s, _, _ := quietServer(t, testConfig(), Options{Service: "smtp", MaxProc: 10})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		if err := s.Serve(ctx, g, ln); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// drive runs one session on what it is sent, and returns all that it said.
func drive(s *Server, input io.Reader) string {
	var out strings.Builder
	s.ServeStream(context.Background(), input, &out)
	return out.String()
}

// repeated is an input without end and without line end.
type repeated struct {
	text string
	left int
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && r.left > 0 {
		p[n] = r.text[r.at]
		r.at = (r.at + 1) % len(r.text)
		n++
		r.left--
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Input of whatever length ends without memory growing with it.
func TestHostile(t *testing.T) {
	cfg := testConfig()
	cfg.HardErrors, cfg.SoftErrors, cfg.JunkCommands, cfg.ForbidPipelining = 1<<30, 1<<30, 1<<30, false
	cfg.NotifyClasses = "policy, protocol"
	const size = 1 << 20
	start := "HELO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	for name, input := range map[string]io.Reader{
		"no line end":    &repeated{text: "x", left: size},
		"failing":        &repeated{text: "FOO\r\n", left: size},
		"empty lines":    &repeated{text: "\r\n", left: size},
		"nul":            &repeated{text: "\x00", left: size},
		"history":        &repeated{text: "NOOP aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", left: size},
		"recipients":     io.MultiReader(strings.NewReader(start), &repeated{text: "RCPT TO:<c@d.example>\r\n", left: size}),
		"tiny chunks":    io.MultiReader(strings.NewReader(start), &repeated{text: "BDAT 1\r\nx", left: size}),
		"a line":         io.MultiReader(strings.NewReader(start+"DATA\r\n"), &repeated{text: "x", left: size}),
		"dots":           io.MultiReader(strings.NewReader(start+"DATA\r\n"), &repeated{text: ".", left: size}),
		"CRs":            io.MultiReader(strings.NewReader(start+"DATA\r\n"), &repeated{text: "\r", left: size}),
		"From lines":     io.MultiReader(strings.NewReader(start+"DATA\r\n"), &repeated{text: ">From \r\n", left: size}),
		"brackets":       &repeated{text: "MAIL FROM:<<<<((([[[\"\\", left: size},
		"transactions":   &repeated{text: "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRSET\r\n", left: size},
		"a huge chunk":   strings.NewReader(start + "BDAT 9223372036854775807 LAST\r\nx"),
		"skipped chunks": &repeated{text: "BDAT 10 LAST\r\n0123456789", left: size},
	} {
		t.Run(name, func(t *testing.T) {
			s, sink, _ := quietServer(t, cfg, Options{Service: "smtp"})
			s.log = nil // the log is somebody else's memory
			s.deps.Notify = func(_ context.Context, tr Transcript) {
				if len(tr.Lines) > maxHistory {
					t.Errorf("a transcript of %d lines", len(tr.Lines))
				}
			}
			client, end := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, client) }()
			go func() {
				_, _ = io.Copy(client, input)
				client.Close()
			}()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			s.ServeConn(context.Background(), tcpPipe{end, netip.MustParseAddrPort("203.0.113.9:1")})
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
				t.Errorf("%d bytes kept", grown)
			}
			if sink.open != 0 {
				t.Errorf("%d messages left open", sink.open)
			}
		})
	}
}

// An idle session holds little.
func TestIdleMemory(t *testing.T) {
	const sessions = 200
	s, _, _ := quietServer(t, testConfig(), Options{Service: "smtp"})
	s.log = nil
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := measure()
	done := make(chan struct{}, sessions)
	var clients []net.Conn
	for range sessions {
		client, end := net.Pipe()
		clients = append(clients, client)
		go func() {
			s.ServeConn(context.Background(), tcpPipe{end, netip.MustParseAddrPort("203.0.113.9:1")})
			done <- struct{}{}
		}()
		p := peerConn{client, bufio.NewReaderSize(client, 16)}
		p.reply()
		// One message, so that the large buffer was in use.
		for _, command := range []string{"HELO x", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "Subject: x\r\n\r\n."} {
			p.say(command)
			p.reply()
		}
	}
	each := (int64(measure()) - int64(before)) / sessions
	t.Logf("%d bytes for each session", each)
	if each > 32<<10 {
		t.Errorf("an idle session holds %d bytes", each)
	}
	for _, c := range clients {
		c.Close()
	}
	for range sessions {
		<-done
	}
}

// Whatever the order of commands, replies follow the state of the transaction.
func TestModel(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.HardErrors, cfg.SoftErrors, cfg.JunkCommands = 1<<30, 1<<30, 1<<30
	s, sink, _ := quietServer(t, cfg, Options{Service: "smtp"})
	s.deps.Checker = &rejecting{}
	commands := []string{
		"HELO x", "EHLO x", "MAIL FROM:<a@b.example>", "MAIL FROM:<bad@b.example>", "MAIL FROM:<", "RCPT TO:<c@d.example>",
		"RCPT TO:<bad@d.example>", "RCPT TO:<", "DATA", "BDAT 2", "BDAT 2 LAST", "BDAT 99999", "RSET", "NOOP", "VRFY c", "VRFY é",
		"HELP", "ETRN x.example", "XFORWARD NAME=x", "FOO", "MAIL FROM:<noend@b.example>", "MAIL FROM:<nodata@b.example>",
	}
	rapid.Check(t, func(t *rapid.T) {
		client, end := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.ServeConn(context.Background(), tcpPipe{end, netip.MustParseAddrPort("203.0.113.9:1")})
		}()
		p := peerConn{client, bufio.NewReader(client)}
		p.reply()
		var m model
		for range rapid.IntRange(1, 12).Draw(t, "length") {
			command := rapid.SampledFrom(commands).Draw(t, "command")
			want := m.step(command)
			p.say(command)
			if strings.HasPrefix(command, "BDAT 2") {
				fmt.Fprint(p, "\r\n")
			}
			if strings.HasPrefix(command, "BDAT 9") {
				fmt.Fprint(p, strings.Repeat("x", 99999))
			}
			got := p.reply()
			if got[:3] == "354" {
				p.say(".")
				got = p.reply()
			}
			if got[:3] != want {
				t.Fatalf("%s: %s, want %s", command, got, want)
			}
		}
		client.Close()
		<-done
		if sink.open != 0 {
			t.Fatalf("%d messages left open", sink.open)
		}
	})
}

// rejecting refuses by name.
type rejecting struct{ fakeChecker }

func rejectIf(bad bool) restrict.Verdict {
	f := fakeChecker{rules: map[string]string{"x ": "550 5.7.1 no"}}
	if bad {
		return f.ask(nil, "x", "")
	}
	return restrict.Verdict{}
}

func (rejecting) Mail(_ context.Context, v *restrict.View) restrict.Verdict {
	return rejectIf(v.Sender.Local() == "bad")
}
func (rejecting) Rcpt(_ context.Context, v *restrict.View) restrict.Verdict {
	return rejectIf(v.Recipient.Local() == "bad")
}
func (rejecting) Data(_ context.Context, v *restrict.View) restrict.Verdict {
	return rejectIf(v.Sender.Local() == "nodata")
}
func (rejecting) EndOfData(_ context.Context, v *restrict.View) restrict.Verdict {
	return rejectIf(v.Sender.Local() == "noend")
}

// model is the state table of RFC 5321 §4.1.4 and RFC 3030.
type model struct {
	sender string // "" outside of a transaction
	rcpts  int
	bdat   bool // a chunk was taken
	failed bool // a chunk was refused
}

func (m *model) step(command string) string {
	verb, _, _ := strings.Cut(command, " ")
	switch verb {
	case "HELO", "EHLO", "RSET":
		*m = model{}
		return "250"
	case "NOOP":
		return "250"
	case "VRFY":
		return "252"
	case "HELP":
		return "214"
	case "XFORWARD":
		if m.sender != "" {
			return "503"
		}
		return "550"
	case "ETRN":
		if m.sender != "" {
			return "503"
		}
		return "459"
	case "MAIL":
		return m.mail(command)
	case "RCPT":
		return m.rcpt(command)
	case "DATA", "BDAT":
		return m.data(verb, command)
	}
	return "500"
}

func (m *model) mail(command string) string {
	switch {
	case m.bdat || m.failed || m.sender != "":
		return "503"
	case command == "MAIL FROM:<":
		return "501"
	case strings.Contains(command, "<bad"):
		return "550"
	}
	*m = model{sender: command}
	return "250"
}

func (m *model) rcpt(command string) string {
	switch {
	case m.bdat || m.failed || m.sender == "":
		return "503"
	case command == "RCPT TO:<":
		return "501"
	case strings.Contains(command, "<bad"):
		return "550"
	}
	m.rcpts++
	return "250"
}

func (m *model) data(verb, command string) string {
	last := verb == "DATA" || strings.HasSuffix(command, "LAST")
	answer := ""
	switch {
	case verb == "DATA" && (m.bdat || m.failed):
		return "503"
	case m.failed:
		answer = "551"
	case m.rcpts == 0 && m.sender == "":
		answer = "503"
	case m.rcpts == 0:
		answer = "554"
	case !m.bdat && strings.Contains(m.sender, "nodata"):
		answer = "550"
	case strings.Contains(command, "99999"):
		answer = "552"
	}
	switch {
	case answer != "" && verb == "DATA":
		return answer
	case answer != "" && last:
		*m = model{}
		return answer
	case answer != "":
		m.failed, m.bdat = true, false
		return answer
	case !last:
		m.bdat = true
		return "250"
	}
	noend := strings.Contains(m.sender, "noend")
	*m = model{}
	if noend {
		return "550"
	}
	return "250"
}

// No input breaks a session, and none leaves a message behind.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"EHLO x\r\nMAIL FROM:<a@b> SIZE=1\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
		"HELO x\nMAIL FROM:<>\nRCPT TO:c\nBDAT 3 LAST\nabcBDAT 0\n",
		"XCLIENT NAME=a ADDR=1.2.3.4\r\nXFORWARD NAME=b\r\nVRFY \"x\r\nETRN @x\r\n",
		"MAIL FROM:<a@b> RET=HDRS ENVID=+41 BODY=8BITMIME SMTPUTF8 XVERP=+=\r\nRSET\r\n\x00\xff\r\n",
	} {
		f.Add(seed)
	}
	cfg := testConfig()
	cfg.ForbidPipelining, cfg.XclientHosts, cfg.XforwardHosts, cfg.VerpClients = false, "static:all", "static:all", "static:all"
	s, sink, log := quietServer(f, cfg, Options{Service: "smtp"})
	f.Fuzz(func(t *testing.T, input string) {
		drive(s, strings.NewReader(input))
		if sink.open != 0 {
			t.Fatalf("%d messages left open", sink.open)
		}
		if text := log.String(); strings.Contains(text, "panic:") {
			t.Fatal(text)
		}
		*log = maillog.Memory{}
	})
}

// A tarpit ends with the session's context.
func TestTarpitStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.SoftErrors, cfg.ErrorSleep = 1, time.Hour
		s, _, _ := quietServer(t, cfg, Options{Service: "smtp"})
		client, end := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.ServeConn(ctx, tcpPipe{end, netip.MustParseAddrPort("203.0.113.9:1")})
		}()
		p := peerConn{client, bufio.NewReader(client)}
		p.reply()
		p.say("FOO")
		synctest.Wait()
		start := time.Now()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		cancel()
		<-done
		if d := time.Since(start); d > time.Second {
			t.Errorf("it took %v", d)
		}
		client.Close()
	})
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Config){
		"smtpd_forbid_bare_newline":    func(c *Config) { c.BareNewline = "perhaps" },
		"receive_override_options":     func(c *Config) { c.ReceiveOverride = "no_such" },
		"local_header_rewrite_clients": func(c *Config) { c.RewriteClients = "permit_all" },
	} {
		cfg := testConfig()
		change(&cfg)
		_, err := New(cfg, Deps{Sink: &fakeSink{}, Tables: testTables(nil)}, Options{})
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := New(testConfig(), Deps{}, Options{}); err == nil {
		t.Error("no error without a Sink")
	}
}

// A client that does not read does not hold a session for ever.
func TestDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, log := quietServer(t, testConfig(), Options{Service: "smtp"})
		client, end := net.Pipe()
		start := time.Now()
		s.ServeConn(context.Background(), tcpPipe{end, netip.MustParseAddrPort("203.0.113.9:1")})
		if d := time.Since(start); d < 5*time.Minute || d > 11*time.Minute {
			t.Errorf("it took %v", d)
		}
		if !strings.Contains(log.String(), "timeout after CONNECT") {
			t.Error(log.String())
		}
		client.Close()
	})
}

var errBroken = errors.New("broken")

// brokenListener fails a few times.
type brokenListener struct {
	net.Listener
	fails atomic.Int32
}

func (b *brokenListener) Accept() (net.Conn, error) {
	if b.fails.Add(-1) >= 0 {
		return nil, errBroken
	}
	return nil, net.ErrClosed
}

func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, log := quietServer(t, testConfig(), Options{Service: "smtp", MaxProc: 1})
		g := lifecycle.New(context.Background(), nil)
		ln := &brokenListener{}
		ln.fails.Store(3)
		if err := s.Serve(context.Background(), g, ln); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "accept connection: broken"); n != 3 {
			t.Error(log.String())
		}
		_ = g.Stop(time.Second)
	})
}

func BenchmarkSession(b *testing.B) {
	s, _, _ := quietServer(b, testConfig(), Options{Service: "smtp"})
	s.log = nil
	message := "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
	content := strings.Repeat("The quick brown fox jumps over the dog.\r\n", 100) + ".\r\n"
	input := &lockstep{b: b, turns: []string{message, content}}
	b.ReportAllocs()
	s.ServeStream(context.Background(), input, io.Discard)
}

// lockstep feeds turns for as long as the benchmark runs.
type lockstep struct {
	b     *testing.B
	turns []string
	at    int
	begun bool
	rest  string
}

func (l *lockstep) Read(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		return copy(p, "EHLO x\r\n"), nil
	}
	if l.rest == "" {
		if l.at%len(l.turns) == 0 && !l.b.Loop() {
			return 0, io.EOF
		}
		l.rest = l.turns[l.at%len(l.turns)]
		l.at++
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
