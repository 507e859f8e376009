package pattern

import (
	"strings"
	"testing"

	"posthaste/internal/table/text"
)

func load(k kind, source string) *patterns {
	p := parser{kind: k, name: "x"}
	rules, _ := p.parse(text.NewLines(strings.NewReader(source), "x", nil))
	return &patterns{kind: k.name, name: "x", rules: func() []rule { return rules }}
}

var (
	regexpKind = kind{"regexp", posixFlags, "skipping"}
	pcreKind   = kind{"pcre", perlFlags, "ignoring"}
)

// FuzzPatterns: no pattern and no subject panics, and what is compiled for the
// linear engine agrees with the backtracking one.
func FuzzPatterns(f *testing.F) {
	for _, s := range []string{`^(.*)@(\w+)$`, `[^]a-c[:alpha:]]+\Q.*\E`, `(?i:a)(?<n>b)\k<n>`, `a{2,3}?(?=x)`, `(?x) a # b`,
		`\p{Lu}\x{41}\101[\d-]`, `(|a)*b++`, `\<a\>`, `a\{1\}`, `[[.-.]-/]`, `(a(b(c))\2)`, `$^`, `\Z`, `(?-s).`} {
		f.Add(s, "user@Example.com")
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern) > 60 || len(key) > 60 {
			return
		}
		s := newSubject(key)
		for _, k := range []kind{regexpKind, pcreKind} {
			p, err := k.flags(pattern, "", func(string) {})
			if err != nil || p.fast == nil {
				continue
			}
			_, fast, err := p.match(s, allGroups)
			if err != nil {
				continue
			}
			if _, slow, err := p.matchSlow(s); err == nil && fast != slow {
				t.Errorf("%s %q on %q: %v, and %v", k.name, pattern, key, fast, slow)
			}
		}
	})
}

func FuzzRules(f *testing.F) {
	f.Add("if /a/\n!/b/i x$1\n/(c)/ ${1}$$\nendif", "abc")
	f.Add("/a/!/b/ x\nendif", "a")
	f.Fuzz(func(t *testing.T, source, key string) {
		if len(source) > 200 || len(key) > 60 {
			return
		}
		for _, k := range []kind{regexpKind, pcreKind} {
			_, _, _ = load(k, source).Lookup(t.Context(), key)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	rules := strings.Repeat("/^Subject: .*(viagra|cialis).*free/ REJECT $1\n/^X-Spam-Level: \\*{5}/ REJECT\n", 50)
	for _, k := range []kind{regexpKind, pcreKind} {
		b.Run(k.name, func(b *testing.B) {
			p := load(k, rules)
			for b.Loop() {
				_, _, _ = p.Lookup(b.Context(), "Subject: a perfectly ordinary subject of some length")
			}
		})
	}
}
