package restrict

import (
	"context"
	"testing"
)

// TestPolicyOfThisProcess: its answer counts as a policy server's does, in a
// class too, and without it the name is unknown.
func TestPolicyOfThisProcess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		action string
		code   int
	}{{"DUNNO", 0}, {"DEFER_IF_PERMIT come back", 450}, {"550 5.7.1 no", 550}, {"PREPEND X-Grey: yes", 0}} {
		asked := ""
		v := inProcessView(t, func(_ context.Context, v *View, where string) string {
			asked = where + " " + string(v.Recipient)
			return c.action
		})
		if got := v.Status.Code(); got != c.code {
			t.Errorf("%s: reply %d, want %d", c.action, got, c.code)
		}
		if asked != "RCPT a@relay.example" {
			t.Errorf("asked about %q", asked)
		}
	}
	if v := inProcessView(t, nil); v.Status.Code() != 451 {
		t.Errorf("without the policy: reply %v, want 451", v.Status)
	}
}

func inProcessView(t *testing.T, p Policy) Verdict {
	t.Helper()
	c, _ := minimal(t, Lists{Relay: "permit_auth_destination, reject"}, nil)
	c.setup.Parameter = func(name string) (string, bool) { return "check_greylist", name == "grey" }
	c.cfg.Classes, c.cfg.Lists.Recipient, c.cfg.Codes.MapDefer = "grey", "grey, permit_auth_destination, reject", 450
	if p != nil {
		c.setup.Policies = map[string]Policy{"check_greylist": p}
	}
	again, err := New(c.cfg, c.setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again.Rcpt(context.Background(), stranger("s@x.example", "a@relay.example"))
}
