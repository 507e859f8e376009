package dnsbl

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"posthaste/internal/sys/dns"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, ip string
		want     bool
	}{
		{"x", "10.1.2.3", true},
		{"x=127.0.0.2", "127.0.0.2", true},
		{"x=127.0.0.2", "127.0.0.3", false},
		{"x=127.0.0.[3;5..7]", "127.0.0.3", true},
		{"x=127.0.0.[3;5..7]", "127.0.0.4", false},
		{"x=127.0.0.[3;5..7]", "127.0.0.7", true},
		{"x=[127].[0..255].0.1", "127.9.0.1", true},
		{"x=127.0.0.2", "::1", false},
	} {
		l, err := Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.filter.matches(netip.MustParseAddr(c.ip)); got != c.want || l.Domain != "x" {
			t.Errorf("%s %s: %v", c.text, c.ip, got)
		}
	}
	for _, bad := range []string{"", "=127.0.0.1", "x=", "x=127.0.0", "x=127.0.0.1.2", "x=127.0.0.256", "x=127.0.0.[1", "x=127.0.0.[1;2..3].x",
		"x=127.0.0.[3..1]", "x=127.0.0.[]", "x=127.0.0.[1;]", "x=127.0.0.-1", "x=[1]2.0.0.1"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestReverse(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]string{
		"192.0.2.7": "7.2.0.192", "::ffff:192.0.2.7": "7.2.0.192",
		"2001:db8:2::1": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.8.b.d.0.1.0.0.2",
	} {
		if got := Reverse(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %s", ip, got)
		}
	}
}

// zone answers A and TXT.
type zone struct {
	dns.Resolver
	a    map[string][]netip.Addr
	txt  map[string][]string
	aErr error
	tErr error
}

func (z zone) A(_ context.Context, name string) ([]netip.Addr, dns.Answer, error) {
	if z.aErr != nil {
		return nil, dns.Answer{}, z.aErr
	}
	if z.a[name] == nil {
		return nil, dns.Answer{}, dns.ErrNoHost
	}
	return z.a[name], dns.Answer{}, nil
}

func (z zone) TXT(_ context.Context, name string) ([]string, dns.Answer, error) {
	if z.tErr != nil {
		return nil, dns.Answer{}, z.tErr
	}
	if z.txt[name] == nil {
		return nil, dns.Answer{}, dns.ErrNoData
	}
	return z.txt[name], dns.Answer{}, nil
}

func TestLookup(t *testing.T) {
	t.Parallel()
	z := zone{a: map[string][]netip.Addr{"a.bl": {netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.2")}},
		txt: map[string][]string{"a.bl": {"spam", "more"}}}
	l, _ := Parse("bl=127.0.0.2")
	ctx := context.Background()
	if r := l.Lookup(ctx, z, "a"); r != (Result{Listed: true, Text: "spam"}) {
		t.Errorf("%+v", r)
	}
	if r := l.Lookup(ctx, z, "b"); r != (Result{}) {
		t.Errorf("%+v", r)
	}
	trouble := errors.New("SERVFAIL")
	z.tErr = trouble
	if r := l.Lookup(ctx, z, "a"); r != (Result{Listed: true, TextTrouble: trouble}) {
		t.Errorf("%+v", r)
	}
	z.aErr = trouble
	if r := l.Lookup(ctx, z, "a"); r != (Result{Trouble: trouble}) {
		t.Errorf("%+v", r)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"x=127.0.0.[1;2..3]", "x=[[].1.1.1", "=", "x=....", "x=[].[].[].[]"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		if l, err := Parse(s); err == nil {
			l.filter.matches(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		}
	})
}
