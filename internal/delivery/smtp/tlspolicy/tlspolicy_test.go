package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
	"posthaste/internal/wire/mailtls"
)

func config() Config {
	return Config{
		Level: "may", Protocols: ">=TLSv1", MandatoryProtocols: ">=TLSv1.2", Ciphers: "medium", MandatoryCiphers: "high",
		Exclude: "RC4", MandatoryExclude: "kRSA", VerifyMatch: "hostname", SecureMatch: "nexthop, dot-nexthop", EnforceName: true,
	}
}

func open(t *testing.T, c Config) (*Policies, *maillog.Memory, error) {
	t.Helper()
	log := &maillog.Memory{}
	logger := maillog.New(log, "log", 1, nil)
	o := table.NewOpener(table.Setup{Log: logger, Types: []table.Type{{Name: "inline", Open: text.Inline}, {Name: "fail", Open: text.Fail}}})
	p, err := Open(c, "smtp", o, mailtls.Deps{Log: logger})
	return p, log, err
}

func TestGlobalLevel(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"may":                   func(c *Config) {},
		"none":                  func(c *Config) { c.Level = "" },
		"encrypt":               func(c *Config) { c.Level, c.EnforceTLS, c.EnforceName = "", true, false },
		"verify":                func(c *Config) { c.Level, c.EnforceTLS = "", true },
		"secure":                func(c *Config) { c.Level, c.UseTLS = "SECURE", true },
		`Invalid TLS level "x"`: func(c *Config) { c.Level = "x" },
		`smtp_tls_wrappermode requires "smtp_tls_security_level = encrypt" (or stronger)`: func(c *Config) { c.Wrapper = true },
		"client TLS configuration problem":                                                func(c *Config) { c.Level = "fingerprint" },
	} {
		c := config()
		change(&c)
		p, _, err := open(t, c)
		got := ""
		if err == nil {
			var policy mailtls.Policy
			policy, err = p.For(t.Context(), Destination{"x.example", "x.example", "mx.x.example"})
			got = policy.Level.String()
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}

func TestPolicyTable(t *testing.T) {
	t.Parallel()
	const no = "client TLS configuration problem"
	for _, c := range []struct{ entry, nexthop, want, log string }{
		{"", "a.example", "may >=TLSv1 medium RC4", ""},
		{"a.example = encrypt", "a.example", "encrypt >=TLSv1.2 high RC4 kRSA", ""},
		{"a.example = encrypt", "b.a.example", "may >=TLSv1 medium RC4", ""},
		{".a.example = encrypt", "c.b.a.example", "encrypt >=TLSv1.2 high RC4 kRSA", ""},
		{"a.example = encrypt", "[a.example]:587", "may >=TLSv1 medium RC4", ""},
		{"[a.example]:587 = verify", "[a.example]:587", "verify >=TLSv1.2 high RC4 kRSA match=mx.a.example", ""},
		{"a.example = secure", "a.example", "secure >=TLSv1.2 high RC4 kRSA match=a.example,.a.example", ""},
		{"a.example = secure match=b.example:.c.example match=hostname", "a.example", "secure >=TLSv1.2 high RC4 kRSA match=b.example,.c.example,mx.a.example", ""},
		{"a.example = may protocols=TLSv1.3 ciphers=low exclude=3DES", "a.example", "may TLSv1.3 low 3DES", ""},
		{"a.example = encrypt servername=hostname", "a.example", "encrypt >=TLSv1.2 high RC4 kRSA sni=mx.a.example", ""},
		{"a.example = encrypt servername=192.0.2.1", "a.example", "encrypt >=TLSv1.2 high RC4 kRSA", ""},
		{"a.example = secure tafile=/a tafile=/b match=nexthop", "a.example", "secure >=TLSv1.2 high RC4 kRSA match=a.example ta=/a,/b", ""},
		{"a.example = fingerprint match=AA:BB|CC match=DD", "a.example", "fingerprint >=TLSv1.2 high RC4 kRSA fp=AA:BB,CC,DD", ""},
		{"a.example = none ciphers=high", "a.example", "none", `smtp_tls_policy_maps, next-hop destination "a.example": ignoring attribute "ciphers=high" with TLS disabled`},
		{"a.example = secure policy_type=sts mx_host_pattern=x match=x.example", "a.example", "secure >=TLSv1.2 high RC4 kRSA match=x.example", ""},
		{"a.example = bogus", "a.example", no, `smtp_tls_policy_maps, next-hop destination "a.example": invalid security level "bogus"`},
		{"a.example = encrypt match=x", "a.example", no, `attribute "match" invalid at security level "encrypt"`},
		{"a.example = encrypt tafile=x", "a.example", no, `attribute "tafile" invalid at security level "encrypt"`},
		{"a.example = encrypt nonsense=x", "a.example", no, `invalid attribute name: "nonsense"`},
		{"a.example = encrypt nonsense", "a.example", no, `malformed attribute/value pair "nonsense"`},
		{"a.example = encrypt ciphers=", "a.example", no, `attribute "ciphers" has empty value`},
		{"a.example = encrypt ciphers=a ciphers=b", "a.example", no, `attribute "ciphers" is specified multiple times`},
		{"a.example = encrypt connection_reuse=maybe", "a.example", no, `attribute "connection_reuse" has bad value: "maybe"`},
		{"a.example = fingerprint", "a.example", no, "nexthop domain a.example: configured at fingerprint security level, but with no fingerprints to match."},
		{"a.example = dane", "a.example", "may >=TLSv1 medium RC4", `TLS level "dane": DANE is not available, using "may"`},
		{"a.example = dane-only", "a.example", no, "DANE is not available"},
	} {
		cfg := config()
		if c.entry != "" {
			cfg.Maps = "inline:{ {" + c.entry + "} }"
		}
		p, log, err := open(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		domain := strings.TrimSuffix(strings.Trim(strings.TrimSuffix(c.nexthop, ":587"), "[]"), ".")
		policy, err := p.For(t.Context(), Destination{Nexthop: c.nexthop, Domain: domain, Host: "mx.a.example"})
		if got := show(policy, err); got != c.want || !strings.Contains(log.String(), c.log) || (c.log == "") != (log.String() == "") {
			t.Errorf("%s for %s:\nwant %s\ngot  %s\nlog %s", c.entry, c.nexthop, c.want, got, log)
		}
		p.Close()
	}
}

func show(p mailtls.Policy, err error) string {
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(fmt.Sprintf("%s %s %s %s", p.Level, p.Protocols, p.Ciphers, p.Exclude))
	for _, part := range []struct {
		name   string
		values []string
	}{{"match", p.Match}, {"fp", p.Fingerprints}, {"ta", p.TrustFiles}} {
		if len(part.values) > 0 {
			text += " " + part.name + "=" + strings.Join(part.values, ",")
		}
	}
	if p.ServerName != "" {
		text += " sni=" + p.ServerName
	}
	return strings.Join(strings.Fields(text), " ")
}

// A table that fails makes no weaker policy.
func TestBrokenTable(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Config){func(c *Config) { c.Maps = "fail:x" }, func(c *Config) { c.PerSite = "fail:x" }} {
		c := config()
		change(&c)
		p, log, err := open(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.For(t.Context(), Destination{"a.example", "a.example", "mx"}); !errors.Is(err, ErrConfig) || !strings.Contains(log.String(), "lookup error") {
			t.Errorf("%v %s", err, log)
		}
	}
}

func TestPerSite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ global, nexthop, host, want string }{
		{"may", "", "", "may"}, {"may", "MUST", "", "verify"}, {"may", "MUST_NOPEERMATCH", "MAY", "encrypt"}, {"may", "NONE", "", "none"},
		{"encrypt", "MAY", "", "encrypt"}, {"encrypt", "NONE", "MAY", "none"}, {"none", "MAY", "", "may"}, {"none", "NONE", "MUST", "verify"},
		{"may", "nonsense", "", "client TLS configuration problem"},
	} {
		cfg := config()
		cfg.Level = c.global
		var entries string
		for name, word := range map[string]string{"a.example": c.nexthop, "mx.example": c.host} {
			if word != "" {
				entries += fmt.Sprintf(" {%s = %s}", name, word)
			}
		}
		if entries != "" {
			cfg.PerSite = "inline:{" + entries + " }"
		}
		p, _, err := open(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		policy, err := p.For(context.Background(), Destination{"a.example", "a.example", "mx.example"})
		if got := strings.Fields(show(policy, err))[0]; err == nil && got != c.want || err != nil && err.Error() != c.want {
			t.Errorf("%+v: %s %v", c, got, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	for _, s := range []string{"encrypt ciphers=x", "secure match=a:b:c", "none x", "fingerprint match=A|B", "verify {match = a}", "dane-only", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p policy
		if err := p.parse(text, func(string, ...any) {}); err == nil && p.level == mailtls.LevelEncrypt && len(p.match) > 0 {
			t.Errorf("%q: names at a level that does not look at them", text)
		}
	})
}
