package addr

import (
	"os"
	"strings"
	"testing"
)

// standard is a small version of the standard form that the recorded lists
// were made with.
func standard(a Address) Address {
	if a == "" || a == "@" {
		return ""
	}
	s := string(a)
	if route, rest, ok := strings.Cut(s, ":"); ok && strings.HasPrefix(route, "@") {
		s = rest
	}
	local, domain, has := Address(s).Split()
	if !has {
		domain = "example.com"
		if site, user, ok := strings.Cut(local, "!"); ok && IsDotString(local) {
			local, domain = user, site
		} else if user, site, ok := strings.Cut(local, "%"); ok && IsDotString(local) {
			local, domain = user, site
		}
	}
	if domain != "" && !strings.ContainsAny(domain, ".[") {
		domain += ".example.com"
	}
	return Address(local + "@" + strings.TrimSuffix(domain, "."))
}

func TestListsAsRecorded(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/lists.txt")
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.NewReplacer("~", "\n", "^", "\t")
	input, count := "", 0
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		want, isWant := strings.CutPrefix(line, "    ")
		if !isWant {
			input = plain.Replace(line)
			continue
		}
		count++
		got := input
		list := ParseList(input, 10240)
		for _, m := range list.Mailboxes() {
			if m.Address() != "" {
				m.Set(standard(m.Address()))
			}
		}
		if list.Changed() {
			got = list.String()
		}
		if strings.TrimRight(got, " ") != strings.TrimRight(plain.Replace(want), " ") {
			t.Errorf("%q\n got %q\nwant %q", input, got, want)
		}
	}
	if count < 80 {
		t.Errorf("only %d lists", count)
	}
}

func TestQuoting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ internal, external string }{
		{"a@b", "a@b"},
		{"", ""},
		{"a b@c", `"a b"@c`},
		{`a"b\c@d`, `"a\"b\\c"@d`},
		{"@c", `""@c`},
		{".a@c", `".a"@c`},
		{"a..b@c", `"a..b"@c`},
		{"a@b@c", `"a@b"@c`},
		{"é@ü.example", "é@ü.example"},
		{"plain", "plain"},
	} {
		if got := Address(c.internal).External(); got != c.external {
			t.Errorf("External(%q) = %q, want %q", c.internal, got, c.external)
		}
		if got := Unquote(c.external); string(got) != c.internal {
			t.Errorf("Unquote(%q) = %q, want %q", c.external, got, c.internal)
		}
	}
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ext             Extensions
		local, user, xt string
	}{
		{Extensions{}, "a+b", "a+b", ""},
		{Extensions{Delimiters: "+"}, "a+b+c", "a", "+b+c"},
		{Extensions{Delimiters: "+-"}, "a-b+c", "a", "-b+c"},
		{Extensions{Delimiters: "+"}, "+b", "+b", ""},
		{Extensions{Delimiters: "+"}, "a+", "a+", ""},
		{Extensions{Delimiters: "-"}, "Mailer-Daemon", "Mailer-Daemon", ""},
		{Extensions{Delimiters: "-"}, "owner-list", "owner", "-list"},
		{Extensions{Delimiters: "-", OwnerRequest: true}, "owner-list", "owner-list", ""},
		{Extensions{Delimiters: "-", OwnerRequest: true}, "list-request", "list-request", ""},
		{Extensions{Delimiters: "+", OwnerRequest: true}, "owner+x", "owner", "+x"},
		{Extensions{Delimiters: "-", DoubleBounce: "double-bounce"}, "double-bounce", "double-bounce", ""},
	} {
		user, ext := c.ext.Split(c.local)
		if user != c.user || ext != c.xt {
			t.Errorf("%+v.Split(%q) = %q, %q", c.ext, c.local, user, ext)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a.example", "a_b.example", "1.example", "localhost", "münchen.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"} {
		if !ValidMailhost(good) {
			t.Errorf("%q refused", good)
		}
	}
	long := strings.Repeat("a", 64)
	for _, bad := range []string{"", "a..b", ".a", "a.", "-a.b", "a-", "a b", "1.2.3.4", long + ".example", strings.Repeat("a.", 140) + "a",
		"[1.2.3]", "[2001:db8::1]", "[IPv6:1.2.3.4]", "[", "a@b", "a\x00b"} {
		if ValidMailhost(bad) {
			t.Errorf("%q accepted", bad)
		}
	}
	for in, want := range map[string]string{"münchen.example": "xn--mnchen-3ya.example", "MÜNCHEN.example": "xn--mnchen-3ya.example", "a_b.Example": "a_b.Example"} {
		if got, err := ToASCII(in); err != nil || got != want {
			t.Errorf("ToASCII(%q) = %q, %v", in, got, err)
		}
	}
	if got, err := ToUnicode("xn--mnchen-3ya.example"); err != nil || got != "münchen.example" {
		t.Errorf("ToUnicode = %q, %v", got, err)
	}
	if Fold("StraßE@X") != "strasse@x" {
		t.Errorf("Fold = %q", Fold("StraßE@X"))
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want, rest string }{
		{"<>", "", ""},
		{"<a@b> SIZE=1", "a@b", " SIZE=1"},
		{`<"a>b"@c>`, "a>b@c", ""},
		{"<@x,@y:a@b>", "a@b", ""},
		{"<postmaster>", "postmaster", ""},
		{"<a@[1.2.3.4]>", "a@[1.2.3.4]", ""},
	} {
		a, rest, err := ParsePath(c.in)
		if err != nil || string(a) != c.want || rest != c.rest {
			t.Errorf("ParsePath(%q) = %q, %q, %v", c.in, a, rest, err)
		}
	}
	for _, bad := range []string{"", "a@b", "<a@b", "<a b@c>", "<a@>", "<@a>", "<@a:>", `<"a@b>`, `<"a"b@c>`, "<.a@b>", "<a@b c>", "<<a@b>>"} {
		if a, _, err := ParsePath(bad); err == nil {
			t.Errorf("ParsePath(%q) = %q", bad, a)
		}
	}
}

func FuzzParseList(f *testing.F) {
	data, err := os.ReadFile("testdata/lists.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		f.Add(strings.NewReplacer("~", "\n", "^", "\t").Replace(line))
	}
	f.Add(strings.Repeat(">", 3000) + strings.Repeat("(", 300))
	f.Fuzz(func(t *testing.T, text string) {
		list := ParseList(text, 1000)
		_ = list.String()
		for _, m := range list.Mailboxes() {
			m.Set("user@example.com")
		}
		again := ParseList(list.String(), 100000)
		if a, b := len(list.Mailboxes()), len(again.Mailboxes()); a != b && !strings.ContainsAny(text, "()\\\"[]<>:;\x00") {
			t.Errorf("%q: %d addresses, then %d in %q", text, a, b, list.String())
		}
	})
}

func FuzzUnquote(f *testing.F) {
	for _, s := range []string{`"a b"@c`, `a\`, `"`, `"a@b"@c`, "@", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a := Address(s)
		if got := Unquote(a.External()); got != a && !strings.ContainsAny(a.Domain(), "\"\\") {
			t.Errorf("%q -> %q -> %q", a, a.External(), got)
		}
		if a, _, err := ParsePath(s); err == nil && a != "" {
			if b, _, err := ParsePath("<" + a.External() + ">"); err != nil || a != b {
				t.Errorf("%q: %q then %q, %v", s, a, b, err)
			}
		}
	})
}
