package command

import (
	"context"
	"fmt"
	"os"

	"posthaste/internal/config"
	"posthaste/internal/config/version"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/master"
)

// readyWord is what the daemon writes to the pipe when all went well.
const readyWord = "ready\n"

// readyFD is the pipe to postfix start (master(8) -w).
const readyFD = 3

// Master is master(8), the supervisor. People use postfix start.
func Master(ctx context.Context, env *Env) int {
	options := env.Getopt("c:Ddite:vws")
	flagC, wait := "", false
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case 'w':
			wait = true
		case '?':
			return env.Fatalf("usage: %s [-c config_dir] [-w]", env.Name)
		}
	}
	o := master.Options{ConfigDir: config.Dir(flagC, env.Getenv)}
	if wait {
		pipe := os.NewFile(readyFD, "ready")
		o.Ready = func(err error) {
			word := readyWord
			if err != nil {
				word = err.Error() + "\n"
			}
			fmt.Fprint(pipe, word)
			pipe.Close()
		}
	}
	if err := master.Run(ctx, o); err != nil {
		return env.Fatalf("%v", err)
	}
	return 0
}

// mailProcess is the mail process, which only the supervisor starts.
func mailProcess(ctx context.Context, env *Env) int {
	return master.MailProcess(ctx, childConfig(env))
}

// deliveryProcess is the delivery process, which only the supervisor starts.
func deliveryProcess(ctx context.Context, env *Env) int {
	if err := worker.Main(ctx, 3); err != nil {
		return env.Fatalf("%v", err)
	}
	return 0
}

func childConfig(env *Env) string {
	options := env.Getopt("c:")
	dir := config.DefaultDir
	for {
		letter, value := options.Next()
		if letter != 'c' {
			return dir
		}
		dir = value
	}
}

// Version is "posthaste version".
func Version(_ context.Context, env *Env) int {
	fmt.Fprintf(env.Stdout, "posthaste %s, standing in for Postfix %s\n", version.Own, version.Postfix)
	return 0
}
