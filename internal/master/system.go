package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/internal/config"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/master/layout"
	"posthaste/internal/policy/greylist/checkgreylist"
	"posthaste/internal/policy/rate"
	"posthaste/internal/policy/spf/checkspf"
	"posthaste/internal/qmgr"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/vfs"
)

// Environment is what a System gets from the process it runs in.
type Environment struct {
	ConfigDir string
	Sink      maillog.Sink // nil: syslog, as the configuration says
	Delivery  *os.File     // connection to the delivery process; nil: deliver in this process
	OpenFile  func(path string) (*os.File, error)
}

// Listener is an open socket for a service of master.cf.
type Listener struct {
	Service string // "smtp/inet"
	File    *os.File
}

// System is the running mail system: what lasts over reloads (the queue, its
// manager, counters, workers), and the generation of roles in use.
type System struct {
	env      Environment
	sink     maillog.Sink
	lock     *os.File
	store    *spool.Spool
	dns      dns.Resolver
	workers  worker.Host
	rates    *rate.Counter
	spf      *checkspf.Results
	greylist *checkgreylist.Keeper
	// verified are the caches of address verification.
	verified verifyCaches
	loop     *qmgr.Loop
	core     *lifecycle.Group // the queue manager and its deliveries

	pickup   chan struct{} // wakes pickup(8)
	maildrop sync.Mutex    // one scan of the maildrop at a time

	mu      sync.Mutex
	current *generation
	retired sync.WaitGroup
}

// instanceWait is how long a new mail process waits for one that is ending.
const instanceWait = 30 * time.Second

// NewSystem opens the queue for this process alone.
func NewSystem(env Environment) (*System, error) {
	snap, err := config.Load(env.ConfigDir)
	if err != nil {
		return nil, err
	}
	s := &System{env: env, sink: env.Sink, pickup: make(chan struct{}, 1)}
	if s.sink == nil {
		if _, s.sink, _, err = openLogFile(snap); err != nil {
			return nil, err
		}
	}
	if env.OpenFile == nil {
		s.env.OpenFile = os.Open
	}
	s.core = lifecycle.New(context.Background(), s.panicked)
	s.dns = dns.NewClient(dns.SystemConfig("/etc/resolv.conf", "/etc/hosts"))
	if err := s.openQueue(snap); err != nil {
		return nil, err
	}
	if err := s.startWorkers(); err != nil {
		return nil, err
	}
	if err := s.startAnvil(snap); err != nil {
		return nil, err
	}
	s.spf = checkspf.NewResults()
	data, err := snap.Main().String("data_directory")
	if err != nil {
		return nil, err
	}
	s.greylist = checkgreylist.NewKeeper(data, s.core, s.logger(snap.Main(), "postgrey"))
	return s, nil
}

// openQueue takes the lock that keeps two processes from working on one
// queue, and opens the store.
func (s *System) openQueue(snap *config.Snapshot) error {
	var dirs layout.Layout
	var c spool.Config
	if err := errors.Join(snap.Main().Fill(&dirs), snap.Main().Fill(&c)); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockInstance(filepath.Join(dirs.DataDirectory, "posthaste.lock")); err != nil {
		return err
	}
	s.store, err = spool.New(spool.Options{
		FS: vfs.Dir(dirs.QueueDirectory), Config: c, Log: s.logger(snap.Main(), "qmgr"), PID: os.Getpid(),
		SyncDirs: spool.NeedsDirSync(dirs.QueueDirectory),
	})
	return err
}

func lockInstance(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w: data_directory must belong to mail_owner; run \"postfix set-permissions\"", err)
	}
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(instanceWait); ; {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if time.Now().After(deadline) {
			file.Close()
			return nil, fmt.Errorf("%s: another mail process still works on this queue", path)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// startWorkers connects to the delivery process, or delivers in this one.
func (s *System) startWorkers() error {
	if s.env.Delivery == nil {
		s.workers = worker.InProcess()
		return nil
	}
	remote, err := worker.NewRemote(s.env.Delivery, worker.Limits{})
	if err != nil {
		return err
	}
	s.workers = remote
	return nil
}

func (s *System) panicked(name string, value any, stack []byte) {
	maillog.New(s.sink, "postfix/master", os.Getpid(), nil).Panicf("%s: %v: %.4000s", name, value, stack)
}

// logger makes the log of a role: its tag is syslog_name/program.
func (s *System) logger(view *config.View, program string) *maillog.Logger {
	name, err := view.String("syslog_name")
	if err != nil || name == "" {
		name = "postfix"
	}
	return maillog.New(s.sink, name+"/"+program, os.Getpid(), nil)
}

// Configure takes the configuration on disk and the sockets into use. Sessions
// and deliveries under way keep the generation they began with.
func (s *System) Configure(ctx context.Context, listeners []Listener) error {
	next, err := newGeneration(s)
	if err == nil {
		err = s.startQueueManager(ctx, next)
	}
	if err == nil {
		err = s.configureQueue(next)
	}
	if err != nil {
		for _, l := range listeners {
			l.File.Close()
		}
		return placed(err)
	}
	s.mu.Lock()
	old := s.current
	s.current = next
	s.mu.Unlock()
	if old != nil {
		s.retire(old)
	}
	next.serve(listeners)
	return nil
}

// configureQueue gives the store the settings of a generation.
func (s *System) configureQueue(g *generation) error {
	var c spool.Config
	if err := g.main.Fill(&c); err != nil {
		return err
	}
	if err := s.store.Configure(c); err != nil {
		s.logger(g.main, "qmgr").Warnf("%v", err)
	}
	return nil
}

// startQueueManager starts the loop, or gives it new settings.
func (s *System) startQueueManager(ctx context.Context, g *generation) error {
	var c qmgr.Config
	if err := g.main.Fill(&c); err != nil {
		return err
	}
	if s.loop != nil {
		return s.loop.Reconfigure(ctx, c, g.neighbours())
	}
	s.loop = qmgr.New(c, g.neighbours(), qmgr.Deps{
		Store: s.store, Log: s.logger(g.main, "qmgr"), RetryLog: s.logger(g.main, "error"),
	})
	return s.loop.Start(s.core)
}

// retire lets an old generation end by itself: it accepts nothing new, and its
// tables are closed when its last session is over.
func (s *System) retire(old *generation) {
	old.unlisten()
	s.retired.Add(1)
	s.core.Go("former generation", func(ctx context.Context) {
		defer s.retired.Done()
		old.drain(ctx, s.core.Stopping())
	})
}

// Stop ends sessions and deliveries, each phase within grace.
func (s *System) Stop(grace time.Duration) {
	log := maillog.New(s.sink, "postfix/master", os.Getpid(), nil)
	if s.current != nil {
		s.current.retire()
		if err := s.current.group.Stop(grace); err != nil {
			log.Warnf("%v", err)
		}
	}
	if err := s.core.Stop(grace); err != nil {
		log.Warnf("%v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := s.store.Close(ctx); err != nil {
		log.Warnf("close queue: %v", err)
	}
	if err := s.verified.Close(); err != nil {
		log.Warnf("close address verification cache: %v", err)
	}
	s.lock.Close()
}
