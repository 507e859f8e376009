// Package mailqueue holds the commands that look at the queue and change it:
// postqueue(1) with mailq, postsuper(1) and postcat(1).
//
// They speak to the running mail system by its sockets, or work on the queue
// directory as the superuser; either way through packages of the queue. Their
// words and exit statuses are Postfix's.
package mailqueue

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/command/cli"
	"posthaste/internal/mail/addr"
	"posthaste/internal/queue"
	"posthaste/internal/queue/showq"
	"posthaste/internal/queue/spool"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/vfs"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
	"posthaste/internal/table/matchlist"
)

// queueConfig is what the commands of this package read.
type queueConfig struct {
	Dir        string `param:"queue_directory"`
	Queue      spool.Config
	List       showq.Config
	Showq      string `param:"showq_service_name"`
	Flush      string `param:"flush_service_name"`
	Qmgr       string `param:"queue_service_name"`
	Pickup     string `param:"pickup_service_name"`
	MayList    string `param:"authorized_mailq_users"`
	MayFlush   string `param:"authorized_flush_users"`
	FastFlush  string `param:"fast_flush_domains"`
	Subdomains string `param:"parent_domain_matches_subdomains"`
}

type postqueue struct {
	*cli.Tool
	c queueConfig
}

const postqueueUsage = "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"

// Postqueue is postqueue(1).
func Postqueue(ctx context.Context, env *cli.Env) int {
	options := env.Getopt("c:fi:jps:v")
	flagC, mode, value, excess := "", byte(0), "", false
	for {
		letter, arg := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = arg
		case 'v':
		case '?':
			excess = true
		default:
			excess = excess || mode != 0
			mode, value = letter, arg
		}
	}
	p := &postqueue{}
	status := 0
	if p.Tool, status = env.Load(flagC); status != 0 {
		return status
	}
	if status := p.Fill(&p.c); status != 0 {
		return status
	}
	if excess || mode == 0 || len(options.Operands()) > 0 {
		return p.fatal("%s", postqueueUsage)
	}
	return p.run(ctx, mode, value)
}

// fatal is Fatal with the one exit status that postqueue has for everything.
func (p *postqueue) fatal(format string, args ...any) int {
	return p.Fatal(cli.ExitUnavailable, format, args...)
}

func (p *postqueue) run(ctx context.Context, mode byte, value string) int {
	param, users, what := "authorized_flush_users", p.c.MayFlush, "flush the mail queue"
	if mode == 'p' || mode == 'j' {
		param, users, what = "authorized_mailq_users", p.c.MayList, "view the mail queue"
	}
	if status := p.allowed(ctx, param, users, what); status != 0 {
		return status
	}
	switch mode {
	case 'f':
		return p.flush(ctx)
	case 'i':
		return p.flushFile(ctx, value)
	case 's':
		return p.flushSite(ctx, value)
	}
	return p.list(ctx, mode == 'j')
}

// Mailq is mailq(1).
func Mailq(ctx context.Context, env *cli.Env) int {
	other := *env
	other.Args = []string{"-p"}
	return Postqueue(ctx, &other)
}

func (p *postqueue) public(service string) string { return filepath.Join(p.c.Dir, "public", service) }

// list shows what showq(8) sends, or what is in the queue directory.
func (p *postqueue) list(ctx context.Context, asJSON bool) int {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p.public(p.c.Showq))
	if err == nil {
		defer conn.Close()
		if asJSON {
			_, err = io.Copy(p.Stdout, conn)
		} else {
			err = showq.Format(p.Stdout, conn, p.style())
		}
		return p.listed(err)
	}
	why := "Connect to the Postfix " + p.c.Showq + " service: " + cli.Reason(err)
	if os.Geteuid() != 0 && !p.ownQueue() {
		return p.fatal("Queue report unavailable - mail system is down (%s)", why)
	}
	p.Warnf("Mail system is down -- accessing queue directly (%s)", why)
	s, err := spool.New(spool.Options{FS: vfs.Dir(p.c.Dir), Config: p.c.Queue, Log: p.Log, Passive: true})
	switch {
	case err != nil:
	case asJSON:
		err = showq.Write(ctx, p.Stdout, s, p.c.List)
	default:
		err = showq.List(ctx, p.Stdout, s, p.c.List, p.style())
	}
	return p.listed(err)
}

