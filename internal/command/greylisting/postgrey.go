package greylisting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/internal/command/cli"
	"posthaste/internal/policy/greylist"
	"posthaste/internal/policy/greylist/checkgreylist"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// Names below the directory of the database.
const (
	databaseName = checkgreylist.DatabaseName
	socketName   = checkgreylist.SocketName
)

// Exit statuses of postgrey.
const (
	exitUsage = 1
	exitError = 2
)

// Postgrey is postgrey(8).
func Postgrey(ctx context.Context, env *cli.Env) int {
	o, err := parseOptions(env.Args)
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(env.Stderr, err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(env.Stderr, "ERROR: %v\n", err)
		return exitError
	case o.help:
		fmt.Fprintln(env.Stdout, "usage: postgrey --inet=[host:]port | --unix=path [options]; see posthaste postgrey --help")
		return exitUsage
	case o.version:
		fmt.Fprintf(env.Stdout, "postgrey %s\n", greylist.PostgreyLevel)
		return 0
	}
	if o.daemonize && env.Getenv(backgroundVariable) == "" {
		return background(env)
	}
	d := &daemon{options: o, env: env}
	if err := d.start(ctx); err != nil {
		d.stop()
		fmt.Fprintf(env.Stderr, "ERROR: %v\n", err)
		return exitError
	}
	if o.daemonize {
		detach()
	}
	d.wait(ctx)
	d.stop()
	return 0
}

// daemon is a running postgrey.
type daemon struct {
	*options
	env     *cli.Env
	log     *maillog.Logger
	lines   *plainLines // nil when the log goes to syslog
	logging *lifecycle.Group
	store   *greylist.Bolt
	keeping *lifecycle.Group // writes the store
	work    *lifecycle.Group // everything else
	grey    *greylist.Greylist
	control net.Listener
	hangup  chan os.Signal
}

// gcPercent trades some memory, of which there is little, for speed.
const gcPercent = 400

// start does all that can fail: it listens, gives up root, opens the database
// and reads the whitelists.
func (d *daemon) start(ctx context.Context) error {
	debug.SetGCPercent(gcPercent)
	d.startLog(ctx)
	d.log.Infof("postgrey starting, pid %d", os.Getpid())
	d.hangup = make(chan os.Signal, 1)
	signal.Notify(d.hangup, syscall.SIGHUP)
	ln, err := d.listen()
	if err != nil {
		return err
	}
	if err := d.giveUpRoot(); err != nil {
		ln.Close()
		return err
	}
	if d.store, err = greylist.OpenBolt(filepath.Join(d.dbDir, databaseName), d.log); err != nil {
		ln.Close()
		return err
	}
	d.keeping = lifecycle.New(context.Background(), nil)
	d.keeping.Go("greylist database", d.store.Run)
	d.work = lifecycle.New(ctx, d.panicked)
	d.grey = greylist.New(d.set, greylist.Deps{Store: d.store, Log: d.log})
	if err := d.grey.LoadListed(ctx); err != nil {
		d.log.Warnf("%v", err)
	}
	d.readWhitelists()
	d.takeOver(ctx)
	d.work.Go("greylist upkeep", d.grey.Run)
	d.serveControl()
	server := &greylist.Server{Greylist: d.grey, Log: d.log, Once: d.exim, Verbose: d.verbosity > 0}
	d.work.Go("policy server", func(ctx context.Context) { server.Serve(ctx, d.work, ln) })
	return nil
}

func (d *daemon) panicked(name string, value any, stack []byte) {
	d.log.Panicf("%s: %v: %.4000s", name, value, stack)
}

// startLog logs to syslog in the background, and to standard error otherwise.
func (d *daemon) startLog(ctx context.Context) {
	d.logging = lifecycle.New(ctx, nil)
	if d.daemonize {
		if sink, err := maillog.NewSyslog("/dev/log", d.facility); err == nil {
			d.log = maillog.New(sink, "postgrey", os.Getpid(), nil)
			return
		}
	}
	d.lines = &plainLines{out: d.env.Stderr}
	d.log = maillog.New(d.lines, "postgrey", os.Getpid(), nil)
	d.logging.Go("log", d.lines.run)
}

