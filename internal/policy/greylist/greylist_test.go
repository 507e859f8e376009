package greylist_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/policy/greylist"
	"posthaste/internal/policy/greylist/greylisttest"
	"posthaste/internal/sys/maillog"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	greylisttest.Run(t, func(*testing.T) greylist.Store { return greylist.NewMemory() })
}

func openBolt(t testing.TB, path string) *greylist.Bolt {
	t.Helper()
	b, err := greylist.OpenBolt(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBolt(t *testing.T) {
	t.Parallel()
	greylisttest.Run(t, func(t *testing.T) greylist.Store {
		b := openBolt(t, filepath.Join(t.TempDir(), "greylist.db"))
		t.Cleanup(func() { b.Close() })
		return b
	})
}

// fixture is a greylist with a clock and a log.
type fixture struct {
	*greylist.Greylist
	clock
	log   maillog.Memory
	store greylist.Store
}

func newFixture(set greylist.Settings, deps greylist.Deps) *fixture {
	f := &fixture{clock: clock{newYear}}
	if deps.Store == nil {
		deps.Store = greylist.NewMemory()
	}
	deps.Now, deps.Log = f.Now, maillog.New(&f.log, "postgrey", 1, f.Now)
	f.store, f.Greylist = deps.Store, greylist.New(set, deps)
	return f
}

// ask asks about one more message, and says how it was decided.
func (f *fixture) ask(name, address, sender string) string {
	d := f.Check(context.Background(), greylist.Request{ClientName: name, ClientAddress: address, Sender: sender,
		Recipient: "r@example.com", Helo: name, Instance: f.now.String() + address + sender})
	if d.Pass != !strings.HasPrefix(d.Action, "DEFER") {
		return "inconsistent: " + d.Action
	}
	return d.Reason
}

// spf authorises the addresses of a map for its domains.
type spf map[string]string

func (s spf) Authorized(_ context.Context, ip netip.Addr, sender, _ string) (string, greylist.SPFResult) {
	_, domain, _ := strings.Cut(sender, "@")
	prefix, ok := s[domain]
	switch {
	case !ok:
		return domain, greylist.SPFNone
	case prefix == "?":
		return domain, greylist.SPFUnknown
	case netip.MustParsePrefix(prefix).Contains(ip):
		return domain, greylist.SPFPass
	}
	return domain, greylist.SPFFail
}

// TestProviders: a message that comes again from another address of the same
// provider is recognised, one from anybody else is not.
func TestProviders(t *testing.T) {
	t.Parallel()
	const early, found = "early-retry (290s missing)", "triplet found"
	for _, c := range []struct {
		what, providers           string
		name1, addr1, name2, addr string
		soon, later               string
	}{
		{"off", "", "a.big.example", "192.0.2.1", "b.big.example", "198.51.100.9", "new", "new"},
		{"SPF", "spf", "unknown", "192.0.2.1", "unknown", "192.0.200.9", early, found},
		{"SPF, an address that is not in it", "spf", "unknown", "192.0.2.1", "unknown", "198.51.100.9", "new", "new"},
		{"PTR", "ptr", "a.big.example", "192.0.2.1", "b.big.example", "198.51.100.9", early, found},
		{"PTR, another domain", "ptr", "a.big.example", "192.0.2.1", "b.other.example", "198.51.100.9", "new", "new"},
		{"PTR, a name made of the address", "ptr", "h-192-0-2-1.dsl.big.example", "192.0.2.1", "h-198-51-100-9.dsl.big.example", "198.51.100.9", "new", "new"},
		{"PTR, not verified", "ptr", "unknown", "192.0.2.1", "unknown", "198.51.100.9", "new", "new"},
		{"both", "spf ptr", "a.big.example", "192.0.2.1", "unknown", "192.0.200.9", early, found},
	} {
		providers, err := greylist.ParseProviders(strings.Fields(c.providers))
		if err != nil {
			t.Fatal(err)
		}
		for _, when := range []struct {
			after time.Duration
			want  string
		}{{10 * time.Second, c.soon}, {10 * time.Minute, c.later}} {
			f := newFixture(greylist.Settings{Providers: providers}, greylist.Deps{SPF: spf{"s.example": "192.0.0.0/16"}})
			if got := f.ask(c.name1, c.addr1, "u@s.example"); got != "new" {
				t.Errorf("%s: at first %s", c.what, got)
			}
			f.now = f.now.Add(when.after)
			if got := f.ask(c.name2, c.addr, "u@s.example"); got != when.want {
				t.Errorf("%s: after %v %q, want %q", c.what, when.after, got, when.want)
			}
		}
	}
}

// TestSigns: with signs, only clients that show one have to wait.
func TestSigns(t *testing.T) {
	t.Parallel()
	lists := func(_ context.Context, zone string, ip netip.Addr) bool {
		return ip == netip.MustParseAddr("192.0.2.66") && zone == "bl.example" || ip == netip.MustParseAddr("192.0.2.77") && zone == "wl.example"
	}
	for _, c := range []struct {
		signs, name, address, sender string
		waits                        bool
	}{
		{"", "mx.example", "192.0.2.1", "u@none.example", true},
		{"ptr", "mx.example", "192.0.2.1", "u@none.example", false},
		{"ptr", "unknown", "192.0.2.1", "u@none.example", true},
		{"generic_ptr", "1-2-0-192.pool.example", "192.0.2.1", "u@none.example", true},
		{"generic_ptr", "hc0000201.dip.example", "192.0.2.1", "u@none.example", true},
		{"generic_ptr", "host192000002001.example", "192.0.2.1", "u@none.example", true},
		{"generic_ptr", "mail2.example", "192.0.2.1", "u@none.example", false},
		{"helo", "mx.example", "192.0.2.1", "u@none.example", false},
		{"helo", "windows-pc", "192.0.2.1", "u@none.example", true},
		{"helo", "[192.0.2.1]", "192.0.2.1", "u@none.example", false},
		{"helo", "[192.0.2.9]", "192.0.2.1", "u@none.example", true},
		{"helo", "192.0.2.1", "192.0.2.1", "u@none.example", true},
		{"spf_fail", "mx.example", "192.0.2.1", "u@ok.example", false},
		{"spf_fail", "mx.example", "192.0.2.1", "u@fail.example", true},
		{"spf_fail", "mx.example", "192.0.2.1", "u@none.example", false},
		{"no_spf", "mx.example", "192.0.2.1", "u@none.example", true},
		{"no_spf", "mx.example", "192.0.2.1", "u@trouble.example", false},
		{"no_spf", "mx.example", "192.0.2.1", "u@ok.example", false},
		{"dnsbl:bl.example", "mx.example", "192.0.2.66", "u@ok.example", true},
		{"dnsbl:bl.example", "mx.example", "192.0.2.1", "u@ok.example", false},
		{"no_dnswl:wl.example", "mx.example", "192.0.2.77", "u@ok.example", false},
		{"no_dnswl:wl.example", "mx.example", "192.0.2.1", "u@ok.example", true},
		{"ptr helo spf_fail", "mx.example", "192.0.2.1", "u@fail.example", true},
	} {
		signs, err := greylist.ParseSigns(strings.Fields(c.signs))
		if err != nil {
			t.Fatal(err)
		}
		f := newFixture(greylist.Settings{Signs: signs}, greylist.Deps{Listed: lists,
			SPF: spf{"ok.example": "192.0.2.0/24", "fail.example": "203.0.113.0/24", "trouble.example": "?"}})
		want := "not suspicious"
		if c.waits {
			want = "new"
		}
		if got := f.ask(c.name, c.address, c.sender); got != want {
			t.Errorf("signs %q, %s[%s] %s: %q, want %q", c.signs, c.name, c.address, c.sender, got, want)
		}
	}
	for _, bad := range []string{"nonsense", "dnsbl", "ptr:x", "no_dnswl:"} {
		if _, err := greylist.ParseSigns([]string{bad}); err == nil {
			t.Errorf("sign %q is accepted", bad)
		}
	}
	if _, err := greylist.ParseProviders([]string{"dns"}); err == nil {
		t.Error("provider \"dns\" is accepted")
	}
}

// TestTags: the second sender is that of the same message when it comes again.
func TestTags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first, second string
		same          bool
	}{
		{"prvs=1234567890=u@s.example", "prvs=2345678901=u@s.example", true},
		{"btv1==abc1def==u@s.example", "btv1==zzz==u@s.example", true},
		{"msprvs1=18123abcdef=u@s.example", "msprvs1=19123abcdef=u@s.example", true},
		{"SRS0=HHHH=TT=o.example=u@s.example", "SRS0=IIII=UU=o.example=u@s.example", true},
		{"SRS0=HHHH=TT=o.example=u@s.example", "SRS0=HHHH=TT=o.example=v@s.example", false},
		{"SRS1=HHHH=f.example==IIII=TT=o.example=u@s.example", "SRS1=KKKK=f.example==LLLL=UU=o.example=u@s.example", true},
		{"bounce-81f3c2aa-77@s.example", "bounce-0c9911de-78@s.example", true},
		{"0100018abcde1234-11ec-9dee@s.example", "0100018fffff9999-22ab-1dee@s.example", true},
		{"list-bounces+r=example.com@s.example", "list-bounces+r=example.com@s.example", true},
		{"list-r=example.com@s.example", "list-r=example.com@s.example", true},
		{"anna@s.example", "bert@s.example", false},
		{"anna@s.example", "anna@t.example", false},
		{"u2@s.example", "u3@s.example", false},
	} {
		f := newFixture(greylist.Settings{StripTags: true}, greylist.Deps{})
		f.ask("mx.example", "192.0.2.1", c.first)
		f.now = f.now.Add(10 * time.Minute)
		want := map[bool]string{true: "triplet found", false: "new"}[c.same]
		if got := f.ask("mx.example", "192.0.2.1", c.second); got != want {
			t.Errorf("%s, then %s: %q, want %q", c.first, c.second, got, want)
		}
	}
}

