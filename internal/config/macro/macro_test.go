package macro_test

import (
	"errors"
	"strings"
	"testing"

	"posthaste/internal/config/macro"
)

var values = map[string]string{
	"mail_name": "Postfix", "empty": "", "a": "x${b}", "b": "$mail_name", "loop": "$loop", "dollar": "$$",
	"level": "3.6", "evil": "rm -rf /;`x`", "wide": strings.Repeat("$b", 100),
}

func lookup(name string) (string, bool, error) {
	value, ok := values[name]
	return value, ok, nil
}

// TestExpand has the answers and errors of Postfix's postconf -x.
func TestExpand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want, err string }{
		{"plain", "plain", ""},
		{"$mail_name", "Postfix", ""},
		{"$(mail_name)x", "Postfixx", ""},
		{"${mail_name}x$mail_name-", "PostfixxPostfix-", ""},
		{"${ mail_name }", "Postfix", ""},
		{"$a", "xPostfix", ""},
		{"$$x$$", "$x$", ""},
		{"${dollar}", "$", ""},
		{"$none", "", ""},
		{"${none?b}${none:c}", "c", ""},
		{"${empty?b}${empty:c}", "c", ""},
		{"${mail_name?b:c}", "b:c", ""},
		{"${mail_name?{a}:{b}}${none?{a}:{b}}", "ab", ""},
		{"${mail_name? {a}  :{b} }", "a", ""},
		{"${mail_name?{a}:b}", "a", ""},
		{"[${none?{ b }:{ c }}]", "[ c ]", ""},
		{"[${none:  b  }]", "[  b  ]", ""},
		{"[${none:  {b}  }]", "[b]", ""},
		{"${{ a } == {a}?{y}:{n}}", "n", ""},
		{"${:x}${?y}", "x", ""},
		{"${none?{a}:$mail_name}", "Postfix", ""},
		{"$(mail_name?{a})", "a", ""},
		{"${{a} == {a}}", "true", ""},
		{"${{a} == {b}}", "", ""},
		{"${ {a} == {a} ?{x}}", "x", ""},
		{"${{$mail_name} == {Postfix} ? {y} : {n}}", "y", ""},
		{"${{10} > {9} ?{a}:{b}}", "a", ""},
		{"${{10} > {9x} ?{a}:{b}}", "b", ""},
		{"${{01}=={1}}", "true", ""},
		{"${{1}  <=  {2}}", "true", ""},
		{"${{b} != {a}}${{b} >= {a}}${{b} < {a}}", "truetrue", ""},
		{"${{1} == {1}:{z}}", "", ""},
		{"${{1} == {2} ?x y}", "", ""},
		{"${{$level} <level {3.11} ? {old} : {new}}", "old", ""},
		{"${{$level} >=level {3.5} ? {new} : {old}}", "new", ""},
		{"${{ 3} ==level {3.0.0} ? {same}}", "same", ""},
		{"${", "", `truncated macro reference: "${"`},
		{"${{a} == {b}", "", `truncated macro reference: "${{a} == {b}"`},
		{"$", "", `empty macro name: "$"`},
		{"a $", "", `empty macro name: "a $"`},
		{"${}", "", `empty macro name: "${}"`},
		{"$-", "", `empty macro name: "$-"`},
		{"${a b}", "", `attribute name syntax error at: "...a>>> b"`},
		{"x${-}", "", `attribute name syntax error at: "...>>>-"`},
		{"${{a} = {b}?{c}}", "", `"==" or "!="" or "<"" or "<="" or ">="" or ">" expected at: "...a}>>>= {b}?{c}"`},
		{"${{a}}", "", `"==" or "!="" or "<"" or "<="" or ">="" or ">" expected at: "...a}>>>"`},
		{"${{a}==b}", "", `bad operator suffix at: "...==>>>b"`},
		{"${{1} == {2} x}", "", `"?" or ":" expected at: "...}>>>x"`},
		{"${{1} == x}", "", `"{expression}" expected at: "...{1} ==>>> x"`},
		{"${{1} ==}", "", `"{expression}" expected at: "...{1} ==>>>"`},
		{"${mail_name?{a} : {b} c}", "", `unexpected input at: "...b}>>>c"`},
		{"${x?{a}z}", "", `":" expected at: "...a}>>>z"`},
		{"${x?{a}:{b}z}", "", `unexpected input at: "...b}>>>z"`},
		{"${x:{b}z}", "", `unexpected input at: "...b}>>>z"`},
		{"${{1} <level {x}?{a}}", "", `malformed compatibility level syntax: "x"`},
		{"${{3.2000} <level {1}?{a}}", "", `malformed compatibility level syntax: "3.2000"`},
		{"${{} <level {1}?{a}}", "", `malformed compatibility level syntax: ""`},
		{"$loop", "", `unreasonable macro call nesting: "loop"`},
	} {
		x := &macro.Expander{Lookup: lookup, Recurse: true}
		got, err := x.Expand(test.text)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != test.want || said != test.err {
			t.Errorf("%s: got %q, %s, want %q, %s", test.text, got, said, test.want, test.err)
		}
	}
}

