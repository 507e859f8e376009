package scripting

import (
	"context"
	"errors"
	"os/exec"

	"posthaste/internal/command/cli"
	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
)

// Postlock is postlock(1): it runs a command while a mailbox file is locked as
// local(8) locks it.
func Postlock(ctx context.Context, env *cli.Env) int {
	options := env.Getopt("c:l:v")
	flagC, style, bad := "", "", false
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case 'l':
			style = value
		case '?':
			bad = true
		}
	}
	t, status := env.Load(flagC)
	if status != 0 {
		return status
	}
	words := options.Operands()
	if bad || len(words) < 2 {
		return t.Fatal(cli.ExitUsage, "usage: %s [-c config_dir] [-l lock_style] [-v] folder command...", env.Name)
	}
	var c struct {
		Style string `param:"mailbox_delivery_lock"`
		mailbox.Locking
	}
	if status := t.Fill(&c); status != 0 {
		return status
	}
	if style == "" {
		style = c.Style
	}
	locks, err := mailbox.ParseLocks(style)
	if err != nil {
		return t.Fatal(cli.ExitUsage, "%v", err)
	}
	release, err := worker.Hold(ctx, &worker.Append{Path: words[0], Locks: locks, Attempts: c.Attempts, Delay: c.Delay, Stale: c.Stale})
	if err != nil {
		return t.Fatal(cli.ExitTempFail, "%v", err)
	}
	defer release()
	return run(ctx, t, words[1:])
}

// run is the command with our streams; a signal that ends it is exit status
// 70, as of a program that failed.
func run(ctx context.Context, t *cli.Tool, words []string) int {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.Stdin, t.Stdout, t.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case errors.As(err, &exit):
		return cli.ExitSoftware
	}
	return t.Fatal(cli.ExitTempFail, "execvp %s: %s", words[0], cli.Reason(err))
}
