package greylisting

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/command/cli"
	"posthaste/internal/policy/greylist"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  string
		check func(o *options) bool
	}{
		{"--inet=10023 --delay=60 --max-age 10 --retry-window=6h", func(o *options) bool {
			return o.inet == "10023" && o.set.Delay == time.Minute && o.set.MaxAge == 10*day && o.set.RetryWindow == 6*time.Hour
		}},
		{"-i 10023 -dv -v -q", func(o *options) bool { return o.daemonize && o.verbosity == 1 && !o.set.Quiet }},
		{"-u/a/b --socketmode=0600 --quiet", func(o *options) bool { return o.unix == "/a/b" && o.socketMode == 0o600 && o.set.Quiet }},
		{"-i1 --auto-whitelist-clients --exim", func(o *options) bool { return o.set.AutoWhitelist == 5 && o.exim }},
		{"-i1 --auto-whitelist-clients 3", func(o *options) bool { return o.set.AutoWhitelist == 3 }},
		{"-i1 --auto-whitelist-clients=0", func(o *options) bool { return o.set.AutoWhitelist == -1 }},
		{"-i1 --whitelist-clients=/a --whitelist-clients=/b", func(o *options) bool { return len(o.clients) == 2 && len(o.recipients) == 2 }},
		{"-i1 --lookup-by-host --ipv4cidr=20 --ipv6cidr=48 --privacy", func(o *options) bool {
			return o.set.LookupByHost && o.set.IPv4Bits == 20 && o.set.IPv6Bits == 48 && o.set.Privacy
		}},
		{"--help", func(o *options) bool { return o.help }},
		{"--version junk", func(o *options) bool { return o.version }},
	} {
		o, err := parseOptions(strings.Fields(c.args))
		if err != nil || !c.check(o) {
			t.Errorf("%s: %+v, %v", c.args, o, err)
		}
	}
	for args, want := range map[string]string{
		"":                          "--unix or --inet must be specified",
		"operand --inet=1":          "--unix or --inet must be specified",
		"--bogus":                   "Unknown option: bogus",
		"-x":                        "Unknown option: x",
		"--inet":                    "Option inet requires an argument",
		"--exim=1":                  "Option exim does not take an argument",
		"--delay=x":                 `Value "x" invalid for option delay (number expected)`,
		"-i1 --retry-window=2x":     "--retry-window must be",
		"-i1 --socketmode=9":        "--socketmode must be",
		"-i1 --ipv4cidr=33":         "--ipv4cidr",
		"-i1 --retry-window=999999": "--retry-window must be",
	} {
		if _, err := parseOptions(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if _, err := parseOptions([]string{"--bogus"}); !errors.As(err, new(usageError)) {
		t.Error("an unknown option is no error of usage")
	}
}

// command runs greylist on the database in dir.
func command(t *testing.T, dir string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	env := &cli.Env{Name: "greylist", Args: append([]string{"-d", dir}, args...), Stdout: &out, Stderr: &complaints, Getenv: func(string) string { return "" }}
	status = Greylist(t.Context(), env)
	return status, out.String(), complaints.String()
}

// TestImportExport: what is exported in the old format comes back, with more
// entries than fit into one page or one level of pages.
func TestImportExport(t *testing.T) {
	t.Parallel()
	from, old, to := t.TempDir(), t.TempDir(), t.TempDir()
	store, err := greylist.OpenBolt(filepath.Join(from, databaseName), nil)
	if err != nil {
		t.Fatal(err)
	}
	const n = 30_000
	for i := range n {
		key := strings.Repeat("x", i%90) + "/" + string(rune('a'+i%26)) + time.Unix(int64(i), 0).UTC().Format("150405") + "@s.example/r@example.com"
		if err := store.Put(t.Context(), greylist.Triplets, key, greylist.Entry{First: int64(i), Last: int64(i) + int64(i%2)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if status, _, complaints := command(t, from, "export", old); status != 0 {
		t.Fatal(complaints)
	}
	status, out, complaints := command(t, to, "import", old)
	if status != 0 || out != "30000 entries imported\n" {
		t.Fatalf("%q %q", out, complaints)
	}
	_, first, _ := command(t, from, "list")
	_, second, _ := command(t, to, "list")
	if first != second || strings.Count(first, "\n") != n {
		t.Errorf("%d entries listed, then %d", strings.Count(first, "\n"), strings.Count(second, "\n"))
	}
	if status, out, _ := command(t, to, "import", old); status != 0 || out != "0 entries imported\n" {
		t.Errorf("again: %q", out)
	}
}

// TestImportOfPostgrey: files that postgrey 1.37 wrote.
func TestImportOfPostgrey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if status, out, complaints := command(t, dir, "import", "testdata"); status != 0 || out != "41 entries imported\n" {
		t.Fatalf("%d %q %q", status, out, complaints)
	}
	_, out, _ := command(t, dir, "list", "-k", "clients")
	if !strings.Contains(out, "times") {
		t.Errorf("clients: %q", out)
	}
	_, out, _ = command(t, dir, "show", "203.0.113.0/w1@w/r@example.com")
	if !strings.Contains(out, "passed") {
		t.Errorf("show: %q", out)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if status, _, complaints := command(t, dir, "list"); status != 1 || !strings.Contains(complaints, "there is no greylist in "+dir) {
		t.Errorf("no database: %d %q", status, complaints)
	}
	store, err := greylist.OpenBolt(filepath.Join(dir, databaseName), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"", "nonsense", "list -k nonsense", "show", "release", "whitelist add", "whitelist add sender x", "whitelist rename client x", "stats x", "-x"} {
		if status, _, complaints := command(t, dir, strings.Fields(args)...); status != 1 || !strings.Contains(complaints, "usage: greylist") {
			t.Errorf("%q: %d %q", args, status, complaints)
		}
	}
	for _, step := range []struct {
		args   string
		status int
		out    string
	}{
		{"whitelist add client 192.0.2.0/24", 0, ""},
		{"whitelist add recipient abuse@", 0, ""},
		{"whitelist", 0, "client 192.0.2.0/24\nrecipient abuse@\n"},
		{"whitelist remove client 192.0.2.0/24", 0, ""},
		{"whitelist remove client 192.0.2.0/24", 1, ""},
		{"whitelist add client a/b", 1, ""},
		{"whitelist", 0, "recipient abuse@\n"},
		{"forget nothing", 1, "0 entries\n"},
		{"show nothing", 1, ""},
	} {
		status, out, complaints := command(t, dir, strings.Fields(step.args)...)
		if status != step.status || out != step.out || (status == 0) != (complaints == "") {
			t.Errorf("%s: %d %q %q", step.args, status, out, complaints)
		}
	}
}

// TestPostgrey: the server answers, the command finds it, and both end well.
func TestPostgrey(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("would become the user postgrey")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	go func() {
		env := &cli.Env{Name: "postgrey", Args: []string{"--unix=" + socket, "--dbdir=" + dir, "--pidfile=" + filepath.Join(dir, "pid")},
			Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Getenv: func(string) string { return "" }}
		done <- Postgrey(ctx, env)
	}()
	var conn net.Conn
	for deadline := time.Now().Add(20 * time.Second); conn == nil; {
		conn, _ = net.Dial("unix", socket)
		if time.Now().After(deadline) {
			t.Fatal("no answer")
		}
	}
	conn.Write([]byte("request=smtpd_access_policy\nclient_address=192.0.2.1\nclient_name=a\nsender=\nrecipient=u@x\n\n"))
	answer := make([]byte, 1000)
	if n, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "action=DEFER_IF_PERMIT Greylisted") {
		t.Errorf("%q %v", answer[:n], err)
	}
	if status, out, complaints := command(t, dir, "list"); status != 0 || !strings.Contains(out, "192.0.2.0//u@x") {
		t.Errorf("%q %q", out, complaints)
	}
	cancel()
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("the pid file is left behind")
	}
	if status, out, _ := command(t, dir, "list"); status != 0 || !strings.Contains(out, "192.0.2.0//u@x") {
		t.Errorf("after the end: %q", out)
	}
}

func FuzzReadBerkeley(f *testing.F) {
	f.Add("k", "1767225601,1767226000")
	f.Add("k", "1,")
	f.Fuzz(func(t *testing.T, key, value string) {
		for _, kind := range greylist.Kinds() {
			if item, ok := readBerkeley(kind, key, value); ok && (item.First < 0 || item.Last < 0) {
				t.Errorf("%q: %+v", value, item)
			}
		}
	})
}
