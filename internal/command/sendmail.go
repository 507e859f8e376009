package command

import (
	"context"

	"posthaste/internal/command/cli"
	"posthaste/internal/command/mailqueue"
	"posthaste/internal/command/submission"
)

// Sendmail is sendmail(1); the commands that it stands for run in this process.
func Sendmail(ctx context.Context, env *Env) int {
	run := func(ctx context.Context, name string, args []string) int {
		other := *env
		other.Name, other.Args = name, args
		switch name {
		case "postqueue":
			return mailqueue.Postqueue(ctx, (*cli.Env)(&other))
		case "postalias":
			return Postalias(ctx, &other)
		case "newaliases":
			return Newaliases(ctx, &other)
		}
		return Postfix(ctx, &other)
	}
	return submission.Sendmail(ctx, (*cli.Env)(env), submission.Host{Run: run})
}
