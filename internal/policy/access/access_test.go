package access

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want Action
	}{
		{"", Action{}},
		{"OK", Action{Kind: Permit, Word: "OK"}},
		{"ok and more", Action{Kind: Permit, Word: "ok", Text: "and more"}},
		{"1234567", Action{Kind: Permit, Word: "1234567"}},
		{"550", Action{Kind: Permit, Word: "550"}},
		{"550 \t5.7.1 go away", Action{Kind: Code, Word: "550", Code: 550, Text: "5.7.1 go away"}},
		{"421 bye", Action{Kind: Code, Word: "421", Code: 421, Text: "bye"}},
		{"350 hello", Action{Kind: Restrictions, Word: "350", Text: "350 hello"}},
		{"4500 hello", Action{Kind: Restrictions, Word: "4500", Text: "4500 hello"}},
		{"5x0 hello", Action{Kind: Restrictions, Word: "5x0", Text: "5x0 hello"}},
		{"reject", Action{Kind: Reject, Word: "reject"}},
		{"DUNNO. x", Action{Kind: Restrictions, Word: "DUNNO.", Text: "DUNNO. x"}},
		{"defer_if_permit later", Action{Kind: DeferIfPermit, Word: "defer_if_permit", Text: "later"}},
		{"permit_mynetworks, reject", Action{Kind: Restrictions, Word: "permit_mynetworks,", Text: "permit_mynetworks, reject"}},
		{"PREPEND X: y", Action{Kind: Prepend, Word: "PREPEND", Text: "X: y"}},
	} {
		if got := Parse(c.in); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.in, got, c.want)
		}
	}
}

func TestIsHeader(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"X: y": true, "X :y": true, "X:": true, "": false, ": y": false, "a b: c": false,
		"foo": false, "Ä: x": false, "X\r\n: y": false} {
		if IsHeader(text) != want {
			t.Errorf("%q: not %v", text, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "OK", "550 5.7.2", "REJECT", "4\x00", "HOLD \n", "\tOK"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a := Parse(s)
		if a.Kind == Code && (a.Code < 400 || a.Code > 599 || a.Text == "") {
			t.Errorf("%q: %+v", s, a)
		}
		if !strings.HasSuffix(s, a.Text) {
			t.Errorf("%q: text %q", s, a.Text)
		}
	})
}
