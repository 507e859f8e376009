package cidr

import (
	"net/netip"
	"strings"
	"testing"

	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

// FuzzPattern: a pattern that is accepted contains its own address.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "[::1]/128", "[::1/64]", "1.2.3.4", "[", "::ffff:1.2.3.4/96", "fe80::1%eth0", "/", "1.2.3.4/08"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		host := strings.Trim(s, "[]")
		host, _, _ = strings.Cut(host, "/")
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil || !p.Contains(ip) {
			t.Errorf("%q: %v does not contain %v (%v)", s, p, ip, err)
		}
	})
}

func FuzzRules(f *testing.F) {
	f.Add("if 10.0.0.0/8\n!10.1.0.0/16 x\nendif\n::/0 y", "10.2.3.4")
	f.Fuzz(func(t *testing.T, source, key string) {
		rules, err := parseRules(nil, "x", text.NewLines(strings.NewReader(source), "x", nil))
		if err != nil {
			t.Skip()
		}
		n := &networks{name: "cidr:x", rules: func() []rule { return rules }}
		if _, found, err := n.Lookup(t.Context(), key); err != nil || found && len(rules) == 0 {
			t.Error(found, err)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	var rules strings.Builder
	for i := range 200 {
		rules.WriteString("10." + string(rune('0'+i%10)) + ".0.0/16 x\n")
	}
	list, _ := parseRules(nil, "x", text.NewLines(strings.NewReader(rules.String()), "x", nil))
	var tab table.Table = &networks{name: "cidr:x", rules: func() []rule { return list }}
	for b.Loop() {
		_, _, _ = tab.Lookup(b.Context(), "192.0.2.1")
	}
}
