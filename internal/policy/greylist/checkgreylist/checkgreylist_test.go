package checkgreylist

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/greylist"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/policy/spf"
	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

func config() Config {
	return Config{Delay: 5 * time.Minute, MaxAge: 24 * time.Hour, RetryWindow: time.Hour, Action: "DEFER_IF_PERMIT", Text: "wait %s",
		Header: "X-Greylist: %t", IPv4Bits: 24, IPv6Bits: 64, MaxEntries: 1000, AutoWhitelist: 5}
}

func view(address string) *restrict.View {
	return &restrict.View{Client: restrict.Client{Name: "unknown", Address: address}, Helo: "mx.s.example", Instance: "1",
		Sender: "a@s.example", HasSender: true, Recipient: "b@example.com", HasRecipient: true}
}

// keeper makes a keeper whose work ends with the test.
func keeper(t *testing.T, dir string) (*Keeper, *maillog.Memory, *lifecycle.Group) {
	t.Helper()
	log := &maillog.Memory{}
	group := lifecycle.New(context.Background(), nil)
	t.Cleanup(func() { group.Stop(10 * time.Second) })
	return NewKeeper(dir, group, maillog.New(log, "postfix/postgrey", 1, nil)), log, group
}

func policy(t *testing.T, c Config, k *Keeper) restrict.Policy {
	t.Helper()
	p, err := New(c, Setup{Keeper: k, Log: k.log, DNS: dnstest.Parse(""), SPF: func(_ context.Context, ip netip.Addr, from addr.Address, _ string) spf.Answer {
		if ip.Is4() && from.Domain() == "s.example" {
			return spf.Answer{Result: spf.Pass, Domain: "s.example"}
		}
		return spf.Answer{Result: spf.None}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestServicesShareTheDatabase: what one service knows, the other does, and the
// next process too.
func TestServicesShareTheDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, _, group := keeper(t, dir)
	c := config()
	first, second := policy(t, c, k), policy(t, c, k)
	if got := first(t.Context(), view("192.0.2.1"), "RCPT"); got != "DEFER_IF_PERMIT 4.2.0 wait 300" {
		t.Errorf("first: %q", got)
	}
	remote, err := greylist.Dial(filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	if r := remote.Obey(t.Context(), greylist.Order{Op: "release", Match: "b@example.com"}); r.Done != 1 {
		t.Fatalf("release: %+v", r)
	}
	remote.Close()
	if got := second(t.Context(), view("192.0.2.9"), "RCPT"); !strings.HasPrefix(got, "PREPEND X-Greylist: 30") {
		t.Errorf("second: %q", got)
	}
	start := time.Now()
	if err := group.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the stop took %v: it waited for its time to be over", took)
	}
	again, _, _ := keeper(t, dir)
	if got := policy(t, c, again)(t.Context(), view("192.0.2.1"), "RCPT"); got != "DUNNO" {
		t.Errorf("next process: %q", got)
	}
}

// TestProvider: the SPF answer is asked for when another network tries.
func TestProvider(t *testing.T) {
	t.Parallel()
	k, _, _ := keeper(t, t.TempDir())
	c := config()
	c.Providers = "spf, ptr"
	p := policy(t, c, k)
	p(t.Context(), view("192.0.2.1"), "RCPT")
	k.current.Load().Obey(t.Context(), greylist.Order{Op: "release", Match: "spf:s.example"})
	if got := p(t.Context(), view("198.51.100.7"), "RCPT"); !strings.HasPrefix(got, "PREPEND") {
		t.Errorf("other network: %q", got)
	}
}

// TestNoDatabase: mail is let through, and the log says why, once.
func TestNoDatabase(t *testing.T) {
	t.Parallel()
	k, log, _ := keeper(t, filepath.Join(t.TempDir(), "missing"))
	p := policy(t, config(), k)
	for range 3 {
		if got := p(t.Context(), view("192.0.2.1"), "RCPT"); got != "DUNNO" {
			t.Errorf("%q", got)
		}
	}
	if n := strings.Count(log.String(), "mail is let through"); n != 1 || !strings.Contains(log.String(), "greylist.db") {
		t.Errorf("%d complaints: %s", n, log)
	}
}

func TestOnlyRecipients(t *testing.T) {
	t.Parallel()
	k, _, _ := keeper(t, t.TempDir())
	p := policy(t, config(), k)
	for _, where := range []string{"CONNECT", "EHLO", "MAIL", "VRFY", "DATA", "END-OF-MESSAGE", "ETRN"} {
		if got := p(t.Context(), view("192.0.2.1"), where); got != "DUNNO" {
			t.Errorf("%s: %q", where, got)
		}
	}
	if _, err := os.Stat(filepath.Join(k.dir, DatabaseName)); err == nil {
		t.Error("the database was opened for nothing")
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	t.Parallel()
	k, _, _ := keeper(t, t.TempDir())
	for name, set := range map[string]func(*Config){
		"posthaste_greylist_signs":     func(c *Config) { c.Signs = "ptr, nonsense" },
		"posthaste_greylist_providers": func(c *Config) { c.Providers = "dns" },
	} {
		c := config()
		set(&c)
		if _, err := New(c, Setup{Keeper: k}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhitelistFiles(t *testing.T) {
	t.Parallel()
	k, log, _ := keeper(t, t.TempDir())
	c := config()
	c.Clients, c.Recipients = filepath.Join(t.TempDir(), "clients"), "/nonexistent/recipients"
	if err := os.WriteFile(c.Clients, []byte("192.0.2\nbad/line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := policy(t, c, k)(t.Context(), view("192.0.2.1"), "RCPT"); got != "DUNNO" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(log.String(), c.Clients+" line 2: doesn't look like a hostname") || strings.Contains(log.String(), "nonexistent") {
		t.Errorf("log: %s", log)
	}
}
