package all

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/indexed"
	"posthaste/internal/table/tabletest"
)

// opener has all types and a log.
func opener(t *testing.T) (*table.Opener, *maillog.Memory) {
	t.Helper()
	log := &maillog.Memory{}
	return table.NewOpener(table.Setup{Types: Types(), Log: maillog.New(log, "t", 1, nil), UTF8: true,
		ProxyAllowed: func(spec string) bool { return spec == "inline:{a=b}" },
		Getenv:       func(name string) string { return map[string]string{"a": "b"}[name] },
	}), log
}

// TestConformance runs the suite on every type.
func TestConformance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("t", "a b\nC d\n")
	for _, kind := range indexed.Kinds() {
		u, err := indexed.Create(kind, filepath.Join(dir, kind), indexed.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		u.Put("a", "b")
		u.Put("c", "d")
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	pairs := map[string]string{"a": "b", "A": "b", "c": "d", "C": "d"}
	none := []string{"", "b", "aa", "é", "\xff"}
	for _, c := range []struct {
		spec    string
		pattern bool
		found   map[string]string
		missing []string
	}{
		{"hash:" + dir + "/hash", false, pairs, none},
		{"btree:" + dir + "/btree", false, pairs, none},
		{"cdb:" + dir + "/cdb", false, pairs, none},
		{"lmdb:" + dir + "/lmdb", false, pairs, none},
		{"texthash:" + dir + "/t", false, pairs, none},
		{"inline:{a=b, {C = d}}", false, pairs, none},
		{"static:{b c}", false, map[string]string{"": "b c", "x": "b c"}, nil},
		{"environ:x", false, map[string]string{"a": "b"}, none},
		{"internal:x", false, nil, none},
		{"regexp:{{/^(A)$/ <$1>}}", true, map[string]string{"a": "<a>", "A": "<A>"}, none},
		{"pcre:{{/^(A)$/ <$1>}}", true, map[string]string{"a": "<a>", "A": "<A>"}, none},
		{"cidr:{{10.0.0.0/8 ten}}", true, map[string]string{"10.1.2.3": "ten"}, []string{"11.0.0.1", "::1", "a"}},
		{"randmap:{one}", true, map[string]string{"a": "one"}, nil},
		{"unionmap:{inline:{a=b}, inline:{a=c, d=e}}", false, map[string]string{"a": "b,c", "D": "e"}, none},
		{"unionmap:{inline:{a=b}, regexp:{{/a/ r}}}", true, map[string]string{"a": "b,r"}, []string{"b"}},
		{"pipemap:{inline:{a=b, c=x}, inline:{b=z}}", false, map[string]string{"a": "z"}, []string{"b", "c"}},
		{"proxy:inline:{a=b}", false, map[string]string{"A": "b"}, none},
		{"debug:inline:{a=b}", false, map[string]string{"A": "b"}, none},
		{"unix:passwd.byname", false, nil, []string{"no such user", ""}},
		{"unix:group.byname", false, nil, []string{"no such group", ""}},
	} {
		t.Run(c.spec, func(t *testing.T) {
			t.Parallel()
			o, _ := opener(t)
			tabletest.Run(t, tabletest.Case{Table: o.Open(c.spec, table.FoldedKeys), Name: c.spec,
				Fixed: !c.pattern, Found: c.found, Missing: c.missing})
		})
	}
}

// TestFail: fail: has nothing to find, and logs no reason.
func TestFail(t *testing.T) {
	t.Parallel()
	o, log := opener(t)
	maps := o.Maps("x_maps", "inline:{a=b} fail:oops", table.FoldedKeys)
	if value, found, err := maps.Lookup(t.Context(), "a"); value != "b" || !found || err != nil {
		t.Errorf("the table before: %q %v %v", value, found, err)
	}
	if _, found, err := maps.Lookup(t.Context(), "c"); found || !errors.Is(err, table.ErrApplication) {
		t.Errorf("fail: says %v, %v", found, err)
	}
	if want := `t: warning: fail:oops lookup error for "c"`; log.String() != want {
		t.Errorf("log %q, want %q", log, want)
	}
}

// TestOpenTexts has the reasons of Postfix 3.7.11 for tables that cannot be opened.
func TestOpenTexts(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"inline:{}":           `bad syntax: "inline:{}"; need "inline:{name=value...}"`,
		"inline:{a}":          `missing '=' after attribute name: "inline:{a}"; need "inline:{name=value...}"`,
		"inline:{{a=b}":       `bad syntax: "inline:{{a=b}"; need "inline:{name=value...}"`,
		"static:{":            `bad static:name syntax: missing '}' in "{"`,
		"static:{a}b":         `bad static:name syntax: syntax error after '}' in "{a}b"`,
		"unionmap:{a}":        `bad syntax: "unionmap:{a}"; need "unionmap:{type:name...}"`,
		"unionmap:{nosuch:x}": `unsupported dictionary type: nosuch`,
		"randmap:x":           `bad syntax: "randmap:x"; need "randmap:{value...}"`,
		"unix:foo":            `unknown table: unix:foo`,
		"texthash:/no/such":   `open database /no/such: No such file or directory`,
		"texthash:/etc":       `read /etc: Is a directory`,
		"regexp:/no/such":     `open /no/such: No such file or directory`,
		"regexp:{/a/ x}":      `regexp map: no '{' at start of text in "/a/"`,
		"cidr:/no/such":       `open /no/such: No such file or directory`,
		":a":                  `open dictionary: expecting "type:name" form instead of ":a"`,
		"a:":                  `open dictionary: expecting "type:name" form instead of "a:"`,
		"proxy:static:x":      `proxymap service is not configured for table "static:x"`,
	} {
		o, log := opener(t)
		tab := o.Open(spec, table.FoldedKeys)
		if err := table.Reason(tab); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
		if !strings.Contains(log.String(), "t: error: "+want) {
			t.Errorf("%s: log %q", spec, log)
		}
	}
}

