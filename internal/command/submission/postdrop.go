package submission

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/command/cli"
	"posthaste/internal/config"
	"posthaste/internal/inbound/maildrop"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/vfs"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
	"posthaste/internal/table/matchlist"
)

// Postdrop is postdrop(1). It may run with more rights than its caller has
// (set-gid), and then believes neither his environment nor his options.
func Postdrop(ctx context.Context, env *cli.Env) int {
	options := env.Getopt("c:rv")
	flagC, bad := "", false
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case '?':
			bad = true
		}
	}
	if os.Getegid() != os.Getgid() {
		other := *env
		other.Getenv = func(string) string { return "" }
		if dir := config.Dir(flagC, env.Getenv); dir != config.DefaultDir && !authorized(&other, dir) {
			return env.Fatal(1, "unauthorized configuration directory name: %s", dir)
		} else if dir != config.DefaultDir {
			flagC = dir
		}
		env = &other
	}
	tool, status := env.Load(flagC)
	if status != 0 {
		return status
	}
	if bad || len(options.Operands()) > 0 {
		return tool.Fatal(cli.ExitUsage, "usage: postdrop [-c config_dir] [-v] [queue...]")
	}
	var c settings
	if status := tool.Fill(&c); status != 0 {
		return status
	}
	return drop(ctx, tool, &c)
}

// authorized tells whether the standard main.cf allows another directory
// (alternate_config_directories, multi_instance_directories).
func authorized(env *cli.Env, dir string) bool {
	tool, status := env.Load("")
	if status != 0 || os.Getuid() == 0 {
		return os.Getuid() == 0
	}
	var c struct {
		Alternate string `param:"alternate_config_directories"`
		Instances string `param:"multi_instance_directories"`
	}
	if tool.Fill(&c) != 0 {
		return false
	}
	for _, name := range config.SplitWords(c.Alternate + " " + c.Instances) {
		if filepath.Clean(name) == filepath.Clean(dir) {
			return true
		}
	}
	return false
}

func drop(ctx context.Context, t *cli.Tool, c *settings) int {
	uid := os.Getuid()
	if who, err := user.LookupId(strconv.Itoa(uid)); err == nil && !allowed(ctx, t, c, who.Username) {
		return t.Fatal(cli.ExitNoPerm, "User %s(%d) is not allowed to submit mail", who.Username, uid)
	}
	err := maildrop.Drop(t.Stdin, t.Stdout, maildrop.DropOptions{
		FS: vfs.Dir(c.QueueDir), UID: uid, PID: os.Getpid(), Now: time.Now, Limit: c.Limit, LongID: c.LongIDs, Guarded: guarded(c.QueueDir), Warn: t.Warnf,
	})
	switch {
	case errors.Is(err, maildrop.ErrCancelled):
		return 0
	case errors.Is(err, maildrop.ErrMalformed):
		return t.Fatal(1, "uid=%d: %s", uid, strings.TrimPrefix(err.Error(), maildrop.ErrMalformed.Error()+": "))
	case err != nil:
		t.Warnf("uid=%d: %s", uid, cli.Reason(err))
		return 1
	}
	// pickup looks in from time to time anyway.
	_ = trigger.Send(ctx, filepath.Join(c.QueueDir, "public", c.Pickup), trigger.PickupAll)
	return 0
}

func allowed(ctx context.Context, t *cli.Tool, c *settings, name string) bool {
	opener := table.NewOpener(table.Setup{Log: t.Log, Types: all.Types()})
	users := matchlist.NewStrings(opener, "authorized_submit_users", c.Submit)
	defer users.Close()
	ok, err := users.Match(ctx, name)
	return ok && err == nil
}

// guarded tells that other users cannot reach files in the maildrop by name.
func guarded(queueDir string) bool {
	info, err := os.Stat(filepath.Join(queueDir, maildrop.Dir))
	return err == nil && info.Mode()&0o001 == 0
}
