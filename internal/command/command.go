// Package command holds the commands of the multi-call binary: postfix,
// postconf, postmap, sendmail and the rest, one file each.
//
// A command is a function from its environment to an exit status: it touches
// standard streams, arguments and variables only through Env, so that it can
// be tested without a process. cmd/posthaste picks it by the name it was
// called by.
package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// Env is what a command sees of the world.
type Env struct {
	Name   string   // the command's name, as in diagnostics ("postmap")
	Args   []string // without the name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// Run executes a command and returns its exit status (sysexits(3) where
// Postfix uses them).
type Run func(ctx context.Context, env *Env) int

// Main picks the command by argv[0], or by its first word when it is called
// as posthaste, and runs it on the process's own streams.
func Main(ctx context.Context, argv []string) int {
	env := &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	return Dispatch(ctx, argv, env)
}

// Dispatch is Main on given streams.
func Dispatch(ctx context.Context, argv []string, env *Env) int {
	name, args := "posthaste", argv
	if len(argv) > 0 {
		name, args = filepath.Base(argv[0]), argv[1:]
	}
	run, ok := commands[name]
	switch {
	case ok || len(args) == 0:
	case args[0] == helpFlag:
		name = "posthaste"
	default:
		name, args = args[0], args[1:]
		run, ok = commands[name]
	}
	if len(args) > 0 && args[0] == helpFlag {
		return help(env, name)
	}
	if !ok {
		return usage(env, name)
	}
	env.Name, env.Args = name, args
	return run(ctx, env)
}

func usage(env *Env, name string) int {
	if name != "posthaste" {
		fmt.Fprintf(env.Stderr, "posthaste: no command named %q\n", name)
	}
	fmt.Fprintln(env.Stderr, "usage: posthaste command [arguments], with one of the commands:")
	var names []string
	for n := range commands {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		fmt.Fprintf(env.Stderr, "  %s\n", n)
	}
	return 64
}

// Warnf writes "name: warning: text" to standard error, as Postfix's commands do.
func (e *Env) Warnf(format string, args ...any) {
	fmt.Fprintf(e.Stderr, "%s: warning: %s\n", e.Name, fmt.Sprintf(format, args...))
}

// Fatalf writes "name: fatal: text" to standard error and returns 1, the exit
// status of a fatal error.
func (e *Env) Fatalf(format string, args ...any) int {
	fmt.Fprintf(e.Stderr, "%s: fatal: %s\n", e.Name, fmt.Sprintf(format, args...))
	return 1
}
