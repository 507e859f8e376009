package command

import (
	"context"

	"posthaste/internal/command/cli"
)

// Options reads command line options as getopt(3) does; see cli.Options.
type Options = cli.Options

// Getopt starts reading env.Args.
func (e *Env) Getopt(spec string) *Options { return (*cli.Env)(e).Getopt(spec) }

// lower makes a Run of a command that lives in a package below this one.
func lower(run func(ctx context.Context, env *cli.Env) int) Run {
	return func(ctx context.Context, env *Env) int { return run(ctx, (*cli.Env)(env)) }
}
