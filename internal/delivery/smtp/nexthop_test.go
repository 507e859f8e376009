package smtp

import "testing"

func TestParseNexthops(t *testing.T) {
	t.Parallel()
	got, err := parseNexthops("a.example, [b.example]:587 [2001:db8::1] c.example:2525", "25", false)
	if err != nil {
		t.Fatal(err)
	}
	want := []nexthop{
		{text: "a.example", host: "a.example", port: "25"},
		{text: "[b.example]:587", host: "b.example", port: "587", bracketed: true},
		{text: "[2001:db8::1]", host: "2001:db8::1", port: "25", bracketed: true},
		{text: "c.example:2525", host: "c.example", port: "2525"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: got %+v, want %+v", i, got[i], want[i])
		}
	}
	for _, bad := range []string{"[a", "[a]b", ":25", "[]"} {
		if _, err := parseNexthops(bad, "25", false); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if got, _ := parseNexthops("unix:private/lmtp", "24", true); got[0].socket != "private/lmtp" {
		t.Errorf("got %+v", got)
	}
}