func (d *daemon) listen() (net.Listener, error) {
	if d.pidFile != "" {
		if err := os.WriteFile(d.pidFile, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
			return nil, err
		}
	}
	var ln net.Listener
	var err error
	if d.inet != "" {
		address := d.inet
		if !strings.Contains(address, ":") {
			address = "localhost:" + address
		}
		ln, err = net.Listen("tcp", address)
	} else {
		ln, err = d.listenUnix()
	}
	if err == nil && d.backlog > 0 {
		err = setBacklog(ln, d.backlog)
	}
	return ln, err
}

func (d *daemon) listenUnix() (net.Listener, error) {
	if info, err := os.Lstat(d.unix); err == nil && info.Mode()&os.ModeSocket != 0 {
		os.Remove(d.unix)
	}
	ln, err := net.Listen("unix", d.unix)
	if err != nil {
		return nil, err
	}
	return ln, os.Chmod(d.unix, d.socketMode)
}

// setBacklog makes the queue of connections that nobody has accepted as long
// as wanted: listen(2) may be called again.
func setBacklog(ln net.Listener, n int) error {
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), n) })
	return errors.Join(err, failed)
}

// serveControl lets the greylist command at the running server. It can do
// without.
func (d *daemon) serveControl() {
	path := filepath.Join(d.dbDir, socketName)
	ln, err := greylist.ListenControl(path)
	if err != nil {
		d.log.Warnf("%v", err)
		return
	}
	d.control = ln
	d.work.Go("greylist control", func(ctx context.Context) { greylist.ServeControl(ctx, d.work, ln, d.grey) })
}

// readWhitelists reads the files. What is wrong in them is complained about.
func (d *daemon) readWhitelists() {
	w := &greylist.Whitelist{}
	var all []error
	for _, path := range d.clients {
		all = append(all, w.AddClients(path))
	}
	for _, path := range d.recipients {
		all = append(all, w.AddRecipients(path))
	}
	if err := errors.Join(all...); err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			d.log.Warnf("%s", line)
		}
	}
	d.grey.SetWhitelist(w)
}

// takeOver imports what the original has left in the directory, once.
func (d *daemon) takeOver(ctx context.Context) {
	if n, err := d.store.Len(ctx, greylist.Triplets); err != nil || n > 0 {
		return
	}
	if _, err := os.Stat(filepath.Join(d.dbDir, "postgrey.db")); err != nil {
		return
	}
	n, err := importBerkeley(ctx, d.dbDir, d.grey)
	if err != nil {
		d.log.Warnf("import of %s: %v", d.dbDir, err)
	}
	d.log.Infof("%d entries were imported from %s", n, d.dbDir)
}

// wait serves until the process is asked to stop.
func (d *daemon) wait(ctx context.Context) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for {
		select {
		case <-d.hangup:
			d.log.Infof("HUP received: reloading whitelists...")
			d.readWhitelists()
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
	}
}

const stopGrace = 2 * time.Second

func (d *daemon) stop() {
	signal.Stop(d.hangup)
	for _, group := range []*lifecycle.Group{d.work, d.keeping} {
		if group != nil {
			cancelled(group)
		}
	}
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Warnf("%v", err)
		}
	}
	if d.pidFile != "" {
		os.Remove(d.pidFile)
	}
	if d.unix != "" && d.inet == "" {
		os.Remove(d.unix)
	}
	d.log.Infof("postgrey stopped")
	cancelled(d.logging)
}

// cancelled ends a group at once: its work does not end by itself.
func cancelled(group *lifecycle.Group) {
	const soon = 10 * time.Millisecond
	if group.Stop(soon) != nil {
		group.Stop(stopGrace)
	}
}

// plainLines is a log without times and names, for standard error. A line is
// written within a moment.
type plainLines struct {
	mu     sync.Mutex
	out    io.Writer
	buffer []byte
}

const (
	linesEvery = 50 * time.Millisecond
	maxLines   = 1 << 20
)

// Write implements maillog.Sink.
func (p *plainLines) Write(l maillog.Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buffer) < maxLines {
		p.buffer = append(append(p.buffer, l.Text...), '\n')
	}
}

func (p *plainLines) run(ctx context.Context) {
	ticker := time.NewTicker(linesEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		p.mu.Lock()
		text := p.buffer
		p.buffer = nil
		p.mu.Unlock()
		p.out.Write(text)
	}
}