func TestExpandFlat(t *testing.T) {
	t.Parallel()
	x := &macro.Expander{Lookup: lookup, Strict: true, Filter: macro.NewByteSet("rm -fx$b{}")}
	if got, err := x.Expand("do $a $evil;"); err != nil || got != "do x${b} rm -rf ___x_;" {
		t.Errorf("got %q, %v", got, err)
	}
	var undefined *macro.UndefinedError
	if _, err := x.Expand("$none"); !errors.As(err, &undefined) || undefined.Name != "none" {
		t.Errorf("got %v", err)
	}
	if got, err := x.Expand("${none?x}"); err != nil || got != "" {
		t.Errorf("test of an undefined name: got %q, %v", got, err)
	}
	x.Lookup = func(string) (string, bool, error) { return "", false, errors.New("broken") }
	if _, err := x.Expand("$a"); err == nil || err.Error() != "broken" {
		t.Errorf("lookup error: got %v", err)
	}
}

func TestExpandBounded(t *testing.T) {
	t.Parallel()
	// Each level has ten references to the next.
	x := &macro.Expander{Recurse: true, Lookup: func(name string) (string, bool, error) {
		return strings.Repeat("$"+name+"a", 10), true, nil
	}}
	if _, err := x.Expand("$a"); err == nil {
		t.Error("unbounded expansion")
	}
	big := &macro.Expander{Lookup: func(string) (string, bool, error) { return strings.Repeat("x", 1<<20), true, nil }}
	if _, err := big.Expand(strings.Repeat("$a", 100)); err == nil {
		t.Error("unbounded result")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	var names []string
	err := macro.Names("$a ${b?{$c}:{${d}}} ${{$e} == {$f} ? {$g}} ${h:$i} $$j ${fun{$k}}", func(name string) { names = append(names, name) })
	if got := strings.Join(names, ""); err != nil || got != "abcdefghik" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	ordered := []string{"0", "1", "2", "3.0.1", "3.6", "3.11", "3.11.1", "10"}
	for i, a := range ordered {
		for j, b := range ordered {
			l, err1 := macro.ParseLevel(a)
			m, err2 := macro.ParseLevel(b)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if sign := l.Compare(m); sign < 0 != (i < j) || sign == 0 != (i == j) {
				t.Errorf("%s and %s: %d", a, b, sign)
			}
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"$a", "${a?{b}:{c}}", "${{$level} <level {3.6} ? {x} : {y}}", "$$", "${${a}}", "$(a)", "${loop}", "${fun{x}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x := &macro.Expander{Lookup: lookup, Recurse: true}
		got, err := x.Expand(text)
		if !strings.Contains(text, "$") && (err != nil || got != text) {
			t.Errorf("%q became %q, %v", text, got, err)
		}
		x.Filter = macro.NewByteSet("")
		filtered, err2 := x.Expand(text)
		if (err == nil) != (err2 == nil) {
			t.Errorf("%q: error depends on the filter: %v, %v", text, err, err2)
		}
		if err == nil && len(got) != len(filtered) && !strings.Contains(text, "?") && !strings.Contains(text, ":") {
			t.Errorf("%q: filter changed the length: %q, %q", text, got, filtered)
		}
		var syntax *macro.SyntaxError
		if err := macro.Names(text, func(string) {}); err != nil && !errors.As(err, &syntax) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
