package command

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/policy/spf"
	"posthaste/internal/sys/dns"
)

// The system's name service.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
)

func systemDNS() dns.Resolver { return dns.NewClient(dns.SystemConfig(resolvConf, hostsFile)) }

// SPF shows what a sender's SPF record says about a client, and why:
// posthaste-spf(1).
func SPF(ctx context.Context, env *Env) int { return explainSPF(ctx, env, systemDNS()) }

// explainSPF is SPF with a given name service.
func explainSPF(ctx context.Context, env *Env, resolver dns.Resolver) int {
	if len(env.Args) < 2 || len(env.Args) > 3 {
		fmt.Fprintf(env.Stderr, "usage: %s client-address sender [helo-name]\n", env.Name)
		return cli.ExitUsage
	}
	ip, err := netip.ParseAddr(strings.Trim(strings.TrimPrefix(env.Args[0], "[IPv6:"), "[]"))
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: fatal: \"%s\" is no IP address\n", env.Name, env.Args[0])
		return cli.ExitUsage
	}
	q := spf.Query{IP: ip, Sender: strings.Trim(env.Args[1], "<>"), Trace: true}
	if len(env.Args) == 3 {
		q.Helo = env.Args[2]
	}
	if q.Sender == "" && q.Helo == "" {
		fmt.Fprintf(env.Stderr, "%s: fatal: for the null sender, the HELO name is checked: give one\n", env.Name)
		return cli.ExitUsage
	}
	host, _ := os.Hostname()
	checker := spf.Checker{DNS: resolver, Receiver: host}
	showSPF(env, checker.Check(ctx, q))
	return 0
}

// showSPF writes the steps of a check, and its result.
func showSPF(env *Env, a spf.Answer) {
	for _, s := range a.Steps {
		what := s.Text
		if s.Term != "" {
			what = s.Term + ": " + s.Text
		}
		used := ""
		if s.Lookups > 0 {
			used = fmt.Sprintf(" (%d of 10 look-ups", s.Lookups)
			if s.Voids > 0 {
				used += fmt.Sprintf(", %d of 2 void", s.Voids)
			}
			used += ")"
		}
		fmt.Fprintf(env.Stdout, "%s%s: %s%s\n", strings.Repeat("  ", s.Depth), visible(s.Domain), visible(what), used)
	}
	fmt.Fprintf(env.Stdout, "result: %s\nreason: %s: %s\n", a.Result, visible(a.Authority), visible(a.Reason))
	if a.Explanation != "" {
		fmt.Fprintf(env.Stdout, "explanation: %s\n", a.Explanation)
	}
}

// visible keeps what others wrote from controlling the terminal.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