// broken is a store that does not work.
type broken struct{ greylist.Store }

var errBroken = errors.New("no space left on device")

func (broken) Get(context.Context, greylist.Kind, string) (greylist.Entry, bool, error) {
	return greylist.Entry{}, false, errBroken
}

// halfBroken is one that cannot be written to.
type halfBroken struct{ greylist.Store }

func (halfBroken) Put(context.Context, greylist.Kind, string, greylist.Entry) error { return errBroken }

// TestStoreTrouble: mail is let through, and the log says why, once a minute.
func TestStoreTrouble(t *testing.T) {
	t.Parallel()
	for _, store := range []greylist.Store{broken{}, halfBroken{greylist.NewMemory()}} {
		f := newFixture(greylist.Settings{}, greylist.Deps{Store: store})
		for i := range 5 {
			if got := f.ask("mx.example", "192.0.2.1", fmt.Sprintf("%d@s.example", i)); got != "no database" {
				t.Errorf("%T: %q", store, got)
			}
		}
		if n := strings.Count(f.log.String(), "mail is let through"); n != 1 || !strings.Contains(f.log.String(), errBroken.Error()) {
			t.Errorf("%T: %d complaints in\n%s", store, n, &f.log)
		}
	}
}

// TestOddRequests: what is no address is no reason to lose mail.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(greylist.Settings{}, greylist.Deps{})
	for _, address := range []string{"", "unknown", "1.2.3", "1.2.3.4.5", "::g"} {
		if got := f.ask("unknown", address, "u@s.example"); got != "no client address" {
			t.Errorf("%q: %q", address, got)
		}
	}
	long := strings.Repeat("x", 100_000)
	if got := f.ask("unknown", "192.0.2.1", long+"@s.example"); got != "new" {
		t.Errorf("long sender: %q", got)
	}
	f.now = f.now.Add(10 * time.Minute)
	if got := f.ask("unknown", "192.0.2.1", long+"@s.example"); got != "triplet found" {
		t.Errorf("long sender again: %q", got)
	}
	if got := f.ask("unknown", "192.0.2.1", long+"@t.example"); got != "new" {
		t.Errorf("other long sender: %q", got)
	}
	items, err := f.store.Scan(t.Context(), greylist.Triplets, "", 10)
	if err != nil || len(items) != 2 || len(items[0].Key) > 600 {
		t.Errorf("%d items, %v", len(items), err)
	}
}

