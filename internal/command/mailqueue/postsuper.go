package mailqueue

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"posthaste/internal/command/cli"
	"posthaste/internal/queue/spool"
	"posthaste/internal/queue/super"
	"posthaste/internal/sys/vfs"
)

const postsuperUsage = "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] " +
	"[-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] " +
	"[-r queue_id (requeue)] [-s (structure fix)] [-S (redundant structure fix)][-v (verbose)] [queue...]"

// actionsOf are the options of postsuper(1) that take a queue id.
var actionsOf = map[byte][]super.Action{
	'd': {super.Delete}, 'e': {super.Expire}, 'f': {super.Expire, super.Release},
	'h': {super.Hold}, 'H': {super.Release}, 'r': {super.Requeue},
}

// summaries are the last lines of postsuper(1), in its order.
var summaries = []struct {
	action super.Action
	text   string
}{
	{super.Requeue, "Requeued"}, {super.Delete, "Deleted"}, {super.Expire, "Force-expired"},
	{super.Hold, "Placed on hold"}, {super.Release, "Released from hold"},
}

type postsuper struct {
	*cli.Tool
	super.Super
	all  super.Action // to be done to everything
	seen super.Action // asked for in any way
	ids  []request
}

type request struct {
	letter byte
	id     string
}

// Postsuper is postsuper(1).
func Postsuper(ctx context.Context, env *cli.Env) int {
	options := env.Getopt("c:d:e:f:h:H:pr:sSv")
	flagC, p, bad := "", &postsuper{}, false
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case 'v':
		case 'p':
			p.all |= super.Purge
		case 's', 'S':
			p.all |= super.Fix
		case '?':
			bad = true
		default:
			p.request(letter, value)
		}
	}
	status := 0
	if p.Tool, status = env.Load(flagC); status != 0 {
		return status
	}
	// These are between the user and us.
	if bad {
		return env.Fatal(1, "%s", postsuperUsage)
	}
	var c queueConfig
	if status := p.Fill(&c); status != 0 {
		return status
	}
	if os.Getuid() != 0 && !owns(c.Dir) {
		return env.Fatal(1, "use of this command is reserved for the superuser")
	}
	p.LogAnyway()
	if err := becomeOwner(filepath.Join(c.Dir, "deferred")); err != nil {
		return p.Fatal(1, "cannot work as the owner of the mail queue: %v", err)
	}
	return p.run(ctx, c, options.Operands())
}

// owns reports that a directory is ours: the queue of a system that an
// ordinary user runs. The queue directory of root's system is root's.
func owns(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}

// becomeOwner drops root's rights for good and goes on as the owner of the
// queue: what it makes there is the mail system's, and it touches nothing that
// the owner may not.
func becomeOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil // there is no queue yet; the work will say so
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups([]int{int(stat.Gid)}), syscall.Setgid(int(stat.Gid)), syscall.Setuid(int(stat.Uid)))
}

// request notes one option with a queue id; ALL is everything.
func (p *postsuper) request(letter byte, id string) {
	for _, a := range actionsOf[letter] {
		p.seen |= a
		if id == "ALL" {
			p.all |= a
		}
	}
	if id != "ALL" {
		p.ids = append(p.ids, request{letter, id})
	}
}

func (p *postsuper) run(ctx context.Context, c queueConfig, queues []string) int {
	for _, name := range queues {
		if !super.IsQueue(name) {
			return p.Fatal(1, "invalid directory name: %s", name)
		}
	}
	if len(queues) == 0 {
		queues = super.DefaultQueues()
	}
	if p.all|p.seen == 0 {
		p.all = super.Fix | super.Purge
	}
	p.Super = super.Super{Layout: spool.NewLayout(vfs.Dir(c.Dir), c.Queue), Queues: queues, Now: time.Now,
		Info: p.Tool.Info, Warn: p.Tool.Warnf, Counts: map[super.Action]int{}}
	if err := p.work(ctx); err != nil {
		return p.Fatal(1, "%v", err)
	}
	p.report()
	return 0
}

func (p *postsuper) work(ctx context.Context) error {
	if p.all&(super.Fix|super.Purge) != 0 {
		if err := p.All(p.all & (super.Fix | super.Purge)); err != nil {
			return err
		}
	}
	for _, r := range p.ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		in := io.Reader(strings.NewReader(r.id))
		if r.id == "-" {
			in = p.Stdin
		}
		if err := p.Stream(actionsOf[r.letter], in); err != nil {
			return err
		}
	}
	if rest := p.all &^ (super.Fix | super.Purge); rest != 0 {
		return p.All(rest)
	}
	return nil
}

func (p *postsuper) report() {
	for _, s := range summaries {
		if p.seen&s.action == 0 {
			continue
		}
		plural := "s"
		if p.Counts[s.action] == 1 {
			plural = ""
		}
		p.Tool.Info("%s: %d message%s", s.text, p.Counts[s.action], plural)
	}
	if n := p.Counts[super.Fix]; n > 0 {
		p.Tool.Info("Moved to their places: %d file(s)", n)
	}
}
