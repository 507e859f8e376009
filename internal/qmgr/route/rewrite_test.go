package route

import (
	"context"
	"strings"
	"testing"

	"posthaste/internal/mail/addr"
)

func standard() RewriteConfig {
	return RewriteConfig{MyOrigin: "example.com", MyDomain: "example.com", AppendAtMyOrigin: true,
		AppendDotMyDomain: true, SwapBangPath: true, PercentHack: true}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"@", ""},
		{"alice", "alice@example.com"},
		{"alice@", "alice@"},
		{"alice@host", "alice@host.example.com"},
		{"alice@localhost.", "alice@localhost"},
		{"alice@[192.0.2.1]", "alice@[192.0.2.1]"},
		{"alice%far.example", "alice@far.example"},
		{"alice%far", "alice@far.example.com"},
		{"a%b%c.d", "a%b@c.d"},
		{"alice%far.example@example.com", "alice%far.example@example.com"},
		{"far.example!alice", "alice@far.example"},
		{"a!b!alice", "b!alice@a.example.com"},
		{"a.b!c%d", "c%d@a.b"},
		{"@a.example,@b.example:alice@example.com", "alice@example.com"},
		{"@a.example:alice", "alice@example.com"},
		{"@a b:x@c.example", "@a b:x@c.example"},
		{"al ice", "al ice@example.com"},
		{"x y%far.example", "x y%far.example@example.com"},
		{"alice@example.com.", "alice@example.com"},
		{"alice@example.com..", "alice@example.com.."},
		{"alice@.", "alice@."},
		{"!", "@"},
		{"%", "@"},
	} {
		if got := NewRewriter(standard()).Rewrite(ctx, ContextLocal, addr.Address(c.in)); string(got) != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

func TestRewriteSettings(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, c := range []struct {
		name      string
		change    func(*RewriteConfig)
		where     string
		in, wants string
	}{
		{"no origin", func(c *RewriteConfig) { c.AppendAtMyOrigin = false }, ContextLocal, "alice", "alice"},
		{"no mydomain", func(c *RewriteConfig) { c.AppendDotMyDomain = false }, ContextLocal, "alice@host", "alice@host"},
		{"no bang", func(c *RewriteConfig) { c.SwapBangPath = false }, ContextLocal, "h!alice", "h!alice@example.com"},
		{"no percent", func(c *RewriteConfig) { c.PercentHack = false }, ContextLocal, "alice%h", "alice%h@example.com"},
		{"short origin", func(c *RewriteConfig) { c.MyOrigin = "host" }, ContextLocal, "alice", "alice@host.example.com"},
		{"remote without domain", func(*RewriteConfig) {}, ContextRemote, "alice", "alice"},
		{"remote", func(c *RewriteConfig) { c.RemoteDomain = "domain.invalid" }, ContextRemote, "alice", "alice@domain.invalid"},
		{"remote host", func(c *RewriteConfig) { c.RemoteDomain = "domain.invalid" }, ContextRemote, "alice@h", "alice@h.domain.invalid"},
	} {
		cfg := standard()
		c.change(&cfg)
		if got := NewRewriter(cfg).Rewrite(ctx, c.where, addr.Address(c.in)); string(got) != c.wants {
			t.Errorf("%s: %q becomes %q, want %q", c.name, c.in, got, c.wants)
		}
	}
}

// Every string over the operators up to a length ends, and has been rewritten
// for good: a second time changes nothing but operators now in front.
func TestRewriteEnds(t *testing.T) {
	t.Parallel()
	r := NewResolver(Config{Rewrite: standard(), MyHostname: "mail.example.com", ResolveDequoted: true},
		Tables{MyDestination: names("example.com", "a")}, nil)
	ctx := context.Background()
	const alphabet = ".!@%:<>\",\\a "
	length := 5
	if testing.Short() {
		length = 4
	}
	var walk func(prefix string)
	walk = func(prefix string) {
		a := addr.Address(prefix)
		r.Rewriter().Rewrite(ctx, ContextLocal, a)
		route, err := r.Resolve(ctx, "", a)
		if err != nil {
			t.Fatalf("%q: %v", prefix, err)
		}
		if !strings.Contains(string(route.Recipient), "@") {
			t.Fatalf("%q resolves to %q", prefix, route.Recipient)
		}
		if len(prefix) == length {
			return
		}
		for i := range alphabet {
			walk(prefix + alphabet[i:i+1])
		}
	}
	// The transports are not set: without the right class that is an error.
	r.cfg.Routing = Routing{LocalTransport: "local", DefaultTransport: "smtp"}
	walk("")
}

func FuzzRewrite(f *testing.F) {
	for _, s := range []string{"", "@", "a@b", "a%b@c", "b!a", "@x,@y:a@z", `"a@b"@c`, "a@[IPv6:::1]", "a@ä.example", ".!"} {
		f.Add(s)
	}
	r := NewRewriter(standard())
	f.Fuzz(func(t *testing.T, s string) {
		once := r.Rewrite(context.Background(), ContextLocal, addr.Address(s))
		if len(once) > len(s)+len("@example.com")+len(".example.com") {
			t.Errorf("%q grew to %q", s, once)
		}
	})
}