// TestBounded: the store does not grow beyond its limit; then old entries go
// first, and mail that finds no room is let through.
func TestBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(greylist.Settings{MaxEntries: 1000}, greylist.Deps{})
	for i := range 1500 {
		f.now = f.now.Add(time.Minute)
		want := "new"
		if i >= 1000 {
			want = "too many entries"
		}
		if got := f.ask("unknown", "192.0.2.1", fmt.Sprintf("a%db@s.example", i)); got != want {
			t.Fatalf("message %d: %q, want %q", i, got, want)
		}
	}
	if err := f.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, _ := f.store.Len(t.Context(), greylist.Triplets)
	if n > 900 || n < 100 {
		t.Errorf("%d entries after the sweep", n)
	}
	// The youngest are those that stay.
	if _, found, _ := f.store.Get(t.Context(), greylist.Triplets, "192.0.2.0/a999b@s.example/r@example.com"); !found {
		t.Error("the youngest entry is gone")
	}
}

func TestSweepForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	f := newFixture(greylist.Settings{AutoWhitelist: 1}, greylist.Deps{})
	f.ask("unknown", "192.0.2.1", "never@s.example")
	f.ask("unknown", "192.0.3.1", "back@s.example")
	f.now = f.now.Add(10 * time.Minute)
	f.ask("unknown", "192.0.3.1", "back@s.example")
	for _, c := range []struct {
		days              int
		triplets, clients int
	}{{1, 2, 1}, {3, 1, 1}, {34, 1, 1}, {36, 0, 0}} {
		f.now = newYear.Add(time.Duration(c.days) * 24 * time.Hour)
		if err := f.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := f.Stats(t.Context())
		if err != nil || s.Entries["triplets"] != c.triplets || s.Entries["clients"] != c.clients {
			t.Errorf("day %d: %v %v", c.days, s.Entries, err)
		}
	}
}

