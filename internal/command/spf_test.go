package command

import (
	"context"
	"strings"
	"testing"

	"posthaste/internal/sys/dns/dnstest"
)

func TestSPF(t *testing.T) {
	t.Parallel()
	zone := dnstest.Parse(`
example.com TXT v=spf1 include:net.example a:gone.example ~all
net.example TXT v=spf1 ip4:192.0.2.0/24 -all
fail.example TXT v=spf1 -all exp=why.example
why.example TXT ask us
esc.example TXT v=spf1 x=` + "\x1b[1m" + ` -all
`)
	for args, want := range map[string]string{
		"198.51.100.7 <user@example.com>": `example.com: record "v=spf1 include:net.example a:gone.example ~all"
example.com: include:net.example: record of net.example (1 of 10 look-ups)
  net.example: record "v=spf1 ip4:192.0.2.0/24 -all" (1 of 10 look-ups)
  net.example: ip4:192.0.2.0/24: no match (1 of 10 look-ups)
  net.example: -all: match: fail (1 of 10 look-ups)
example.com: include:net.example: no match (1 of 10 look-ups)
example.com: a:gone.example: no match (2 of 10 look-ups, 1 of 2 void)
example.com: ~all: match: softfail (2 of 10 look-ups, 1 of 2 void)
result: softfail
reason: example.com: Mechanism '~all' matched
`,
		"[IPv6:2001:db8::1] <> fail.example": `fail.example: record "v=spf1 -all exp=why.example"
fail.example: -all: match: fail
result: fail
reason: fail.example: Mechanism '-all' matched
explanation: ask us
`,
		"198.51.100.7 a@none.example": `none.example: none: No applicable sender policy available
result: none
reason: none.example: No applicable sender policy available
`,
		"198.51.100.7 a@esc.example": `esc.example: record "v=spf1 x=?[1m -all"
esc.example: permerror: Invalid macro string encountered in '?[1m'
result: permerror
reason: esc.example: Invalid macro string encountered in '?[1m'
`,
	} {
		var out, complaints strings.Builder
		env := &Env{Name: "spf", Args: strings.Fields(args), Stdout: &out, Stderr: &complaints}
		if status := explainSPF(context.Background(), env, zone); status != 0 || complaints.String() != "" || out.String() != want {
			t.Errorf("spf %s: status %d, %s\n%s", args, status, complaints.String(), out.String())
		}
	}
	for _, args := range []string{"", "198.51.100.7", "host.example a@b.example", "198.51.100.7 <>", "1.2.3.4 a b c"} {
		var complaints strings.Builder
		env := &Env{Name: "spf", Args: strings.Fields(args), Stdout: &complaints, Stderr: &complaints}
		if status := explainSPF(context.Background(), env, zone); status != 64 || complaints.String() == "" {
			t.Errorf("spf %s: status %d, %s", args, status, complaints.String())
		}
	}
}
