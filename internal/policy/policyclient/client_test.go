package policyclient

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"posthaste/internal/sys/maillog"
)

var defaults = Settings{DefaultAction: "451 4.3.5 Server configuration problem", Timeout: 5 * time.Second,
	MaxIdle: time.Minute, MaxTTL: time.Minute, RetryDelay: time.Millisecond, TryLimit: 2}

// serve answers connections with handle until the test ends.
func serve(t *testing.T, handle func(conn net.Conn, number int)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for i := 1; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn, i)
		}
	}()
	return "inet:" + l.Addr().String()
}

func client(t *testing.T, text string, s Settings) (*Client, *maillog.Memory) {
	t.Helper()
	server, err := Parse(text, s)
	if err != nil {
		t.Fatal(err)
	}
	sink := &maillog.Memory{}
	c := New(server, "/nonexistent", maillog.New(sink, "smtpd", 0, nil))
	t.Cleanup(func() { c.Close() })
	return c, sink
}

// readRequest reads one request as text.
func readRequest(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\n" {
			return b.String(), err
		}
		b.WriteString(line)
	}
}

func TestAskReusesConnection(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	address := serve(t, func(conn net.Conn, _ int) {
		connections.Add(1)
		r := bufio.NewReader(conn)
		for {
			request, err := readRequest(r)
			if err != nil {
				return
			}
			io.WriteString(conn, "action="+strings.ReplaceAll(strings.TrimSpace(request), "\n", "|")+"\n\n")
		}
	})
	c, _ := client(t, address, defaults)
	for range 3 {
		got, err := c.Ask(context.Background(), []Attribute{{"request", "smtpd_access_policy"}, {"sender", "a\naction=OK@x"}})
		if err != nil || got != "request=smtpd_access_policy|sender=a action=OK@x" {
			t.Fatalf("%q %v", got, err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAskLimits(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	address := serve(t, func(conn net.Conn, _ int) {
		connections.Add(1)
		r := bufio.NewReader(conn)
		for {
			if _, err := readRequest(r); err != nil {
				return
			}
			io.WriteString(conn, "action=DUNNO\n\n")
		}
	})
	s := defaults
	s.RequestLimit = 2
	c, _ := client(t, address, s)
	for range 4 {
		if _, err := c.Ask(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections for 4 requests of 2 each", n)
	}
}

func TestAskRetriesLostConnection(t *testing.T) {
	t.Parallel()
	address := serve(t, func(conn net.Conn, number int) {
		r := bufio.NewReader(conn)
		readRequest(r)
		if number > 1 {
			io.WriteString(conn, "action=REJECT\r\n\r\n")
		}
		conn.Close()
	})
	c, sink := client(t, address, defaults)
	got, err := c.Ask(context.Background(), nil)
	if err != nil || got != "REJECT" {
		t.Fatalf("%q %v", got, err)
	}
	if log := sink.String(); log != "" {
		t.Errorf("logged %q", log)
	}
}

func TestAskFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handle func(conn net.Conn)
		log    string
	}{
		"closes":     {func(conn net.Conn) { readRequest(bufio.NewReader(conn)) }, "Connection reset by peer"},
		"half":       {func(conn net.Conn) { io.WriteString(conn, "action=OK\n") }, "Connection reset by peer"},
		"no action":  {func(conn net.Conn) { readRequest(bufio.NewReader(conn)); io.WriteString(conn, "foo=OK\n\n") }, "malformed reply: no action"},
		"garbage":    {func(conn net.Conn) { readRequest(bufio.NewReader(conn)); io.WriteString(conn, "nonsense\n\n") }, "malformed reply"},
		"long line":  {func(conn net.Conn) { io.WriteString(conn, "action="+strings.Repeat("x", 9000)) }, "malformed reply"},
		"many lines": {func(conn net.Conn) { io.WriteString(conn, strings.Repeat("a=b\n", 1000)) }, "malformed reply"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := serve(t, func(conn net.Conn, _ int) {
				c.handle(conn)
				conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, conn)
				conn.Close()
			})
			client, sink := client(t, address, defaults)
			if got, err := client.Ask(context.Background(), nil); err == nil {
				t.Fatalf("answered %q", got)
			}
			if log := sink.String(); !strings.Contains(log, "problem talking to server 127.0.0.1:") || !strings.Contains(log, c.log) {
				t.Errorf("logged %q", log)
			}
		})
	}
}

func TestAskTimesOut(t *testing.T) {
	t.Parallel()
	address := serve(t, func(conn net.Conn, _ int) { io.Copy(io.Discard, conn) })
	s := defaults
	s.Timeout, s.TryLimit = 20*time.Millisecond, 1
	c, sink := client(t, address, s)
	if _, err := c.Ask(context.Background(), nil); err == nil {
		t.Fatal("answered")
	}
	if !strings.Contains(sink.String(), "Connection timed out") {
		t.Errorf("logged %q", sink.String())
	}
	s.Timeout = time.Minute
	c, _ = client(t, address, s)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Ask(ctx, nil); err == nil {
		t.Fatal("answered")
	}
}

func TestAskWithoutServer(t *testing.T) {
	t.Parallel()
	c, sink := client(t, "unix:private/nosuch", defaults)
	if _, err := c.Ask(context.Background(), nil); err == nil {
		t.Fatal("answered")
	}
	want := "smtpd: warning: connect to private/nosuch: No such file or directory\n" +
		"smtpd: warning: problem talking to server private/nosuch: No such file or directory"
	if log := sink.String(); log != want+"\n"+want {
		t.Errorf("logged %q", log)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	s, err := Parse("{ inet:host:10023, timeout=10s { default_action = 450 4.7.1 later } policy_context=x, try_limit=1 max_idle=2m max_ttl=1h retry_delay=3 request_limit=5}", defaults)
	want := Settings{"450 4.7.1 later", "x", 10 * time.Second, 2 * time.Minute, time.Hour, 3 * time.Second, 5, 1}
	if err != nil || s.Text != "inet:host:10023" || s.Name() != "host:10023" || s.Settings != want {
		t.Errorf("%+v %v", s, err)
	}
	for _, bad := range []string{"", "{}", "{ }", "host:10023", "inet:host", "unix:", "{ inet:h:1, timeout }", "{ inet:h:1, timeout=x }",
		"{ inet:h:1, nosuch=x }", "{ inet:h:1, try_limit=0 }", "{ inet:h:1", "pcre:/x"} {
		if s, err := Parse(bad, defaults); err == nil {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"action=OK\n\n", "\n", "a\n\n", "action=\n\n", "action=x\x00\n\n", "=\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		action, err := readReply(bufio.NewReader(strings.NewReader(s)))
		if err == nil && strings.ContainsAny(action, "\n") {
			t.Errorf("%q gives %q", s, action)
		}
	})
}
