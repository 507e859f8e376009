package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/sys/maillog"
)

// asked is a table that notes what it is asked, and knows some answers.
type asked struct {
	fixed   bool
	answers map[string]string
	keys    *[]string
}

func (a asked) Lookup(_ context.Context, key string) (string, bool, error) {
	*a.keys = append(*a.keys, key)
	if key == "broken" || strings.HasPrefix(key, "broken@") {
		return "", false, errors.New("the table is broken")
	}
	value, found := a.answers[key]
	return value, found, nil
}
func (a asked) Fixed() bool  { return a.fixed }
func (a asked) Name() string { return "asked:x" }
func (a asked) Close() error { return nil }

func testMaps(answers map[string]string, fixed bool) (*Maps, *[]string, *maillog.Memory) {
	keys, log := &[]string{}, &maillog.Memory{}
	return NewMaps("x_maps", maillog.New(log, "t", 1, nil), asked{fixed, answers, keys}), keys, log
}

var local = Search{Keys: AddressKeys, Delimiters: "+-", OwnerRequest: true, DoubleBounce: "double-bounce",
	IsLocal: func(_ context.Context, domain string) (bool, error) {
		if domain == "dns.example" {
			return false, errors.New("cannot tell")
		}
		return domain == "here.example", nil
	}}

func TestSearchOrders(t *testing.T) {
	t.Parallel()
	with := func(keys Keys) Search { s := local; s.Keys = keys; return s }
	for _, c := range []struct {
		what string
		find func(m *Maps) (Match, bool, error)
		want string
	}{
		{"virtual", address("u+e@here.example", local), "u+e@here.example u@here.example u+e u @here.example"},
		{"not local", address("u+e@far.example", local), "u+e@far.example u@far.example @far.example"},
		{"no extension", address("u@far.example", local), "u@far.example @far.example"},
		{"no domain", address("u+e", local), "u+e u"},
		{"reserved", address("MAILER-DAEMON@far.example", local), "MAILER-DAEMON@far.example @far.example"},
		{"owner", address("owner-x@far.example", local), "owner-x@far.example @far.example"},
		{"quoted", address("a b@far.example", local), `"a b"@far.example a b@far.example @far.example`},
		{"mailbox", address("u+e@here.example", with(MailboxKeys)), "u+e@here.example u@here.example @here.example"},
		{"null", address("", local), ""},
		{"transport", func(m *Maps) (Match, bool, error) {
			return m.Transport(context.Background(), "u+e@a.b.example", with(ParentDomains))
		}, "u+e@a.b.example u@a.b.example a.b.example b.example example"},
		{"transport with dots", func(m *Maps) (Match, bool, error) {
			return m.Transport(context.Background(), "u@a.b.example", with(DotDomains))
		}, "u@a.b.example a.b.example .b.example .example"},
		{"access by name", func(m *Maps) (Match, bool, error) {
			return m.AccessDomain(context.Background(), "a.b.example", ParentDomains)
		}, "a.b.example b.example example"},
		{"access by literal", func(m *Maps) (Match, bool, error) {
			return m.AccessDomain(context.Background(), "[192.0.2.1]", ParentDomains)
		}, "[192.0.2.1]"},
		{"access by IPv4", func(m *Maps) (Match, bool, error) {
			return m.AccessHostAddress(context.Background(), "192.0.2.1")
		}, "192.0.2.1 192.0.2 192.0 192"},
		{"access by IPv6", func(m *Maps) (Match, bool, error) {
			return m.AccessHostAddress(context.Background(), "2001:db8::1")
		}, "2001:db8::1 2001:db8: 2001:db8 2001"},
		{"access by address", func(m *Maps) (Match, bool, error) {
			return m.AccessAddress(context.Background(), "u+e@a.b.example", with(DotDomains))
		}, "u+e@a.b.example u@a.b.example a.b.example .b.example .example u+e@ u@"},
	} {
		m, keys, _ := testMaps(nil, true)
		if _, found, err := c.find(m); found || err != nil {
			t.Errorf("%s: %v %v", c.what, found, err)
		}
		if got := strings.Join(*keys, " "); got != c.want {
			t.Errorf("%s: asked\n%s, want\n%s", c.what, got, c.want)
		}
		// A table without fixed keys sees the whole key only.
		m, keys, _ = testMaps(nil, false)
		if _, _, err := c.find(m); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		for _, key := range *keys {
			if first, _, _ := strings.Cut(c.want, " "); c.what != "quoted" && key != first {
				t.Errorf("%s: a pattern table was asked %v", c.what, *keys)
			}
		}
	}
}

func address(a addr.Address, s Search) func(*Maps) (Match, bool, error) {
	return func(m *Maps) (Match, bool, error) { return m.Address(context.Background(), a, s) }
}

