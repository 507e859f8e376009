package mastercf_test

import (
	"fmt"
	"strings"
	"testing"

	"posthaste/internal/config/maincf"
	"posthaste/internal/config/mastercf"
)

func TestParseService(t *testing.T) {
	t.Parallel()
	s, err := mastercf.ParseService("[::1]:587 inet n - y 60? 7 /usr/lib/smtpd -v -o a=b -o { c = d e } -oe=f -vog=h -o bad one {two three} -o x=y")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Options); got != "[{a b 0} {c d e 0} {e f 0} {g h 0}]" {
		t.Errorf("options: %s", got)
	}
	if got := strings.Join(s.Operands(), "|"); got != "one|two three|-o|x=y" {
		t.Errorf("operands: %s", got)
	}
	if got := s.BadOption(); got != `invalid "-o bad" option value: missing '=' after attribute name` {
		t.Errorf("got %s", got)
	}
	if seconds, used := s.WakeupSeconds(); seconds != 60 || !used {
		t.Errorf("wakeup %d, %v", seconds, used)
	}
	if s.Program() != "smtpd" || s.ProcessLimit(100) != 7 || s.IsPrivate() || !s.RunsUnprivileged() || !s.WantsChroot(func() bool { return false }) {
		t.Errorf("got %+v", s)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a inet n n n - -": "file master.cf: line 3: bad field count",
		"spf unix - n n -- spawn user=nobody argv=/x": `invalid wakeup field "--" in "spf unix - n n -- spawn user=nobody argv=/x"`,
		"a inet n n n -? +1 x":                        `invalid process_limit field "+1" in "a inet n n n -? +1 x"`,
		"a foo n n n - 1 x":                           `invalid type field "foo" in "a foo n n n - 1 x"`,
		"a unix q n n - 1 x":                          `invalid private field "q" in "a unix q n n - 1 x"`,
		"a unix n q n - 1 x":                          `invalid unprivileged field "q" in "a unix n q n - 1 x"`,
		"a unix n n q - 1 x":                          `invalid chroot field "q" in "a unix n n q - 1 x"`,
	} {
		_, err := mastercf.Read(strings.NewReader("ok unix - - - - - y\n# comment\n"+text+"\n"), "master.cf")
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
		if bad, ok := err.(*mastercf.Error); !ok || bad.Line != 3 || !strings.HasPrefix(bad.At(), "master.cf, line 3: ") {
			t.Errorf("%s: got %#v", text, err)
		}
	}
	f, err := mastercf.Read(strings.NewReader("a unix - - - - - x {a b}c {d\n"), "master.cf")
	if err != nil || strings.Join(f.Warnings, "\n") != `master.cf: syntax error after '}' in "{a b}c"`+"\n"+`master.cf: missing '}' in "{d"` {
		t.Errorf("got %v, %q", err, f.Warnings)
	}
}

func TestFormatFolds(t *testing.T) {
	t.Parallel()
	s, err := mastercf.ParseService("submission inet n - n - - smtpd -v -o " + strings.Repeat("a", 40) + "=b -o c=d one two " + strings.Repeat("z", 70))
	if err != nil {
		t.Fatal(err)
	}
	want := "submission inet  n       -       n       -       -       smtpd -v\n" +
		"    -o " + strings.Repeat("a", 40) + "=b\n    -o c=d\n    one two\n    " + strings.Repeat("z", 70) + "\n"
	if got := s.Format(mastercf.Folded, nil); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestEditKeepsTheRest(t *testing.T) {
	t.Parallel()
	const before = "# head\nsmtp inet n - n - - smtpd\n  # between\n  -o a=b\n\nother unix - - - - - x\n  y"
	edit, err := mastercf.ParseEdit(mastercf.Parameters, maincf.Set, []string{"smtp/inet/a=c", "smtp/inet/n=1", "none/inet/q=1"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := edit.Apply([]byte(before), "master.cf")
	want := "# head\n  # between\n\nsmtp       inet  n       -       n       -       -       smtpd\n    -o a=c\n    -o n=1\nother unix - - - - - x\n  y\n"
	if err != nil || string(got) != want {
		t.Errorf("%v, got\n%s", err, got)
	}
	if strings.Join(edit.Warnings, "") != `unmatched service_name/type: "none/inet/q=1"` {
		t.Errorf("got %q", edit.Warnings)
	}
}

func FuzzParseService(f *testing.F) {
	for _, seed := range []string{"smtp inet n - n - - smtpd -o a=b", "a unix - - - 60? 1 x { a b } {", "[::1]:25 inet - - - - 0 y -vo { c = d e } -- z", "a b c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := mastercf.ParseService(text)
		if err != nil {
			return
		}
		if strings.ContainsAny(text, "{}\x00") {
			return // words may have unbalanced braces: the text is kept, not its form
		}
		for _, layout := range []mastercf.Layout{mastercf.OneLine, mastercf.Folded} {
			shown := s.Format(layout, nil)
			again, err := mastercf.ParseService(shown)
			if err != nil {
				t.Fatalf("%q: %v", shown, err)
			}
			if fmt.Sprint(again.Args, again.Options, again.Key()) != fmt.Sprint(s.Args, s.Options, s.Key()) {
				t.Errorf("%q became %q, shown as %q", s.Args, again.Args, shown)
			}
		}
	})
}

func FuzzEdit(f *testing.F) {
	f.Add("a unix - - - - - x\n -o b=c\n# d\n", "a/unix/b=q")
	f.Add("a unix - - - - - x", "*/unix/z=1")
	f.Fuzz(func(t *testing.T, text, request string) {
		before, err := mastercf.Read(strings.NewReader(text), "master.cf")
		if err != nil {
			return
		}
		edit, err := mastercf.ParseEdit(mastercf.Parameters, maincf.Set, []string{request})
		if err != nil {
			return
		}
		changed, err := edit.Apply([]byte(text), "master.cf")
		if err != nil {
			return
		}
		after, err := mastercf.Read(strings.NewReader(string(changed)), "master.cf")
		if err != nil {
			t.Fatalf("edit broke the file: %v\n%s", err, changed)
		}
		if len(before.Services) != len(after.Services) {
			t.Errorf("%d entries became %d:\n%s", len(before.Services), len(after.Services), changed)
		}
	})
}
