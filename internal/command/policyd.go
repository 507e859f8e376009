package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/config"
	"posthaste/internal/policy/spf/policyd"
	"posthaste/internal/sys/maillog"
)

// systemLog is where the system log daemon listens.
const systemLog = "/dev/log"

// policydConfig is where policyd-spf has its configuration when its argument
// does not say otherwise.
const policydConfig = "/etc/postfix-policyd-spf-python/policyd-spf.conf"

// PolicydSPF answers policy requests on standard input as the Python daemon of
// that name does: policyd-spf(1).
func PolicydSPF(ctx context.Context, env *Env) int {
	file := policydConfig
	if len(env.Args) > 0 {
		file = env.Args[0]
	}
	if file == "-h" || file == "-?" {
		fmt.Fprintf(env.Stdout, "usage: policyd-spf [<configfilename>]\n")
		return 1
	}
	s := env.policydSetup("policyd-spf")
	s.Host, _ = os.Hostname()
	c := policyd.DefaultConfig(s.Host)
	text, err := os.ReadFile(file)
	if err != nil {
		s.Log.Infof("ERROR stating \"%s\": %s", file, cli.Reason(err))
	} else if c, err = policyd.ReadConfig(string(text), file, s.Host, s.Log); err != nil {
		s.Log.Infof("%v in file \"%s\"", err, file)
		return env.Fatalf("%s: %v", file, err)
	}
	if c.Debug >= 3 {
		s.Log.Infof("Starting")
		defer s.Log.Infof("Normal exit")
	}
	return env.servePolicy(ctx, s, policyd.Configured(s, c))
}

// PolicydSPFPerl answers policy requests on standard input as the Perl daemon
// postfix-policyd-spf-perl does: policyd-spf(1).
func PolicydSPFPerl(ctx context.Context, env *Env) int {
	s := env.policydSetup("postfix/policy-spf")
	s.Host = mailName("/etc/mailname")
	dir := config.Dir("", env.Getenv)
	domains, networks := readIfAny(filepath.Join(dir, "exempt_spf_domains")), readIfAny(filepath.Join(dir, "exempt_spf_addresses"))
	exempt, bad := policyd.ParseExempt(domains, networks)
	for _, word := range bad {
		s.Log.Warnf("%s/exempt_spf_addresses: \"%s\" is no address or network", dir, word)
	}
	return env.servePolicy(ctx, s, policyd.Plain(s, exempt))
}

// policydSetup is what both have in common. They log to the system log and
// nowhere else: standard output is the protocol's, and standard error is not
// read by anybody.
func (e *Env) policydSetup(tag string) policyd.Setup {
	s := policyd.Setup{DNS: systemDNS()}
	if _, err := os.Stat(systemLog); err == nil {
		if sink, err := maillog.NewSyslog(systemLog, "mail"); err == nil {
			s.Log = maillog.New(sink, tag, os.Getpid(), nil)
		}
	}
	return s
}

func (e *Env) servePolicy(ctx context.Context, s policyd.Setup, h policyd.Handler) int {
	if err := policyd.Serve(ctx, e.Stdin, e.Stdout, h); err != nil {
		s.Log.Warnf("%v", err)
		return 1
	}
	return 0
}

// mailName is this host's name in header fields: the first line of a file, or
// the host name.
func mailName(file string) string {
	name, _, _ := strings.Cut(readIfAny(file), "\n")
	if name = strings.TrimSpace(name); name == "" {
		name, _ = os.Hostname()
	}
	return name
}

// readIfAny is the text of a file, "" when it cannot be read.
func readIfAny(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}
