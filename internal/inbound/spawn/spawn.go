// Package spawn is spawn(8): it runs a command for each connection to a
// socket, with the connection as its standard streams, and with the rights of
// the user that master.cf names.
//
// It promises that the number of commands at a time is bounded - further
// connections wait -, that none outlives its time limit, and that none runs
// with the rights of root or of the mail system's owner.
//
// Master builds one Service for each spawn entry and serves its socket with it.
package spawn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/pipe"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// Config is what spawn(8) reads of main.cf.
type Config struct {
	TimeLimit time.Duration `transport:"time_limit"`
	Export    string        `param:"export_environment"`
	Import    string        `param:"import_environment"`
	QueueDir  string        `param:"queue_directory"`
	ConfigDir string        `param:"config_directory"`
}

// Settings are the attributes of a service in master.cf.
type Settings struct {
	Rights worker.Rights
	Argv   []string
}

// ParseSettings reads the arguments of a service: user=name[:group] and
// argv=command with its arguments, which come last. An error has the words of
// Postfix's fatal error.
func ParseSettings(args []string, users pipe.Users) (Settings, error) {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if name != "user" && name != "argv" {
			return Settings{}, fmt.Errorf("unknown attribute: %s", arg)
		}
		if name == "argv" {
			break
		}
	}
	p, err := pipe.ParseUser(args, users)
	return Settings{Rights: p.Rights, Argv: p.Argv}, err
}

// Deps is what a Service needs of the rest of the system.
type Deps struct {
	Host   worker.Host
	Log    *maillog.Logger
	Getenv func(string) (string, bool)
	Limit  int // commands at a time, 0 for no limit of the service's own
}

// Service runs the commands of one entry of master.cf.
type Service struct {
	cfg  Config
	set  Settings
	deps Deps
	env  []string
}

// New makes a service.
func New(cfg Config, set Settings, deps Deps) *Service {
	if deps.Getenv == nil {
		deps.Getenv = func(string) (string, bool) { return "", false }
	}
	return &Service{cfg: cfg, set: set, deps: deps,
		env: mailbox.Environment(mailbox.Export(cfg.Export, cfg.Import, mailbox.WithConfig(cfg.ConfigDir, deps.Getenv)))}
}

// maxCommands bounds the commands of a service without a process limit.
const maxCommands = 1000

// Serve runs a command for each connection until ctx ends, and closes ln then.
// Commands under way end with g.
func (s *Service) Serve(ctx context.Context, g *lifecycle.Group, ln net.Listener) {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	limit := s.deps.Limit
	if limit <= 0 {
		limit = maxCommands
	}
	slots := make(chan struct{}, limit)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				s.deps.Log.Warnf("accept connection: %v", err)
			}
			return
		}
		started := g.Go("spawn "+s.set.Argv[0], func(ctx context.Context) {
			defer func() { <-slots }()
			s.run(ctx, conn)
		})
		if !started {
			_ = conn.Close()
			return
		}
	}
}

// run has one command serve a connection.
func (s *Service) run(ctx context.Context, conn net.Conn) {
	file, err := fileOf(conn)
	_ = conn.Close() // file is a copy of its own
	if err != nil {
		s.deps.Log.Warnf("connection for command %s: %v", s.set.Argv[0], err)
		return
	}
	defer file.Close()
	done, err := s.deps.Host.Run(ctx, s.set.Rights, worker.Command{
		Argv: s.set.Argv, Env: s.env, Dir: s.cfg.QueueDir, TimeLimit: s.cfg.TimeLimit, Stdio: file,
	})
	name := s.set.Argv[0]
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.deps.Log.Warnf("command %s: %v", name, err)
	case done.StartError != "":
		s.deps.Log.Fatalf("%s", done.StartError)
	case done.TimedOut:
		s.deps.Log.Warnf("command %s: time limit of %d seconds exceeded", name, int(s.cfg.TimeLimit.Seconds()))
	case done.Signal != 0:
		s.deps.Log.Warnf("command %s killed by signal %d", name, done.Signal)
	case done.Exit != 0:
		s.deps.Log.Warnf("command %s exit status %d", name, done.Exit)
	}
}

// fileOf is a copy of the connection's descriptor.
func fileOf(conn net.Conn) (*os.File, error) {
	c, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("%T has no descriptor", conn)
	}
	return c.File()
}
