package greylist_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/policy/greylist"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// serve starts a server and returns a connection to it, and its log.
func serve(t testing.TB, server *greylist.Server) (dial func(t testing.TB) net.Conn, log *maillog.Memory) {
	t.Helper()
	log = &maillog.Memory{}
	server.Log = maillog.New(log, "postgrey", 1, nil)
	if server.Greylist == nil {
		server.Greylist = greylist.New(greylist.Settings{Quiet: true}, greylist.Deps{Store: greylist.NewMemory()})
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	group := lifecycle.New(context.Background(), nil)
	group.Go("server", func(ctx context.Context) { server.Serve(ctx, group, ln) })
	t.Cleanup(func() {
		group.Stop(time.Millisecond)
		group.Wait()
	})
	return func(t testing.TB) net.Conn {
		conn, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}, log
}

const text = "Greylisted, see http://postgrey.schweikert.ch/help/x.html"

func TestProtocol(t *testing.T) {
	t.Parallel()
	const whole = "request=smtpd_access_policy\nclient_address=192.0.2.1\nclient_name=a=b\nsender=\nrecipient=u@x\n"
	deferred := "action=DEFER_IF_PERMIT " + text + "\n\n"
	for _, c := range []struct{ what, send, want, log string }{
		{"plain", whole + "\n", deferred, ""},
		{"enhanced status codes", whole + "etrn_domain=\n\n", "action=DEFER_IF_PERMIT 4.2.0 " + text + "\n\n", ""},
		{"carriage returns", strings.ReplaceAll(whole+"\n", "\n", "\r\n"), deferred, ""},
		{"several at once", strings.Repeat(whole+"\n", 3), strings.Repeat(deferred, 3), ""},
		{"garbage line", "junk\n" + whole + "\n", deferred, "ignoring garbage: <junk>"},
		{"no recipient", strings.Replace(whole, "recipient", "x", 1) + "\n", "action=DUNNO\n\n", "attribute missing: recipient"},
		{"no client", strings.Replace(whole, "client_address", "x", 1) + "\n", "action=DUNNO\n\n", "attribute missing: client_address"},
		{"another request, then a good one", "request=junk\n\n\n" + whole + "\n", deferred, "unrecognized request type: 'junk'"},
		{"half a request", whole, "", ""},
		{"endless line", strings.Repeat("x", 1<<20), "", ""},
		{"endless request", strings.Repeat("a=b\n", 100_000), "", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			dial, log := serve(t, &greylist.Server{})
			conn := dial(t)
			io.WriteString(conn, c.send)
			conn.(*net.UnixConn).CloseWrite()
			got, _ := io.ReadAll(conn)
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !strings.Contains(log.String(), c.log) || c.log == "" && log.String() != "" {
				t.Errorf("log %q, want %q", log, c.log)
			}
		})
	}
}

// TestOnce: Exim wants the connection closed after the answer.
func TestOnce(t *testing.T) {
	t.Parallel()
	dial, _ := serve(t, &greylist.Server{Once: true})
	conn := dial(t)
	io.WriteString(conn, "request=smtpd_access_policy\nclient_address=192.0.2.1\nclient_name=a\nsender=\nrecipient=u@x\n\n")
	if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "action=") {
		t.Errorf("%q %v", got, err)
	}
}

func TestControlSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "greylist.sock")
	ln, err := greylist.ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is open to others: %v %v", info.Mode(), err)
	}
	g := greylist.New(greylist.Settings{}, greylist.Deps{Store: greylist.NewMemory()})
	group := lifecycle.New(context.Background(), nil)
	group.Go("control", func(ctx context.Context) { greylist.ServeControl(ctx, group, ln, g) })
	defer group.Stop(time.Millisecond)
	remote, err := greylist.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	var items []greylist.Item
	for i := range 1234 {
		items = append(items, greylist.Item{Key: fmt.Sprintf("k%04d", i), Entry: greylist.Entry{First: 1, Last: 2}})
	}
	if r := remote.Obey(t.Context(), greylist.Order{Op: "put", Items: items}); r.Error != "" || r.Done != len(items) {
		t.Fatalf("put: %+v", r)
	}
	got, order := 0, greylist.Order{Op: "list", Match: "K"}
	for {
		r := remote.Obey(t.Context(), order)
		if got += len(r.Items); r.Error != "" || !r.More {
			break
		}
		order.After = r.Last
	}
	if got != len(items) {
		t.Errorf("%d items listed, want %d", got, len(items))
	}
	if r := remote.Obey(t.Context(), greylist.Order{Op: "nonsense"}); r.Error == "" {
		t.Error("nonsense is obeyed")
	}
}

func TestWhitelistFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "clients")
	content := "# comment\n\ngood.example # why\nbad/line\n/unclosed[/\n192.0.2\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &greylist.Whitelist{}
	err := w.AddClients(path)
	if err == nil || !strings.Contains(err.Error(), path+" line 4: doesn't look like a hostname") || !strings.Contains(err.Error(), path+" line 5: ") {
		t.Errorf("complaints: %v", err)
	}
	ip := func(text string) greylist.Request {
		return greylist.Request{ClientName: "x", ClientAddress: text, Recipient: "r@x"}
	}
	g := greylist.New(greylist.Settings{}, greylist.Deps{Store: greylist.NewMemory()})
	g.SetWhitelist(w)
	if !g.Check(t.Context(), ip("192.0.2.200")).Pass || g.Check(t.Context(), ip("192.0.3.200")).Pass {
		t.Error("the lines behind bad ones do not count")
	}
	if err := w.AddRecipients(path + ".local"); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestLiteralsChangeNothing: expressions match as they do without a look at the
// literals in them.
func TestLiteralsChangeNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expression, name string
		want             bool
	}{
		{`/^ms-smtp.*\.rr\.com$/`, "MS-SMTP-1.tx.RR.com", true},
		{`/^ms-smtp.*\.rr\.com$/`, "ms-smtp-1.tx.rr.org", false},
		{`/abc|def/`, "xdefx", true},
		{`/(abc)?def/`, "def", true},
		{`/a(bcd)+e/`, "abcde", true},
		{`/mail[0-9]{2}x/`, "MAIL12X.example", true},
		{`/k1/`, "\u212a1.example", true},
		{`/(?-i)ABC/`, "abc", false},
		{`/(?-i)ABC/`, "ABC", true},
		{`/(?<=a)bc/`, "abc", true}, // the other engine
		{`//`, "x", true},
	} {
		w := &greylist.Whitelist{}
		if err := w.AddClient(c.expression); err != nil {
			t.Error(err)
		}
		if got := w.Client(c.name, netip.Addr{}); got != c.want {
			t.Errorf("%s, %s: %v", c.expression, c.name, got)
		}
	}
}

func FuzzServer(f *testing.F) {
	f.Add("request=smtpd_access_policy\nclient_address=192.0.2.1\nclient_name=a\nsender=b@c\nrecipient=u@x\ninstance=1\n\n")
	f.Add("=\n\r\n\n")
	g := greylist.New(greylist.Settings{StripTags: true, Privacy: true}, greylist.Deps{Store: greylist.NewMemory()})
	dial, _ := serve(f, &greylist.Server{Greylist: g})
	f.Fuzz(func(t *testing.T, request string) {
		conn := dial(t)
		defer conn.Close()
		io.WriteString(conn, request)
		conn.(*net.UnixConn).CloseWrite()
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if line := lines.Text(); line != "" && !strings.HasPrefix(line, "action=") {
				t.Errorf("%q", line)
			}
		}
	})
}

func FuzzWhitelist(f *testing.F) {
	f.Add("a.example", "u@x", "a.b.a.example")
	f.Add("/^(a+)+$/", "/(?<=a)b/", "aaaaaaaaaaaaaaaaaaaaaaaa!")
	f.Fuzz(func(t *testing.T, client, recipient, text string) {
		w := &greylist.Whitelist{}
		w.AddClient(client)
		w.AddRecipient(recipient)
		g := greylist.New(greylist.Settings{StripTags: true}, greylist.Deps{Store: greylist.NewMemory()})
		g.SetWhitelist(w)
		g.Check(context.Background(), greylist.Request{ClientName: text, ClientAddress: "192.0.2.1", Sender: text, Recipient: text})
	})
}