// TestMatches has results as a recording of Postfix 3.7.11 with virtual_alias_maps
// shows them: no extension is left over from "@domain".
func TestMatches(t *testing.T) {
	t.Parallel()
	answers := map[string]string{"u@a.example": "v", "@b.example": "x@y", "@c.example": "@d.example",
		"w@c.example": "@d.example", "l": "box", "empty@a.example": ""}
	for a, want := range map[addr.Address]string{
		"u@a.example":      `{v u@a.example } v`,
		"u+e@a.example":    `{v u@a.example +e} v`,
		"u+e@b.example":    `{x@y @b.example } x@y`,
		"u+e@c.example":    `{@d.example @c.example } u+e@d.example`,
		"w+e@c.example":    `{@d.example w@c.example +e} w@d.example`,
		"l+e@here.example": `{box l +e} box`,
	} {
		m, _, _ := testMaps(answers, true)
		match, found, err := m.Address(t.Context(), a, local)
		if got := fmt.Sprint(match, " ", match.Rewrite(a)); got != want || !found || err != nil {
			t.Errorf("%s: %s %v %v, want %s", a, got, found, err, want)
		}
	}
}

func TestSearchErrors(t *testing.T) {
	t.Parallel()
	for _, a := range []addr.Address{"broken@a.example", "broken+e@a.example", "u@dns.example", "broken@", "empty@a.example"} {
		m, _, log := testMaps(map[string]string{"empty@a.example": ""}, true)
		if _, found, err := m.Address(t.Context(), a, local); found || err == nil {
			t.Errorf("%s: %v %v", a, found, err)
		}
		switch {
		case strings.HasPrefix(string(a), "broken") && !strings.Contains(log.String(), "t: warning: the table is broken\nt: warning: asked:x lookup error for \"broken@"):
			t.Errorf("%s: log %s", a, log)
		case a == "empty@a.example" && !strings.Contains(log.String(), "x_maps lookup of empty@a.example returns an empty string result"):
			t.Errorf("%s: log %s", a, log)
		}
	}
}

func TestSplitList(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":                              "[]",
		" hash:/a,  pcre:/b\n\tcidr:/c": "[hash:/a pcre:/b cidr:/c]",
		"inline:{ {a = b}, c=d }, x":    "[inline:{ {a = b}, c=d } x]",
		"{a b":                          "[{a b]",
		"a} b":                          "[a} b]",
	} {
		if got := fmt.Sprint(SplitList(list)); got != want {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}

func FuzzSplitList(f *testing.F) {
	f.Add("hash:/a, inline:{ {k = v} } x}")
	f.Fuzz(func(t *testing.T, list string) {
		for _, item := range SplitList(list) {
			if item == "" || !strings.Contains(list, item) {
				t.Errorf("%q has item %q", list, item)
			}
		}
	})
}

// TestShared: two users of a table have one, and it is closed by the last.
func TestShared(t *testing.T) {
	t.Parallel()
	opened, closed := 0, 0
	o := NewOpener(Setup{Types: []Type{{Name: "count", Open: func(*Opener, string, Use) (Table, error) {
		opened++
		return counted{&closed}, nil
	}}}})
	one, two := o.Open("count:x", FoldedKeys), o.With(nil).Open("count:x", FoldedKeys)
	other := o.Open("count:x", Use{})
	if opened != 2 {
		t.Errorf("opened %d times", opened)
	}
	one.Close()
	one.Close()
	if closed != 0 {
		t.Error("closed under a user's feet")
	}
	two.Close()
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
	other.Close()
	if _, _, err := one.Lookup(t.Context(), "a"); err == nil {
		t.Error("a closed table answers")
	}
}

type counted struct{ closed *int }

func (counted) Lookup(context.Context, string) (string, bool, error) { return "", false, nil }
func (counted) Fixed() bool                                          { return true }
func (counted) Name() string                                         { return "count:x" }
func (c counted) Close() error                                       { *c.closed++; return nil }

// TestFollow: the file is read again when it changes, and not when not.
func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	now, loads := time.Unix(1e9, 0), 0
	o := NewOpener(Setup{Now: func() time.Time { return now }})
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1")
	f, err := Follow(o, path, func(file *os.File) (string, error) {
		defer file.Close()
		loads++
		b := make([]byte, 10)
		n, err := file.Read(b)
		return string(b[:n]), err
	})
	if err != nil || f.Get() != "1" {
		t.Fatal(err)
	}
	for range 5 {
		now = now.Add(2 * time.Second)
		f.Get()
	}
	if loads != 1 {
		t.Errorf("read %d times without a change", loads)
	}
	write("22")
	if f.Get() != "22" {
		now = now.Add(2 * time.Second)
	}
	if got := f.Get(); got != "22" {
		t.Errorf("after the change: %q", got)
	}
	os.Remove(path)
	now = now.Add(2 * time.Second)
	if got := f.Get(); got != "22" {
		t.Errorf("after the file is gone: %q", got)
	}
}

func TestFollowRemovable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	now, log := time.Unix(1e9, 0), &maillog.Memory{}
	o := NewOpener(Setup{Now: func() time.Time { return now }, Log: maillog.New(log, "t", 1, nil)})
	write := func() {
		if err := os.WriteFile(path, []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	f, err := Follow(o, path, func(file *os.File) (string, error) { return "value", file.Close() })
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("it is gone")
	f.Removable(func(error) error { return gone })
	check := func(want error) {
		t.Helper()
		now = now.Add(2 * time.Second)
		if v, err := f.Value(); v != "value" || !errors.Is(err, want) {
			t.Errorf("%q, %v; want %v", v, err, want)
		}
	}
	check(nil)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check(gone)
	check(gone)
	write()
	check(nil)
	if log.String() != "t: error: it is gone" {
		t.Errorf("log: %s", log)
	}
}