func TestUse(t *testing.T) {
	t.Parallel()
	o, log := opener(t)
	if _, found, err := o.Open("inline:{A=b}", table.Use{}).Lookup(t.Context(), "a"); found || err != nil {
		t.Errorf("unfolded: %v %v", found, err)
	}
	if _, found, _ := o.Open("regexp:{{/(a)/ |$1}}", table.Use{NoSubstitution: true}).Lookup(t.Context(), "a"); found {
		t.Error("a rule with $1 was used where it must not be")
	}
	if want := "regular expression substitution is not allowed: skipping this rule"; !strings.Contains(log.String(), want) {
		t.Errorf("log %q", log)
	}
	if table.Reason(o.Open("proxy:inline:{a=b}", table.Use{NoProxy: true})) == nil {
		t.Error("proxy: was opened where it must not be")
	}
	value, _, err := o.Open("inline:{a=aGVsbG8=}", table.Use{}).Lookup(t.Context(), "a")
	if value != "aGVsbG8=" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
	if _, _, err := o.Open("hash:../indexed/testdata/debian-hash", table.Use{FileValues: true}).Lookup(t.Context(), "key1@example.com"); err == nil ||
		err.Error() != "table hash:../indexed/testdata/debian-hash.db: key key1@example.com: malformed BASE64 value: value 1 x" {
		t.Errorf("not base64: %v", err)
	}
}

// TestLimit: a pattern that backtracks without end is an error of the lookup.
func TestLimit(t *testing.T) {
	t.Parallel()
	o, _ := opener(t)
	tab := o.Open(`pcre:{{/^(a+)+\1$/ x}, {/./ y}}`, table.FoldedKeys)
	_, found, err := tab.Lookup(t.Context(), strings.Repeat("a", 60)+"b")
	if found || err == nil || !strings.Contains(err.Error(), "line 1: match limit exceeded") {
		t.Errorf("%v, %v", found, err)
	}
}

// TestUnsupported: a pattern that nothing here can do stops lookups, rather
// than let mail pass.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{`(?R)?a`, `a\Kb`, `(?|(a)|(b))`, `(*COMMIT)a`, `\Ga`, `(?&x)(?<x>a)`} {
		o, log := opener(t)
		tab := o.Open("pcre:{{/^first/ OK}, {~"+pattern+"~ REJECT}}", table.FoldedKeys)
		if value, _, err := tab.Lookup(t.Context(), "first"); value != "OK" || err != nil {
			t.Errorf("%s: the rule before: %q, %v", pattern, value, err)
		}
		if _, found, err := tab.Lookup(t.Context(), "a"); found || err == nil {
			t.Errorf("%s: %v, %v", pattern, found, err)
		}
		if !strings.Contains(log.String(), "line 2: unsupported in patterns") {
			t.Errorf("%s: log %q", pattern, log)
		}
	}
}
