package matchlist

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

func opener() (*table.Opener, *maillog.Memory) {
	log := &maillog.Memory{}
	return table.NewOpener(table.Setup{Types: all.Types(), Log: maillog.New(log, "t", 1, nil)}), log
}

func TestHosts(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("# comment\n198.51.100.0/24 !203.0.113.9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ list, yes, no string }{
		{"127.0.0.0/8, [::1]/128", "127.0.0.1 127.9.9.9 ::1 0:0:0:0:0:0:0:1", "128.0.0.1 ::2"},
		{"192.0.2.1 [2001:db8::]/32", "192.0.2.1 2001:db8::5 2001:DB8::5", "192.0.2.2 2001:db9::"},
		{"[2001:db8::1]", "2001:db8::1 2001:0db8::1", "2001:db8::2"},
		{"[192.0.2.1] [192.0.2.8/30]", "192.0.2.1 192.0.2.9", "192.0.2.2"},
		{"!10.1.0.0/16 10.0.0.0/8", "10.2.0.1", "10.1.0.1"},
		{"10.0.0.0/8 !10.1.0.0/16", "10.1.0.1", "11.0.0.1"},
		{"cidr:{{192.0.2.0/24 x}}", "192.0.2.77", "192.0.3.1"},
		{"inline:{192.0.2.1=x}", "192.0.2.1", "192.0.2.2"},
		{file, "198.51.100.1", "203.0.113.9 192.0.2.1"},
		{"!" + file + " 0.0.0.0/0", "203.0.113.9 192.0.2.1", "198.51.100.1"},
		{"0.0.0.0/0", "1.2.3.4", "::1"},
		{"", "", "1.2.3.4"},
		{"host.example", "", "1.2.3.4"},
	} {
		o, log := opener()
		h := NewHosts(o, "mynetworks", c.list, 0)
		for _, ip := range strings.Fields(c.yes) {
			if ok, err := h.MatchIP(t.Context(), ip); !ok || err != nil {
				t.Errorf("%q, %s: %v %v", c.list, ip, ok, err)
			}
		}
		for _, ip := range strings.Fields(c.no) {
			if ok, err := h.MatchIP(t.Context(), ip); ok || err != nil {
				t.Errorf("%q, %s: %v %v", c.list, ip, ok, err)
			}
		}
		if log.String() != "" {
			t.Errorf("%q: %s", c.list, log)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list    string
		parents table.Keys
		yes, no string
	}{
		{"example.com", table.ParentDomains, "example.com a.example.com A.B.EXAMPLE.COM", "badexample.com com"},
		{"example.com", table.DotDomains, "example.com Example.Com", "a.example.com"},
		{".example.com", table.DotDomains, "a.example.com b.a.example.com", "example.com"},
		{"!a.example.com EXAMPLE.com", table.ParentDomains, "b.example.com", "a.example.com c.a.example.com"},
		{"!!example.com", 0, "example.com", ""},
		{"inline:{example.com=x}", table.ParentDomains, "example.com a.example.com", "com"},
		{"inline:{example.com=x, .net=y}", table.DotDomains, "example.com a.net", "a.example.com net"},
		{"regexp:{{/^a.example/ x}}", table.ParentDomains, "a.example", "b.a.example"},
	} {
		o, log := opener()
		d := NewDomains(o, "relay_domains", c.list, c.parents)
		h := NewHosts(o, "mynetworks", c.list, c.parents)
		for _, name := range strings.Fields(c.yes) {
			if ok, err := d.Match(t.Context(), name); !ok || err != nil {
				t.Errorf("%q, %s: %v %v", c.list, name, ok, err)
			}
			if ok, err := h.Match(t.Context(), name, "192.0.2.1"); !ok || err != nil {
				t.Errorf("hosts %q, %s: %v %v", c.list, name, ok, err)
			}
		}
		for _, name := range strings.Fields(c.no) {
			if ok, err := d.Match(t.Context(), name); ok || err != nil {
				t.Errorf("%q, %s: %v %v", c.list, name, ok, err)
			}
		}
		if log.String() != "" {
			t.Errorf("%q: %s", c.list, log)
		}
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	o, _ := opener()
	l := NewStrings(o, "x", "One, !two inline:{three=x}")
	for s, want := range map[string]bool{"one": true, "ONE": true, "two": false, "three": true, "four": false, "a.one": false, "": false} {
		if ok, err := l.Match(t.Context(), s); ok != want || err != nil {
			t.Errorf("%q: %v %v", s, ok, err)
		}
	}
}

// TestErrors: what cannot be evaluated is an error, and the log says why.
func TestErrors(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"10.0.0.1/8":     `t: warning: mynetworks: non-null host address bits in "10.0.0.1/8", perhaps you should use "10.0.0.0/8" instead`,
		"10.0.0.0/33":    `t: warning: mynetworks: bad mask length in "10.0.0.0/33"`,
		"10.0.0/8":       `t: warning: mynetworks: bad network value in "10.0.0/8"`,
		"/no/such/file":  "t: error: open file /no/such/file: No such file or directory",
		"fail:x":         "t: warning: mynetworks: fail:x: table lookup problem",
		"2001:db8::/32":  "t: error: unsupported dictionary type: 2001",
		"hash:/no/such":  "t: warning: mynetworks: hash:/no/such: table lookup problem",
		"!":              "t: warning: mynetworks: !: table lookup problem",
		"192.0.2.1 # no": "t: warning: mynetworks: comment at end of line is not supported: # no",
	} {
		o, log := opener()
		ok, err := NewHosts(o, "mynetworks", list, 0).Match(t.Context(), "h.example", "192.0.2.2")
		if ok || (err == nil) != strings.Contains(list, "#") {
			t.Errorf("%q: %v %v", list, ok, err)
		}
		if !strings.Contains(log.String()+"\n", want+"\n") {
			t.Errorf("%q: log\n%s\nwant\n%s", list, log, want)
		}
	}
}

func TestFileInItself(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
		t.Fatal(err)
	}
	o, _ := opener()
	if ok, err := NewDomains(o, "x", path, 0).Match(t.Context(), "a"); ok || err == nil {
		t.Errorf("%v %v", ok, err)
	}
}

func FuzzHosts(f *testing.F) {
	for _, list := range []string{"10.0.0.0/8 !10.1.0.0/16", "[::1]/128", "[::1", "!!!x", "a.b, .c", "[1.2.3.4/0]", "1.2.3.4/99999999999"} {
		f.Add(list, "a.example", "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, list, name, ip string) {
		o := table.NewOpener(table.Setup{Types: all.Types(), OpenFile: func(string) (*os.File, error) { return nil, os.ErrNotExist }})
		_, _ = NewHosts(o, "x", list, table.ParentDomains).Match(t.Context(), name, ip)
	})
}