// TestOrders: what an administrator can do.
func TestOrders(t *testing.T) {
	t.Parallel()
	f := newFixture(greylist.Settings{}, greylist.Deps{})
	ctx := t.Context()
	obey := func(o greylist.Order) greylist.Reply {
		t.Helper()
		r := f.Obey(ctx, o)
		if r.Error != "" {
			t.Fatalf("%+v: %s", o, r.Error)
		}
		return r
	}
	for _, s := range []string{"a@s.example", "b@s.example", "c@t.example"} {
		f.ask("mx.example", "192.0.2.1", s)
	}
	if r := obey(greylist.Order{Op: "list", Match: "S.example"}); len(r.Items) != 2 || r.More {
		t.Errorf("list: %+v", r)
	}
	if r := obey(greylist.Order{Op: "release", Match: "b@s.example"}); r.Done != 1 {
		t.Errorf("release: %+v", r)
	}
	f.now = f.now.Add(time.Second)
	if got := f.ask("mx.example", "192.0.2.1", "b@s.example"); got != "triplet found" {
		t.Errorf("released: %q", got)
	}
	if got := f.ask("mx.example", "192.0.2.1", "a@s.example"); got != "early-retry (299s missing)" {
		t.Errorf("not released: %q", got)
	}
	obey(greylist.Order{Op: "forget", Match: "b@s.example"})
	if got := f.ask("mx.example", "192.0.2.1", "b@s.example"); got != "new" {
		t.Errorf("forgotten: %q", got)
	}
	obey(greylist.Order{Op: "allow", Kind: greylist.ListedHost, Key: "192.0.2.0/24"})
	if got := f.ask("mx.example", "192.0.2.1", "b@s.example"); got != "client whitelist" {
		t.Errorf("allowed: %q", got)
	}
	obey(greylist.Order{Op: "disallow", Kind: greylist.ListedHost, Key: "192.0.2.0/24"})
	if got := f.ask("mx.example", "192.0.2.1", "new@s.example"); got != "new" {
		t.Errorf("no longer allowed: %q", got)
	}
	obey(greylist.Order{Op: "allow", Kind: greylist.ListedRcpt, Key: "r@"})
	if got := f.ask("mx.example", "192.0.2.1", "b@s.example"); got != "recipient whitelist" {
		t.Errorf("recipient allowed: %q", got)
	}
	if r := obey(greylist.Order{Op: "stats"}); r.Stats.Entries["triplets"] != 4 || r.Stats.Decisions["new"] != 5 {
		t.Errorf("stats: %+v", r.Stats)
	}
	for _, o := range []greylist.Order{{Op: "nonsense"}, {Op: "list", Kind: 99}, {Op: "forget"}, {Op: "allow", Kind: greylist.ListedHost, Key: "a b"},
		{Op: "disallow", Kind: greylist.ListedHost, Key: "none"}, {Op: "release", Key: "none"}} {
		if r := f.Obey(ctx, o); r.Error == "" {
			t.Errorf("%+v: no error", o)
		}
	}
}