func (p *postqueue) listed(err error) int {
	if err != nil {
		return p.fatal("%v", err)
	}
	return 0
}

// ownQueue tells that the caller runs a mail system of their own.
func (p *postqueue) ownQueue() bool {
	info, err := vfs.Dir(p.c.Dir).Lstat("deferred")
	return err == nil && info.UID == os.Geteuid()
}

func (p *postqueue) style() showq.Style {
	return showq.Style{Long: p.c.Queue.LongIDs, Zone: time.Local}
}

// allowed checks who asks against a list of users.
func (p *postqueue) allowed(ctx context.Context, param, list, what string) int {
	uid := os.Getuid()
	if uid == 0 {
		return 0
	}
	opener := table.NewOpener(table.Setup{Log: p.Log, Types: all.Types()})
	users := matchlist.NewStrings(opener, param, list)
	defer users.Close()
	name := "unknown"
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	if ok, err := users.Match(ctx, name); err != nil || !ok {
		return p.fatal("User %s(%d) is not allowed to %s", name, uid, what)
	}
	return 0
}

const down = "Cannot flush mail queue - mail system is down"

func (p *postqueue) flush(ctx context.Context) int {
	err := trigger.Send(ctx, p.public(p.c.Qmgr), trigger.FlushAll)
	if err == nil {
		err = trigger.Send(ctx, p.public(p.c.Pickup), trigger.PickupAll)
	}
	if err != nil {
		return p.fatal("%s", down)
	}
	return 0
}

// flushFile is -i.
func (p *postqueue) flushFile(ctx context.Context, id string) int {
	if strings.IndexFunc(id, notName) >= 0 || id == "" {
		return p.fatal("Cannot flush queue ID - invalid name: \"%.100s\"", id)
	}
	return p.ask(ctx, trigger.Flush{Kind: trigger.SendFile, ID: queue.ID(id)}, id)
}

// notName tells characters that no queue id of Postfix has.
func notName(r rune) bool {
	return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '_')
}

// flushSite is -s.
func (p *postqueue) flushSite(ctx context.Context, site string) int {
	if !addr.ValidMailhost(site) && !addr.ValidHostname(site) {
		return p.fatal("Cannot flush mail queue - invalid destination: \"%.100s\"", site)
	}
	opener := table.NewOpener(table.Setup{Log: p.Log, Types: all.Types()})
	domains := matchlist.NewDomains(opener, "fast_flush_domains", p.c.FastFlush, table.MatchesSubdomains(p.c.Subdomains, "fast_flush_domains"))
	defer domains.Close()
	if ok, err := domains.Match(ctx, site); err != nil || !ok {
		return p.fatal("Flush service is not configured for destination \"%s\"", site)
	}
	return p.ask(ctx, trigger.Flush{Kind: trigger.SendSite, Site: site}, site)
}

func (p *postqueue) ask(ctx context.Context, f trigger.Flush, what string) int {
	answer, err := trigger.Ask(ctx, p.public(p.c.Flush), f)
	if opErr := new(net.OpError); errors.As(err, &opErr) {
		p.Warnf("connect to public/%s: %s", p.c.Flush, cli.Reason(err))
	}
	switch answer {
	case trigger.OK:
		return 0
	case trigger.Invalid:
		return p.fatal("Invalid request: \"%s\"", what)
	case trigger.Deny:
		return p.fatal("Flush service is not configured for destination \"%s\"", what)
	}
	return p.fatal("%s", down)
}
