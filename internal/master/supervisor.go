package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/config/version"
	"posthaste/internal/master/layout"
	"posthaste/internal/master/listen"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// Times of the supervisor.
const (
	stopGrace  = 10 * time.Second // for sessions and deliveries at stop
	readyLimit = 60 * time.Second // for the mail process to start
)

// Options are the circumstances of a run.
type Options struct {
	ConfigDir string
	// Ready is told once whether the start went well; nil afterwards.
	Ready func(error)
	// Foreground keeps standard output for the log, as postfix start-fg does.
	Foreground bool
	// OneProcess runs everything in this process, also for root.
	OneProcess bool
}

// engine is the running mail system: in this process, or in children.
type engine interface {
	// configure makes a new configuration and its sockets take effect; it
	// returns when they are in use. Running sessions go on as they are.
	configure(ctx context.Context, open listen.Sockets, log *os.File) error
	// stop ends sessions and deliveries within their grace.
	stop()
	// died is told when a part ended without being asked to; bury clears up
	// behind it, so that configure starts it anew.
	died() <-chan death
	bury(death)
}

// supervisor is master(8).
type supervisor struct {
	options Options
	layout  layout.Layout
	owner   layout.Identity
	snap    *config.Snapshot
	open    listen.Sockets
	engine  engine
	group   *lifecycle.Group
	reloads chan struct{}

	logFile *os.File
	sink    *maillog.File
	log     *maillog.Logger
}

// Run starts the mail system and returns when it has stopped: on SIGTERM, on
// SIGINT, or when ctx ends. SIGHUP reloads.
func Run(ctx context.Context, o Options) error {
	s := &supervisor{options: o, open: listen.Sockets{}, reloads: make(chan struct{}, 1), group: lifecycle.New(context.WithoutCancel(ctx), nil)}
	listen.AwaitNetwork(ctx)
	signals := make(chan os.Signal, 4) // from here on: one that comes during the start is not to kill us
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)
	lock, err := s.prepare()
	if err == nil {
		defer lock.Close() // the last thing: postfix stop waits for it
		ctx = s.obey(ctx, signals)
		if err = s.start(ctx); err != nil {
			s.closeSockets()
			lock.Close() // who is told that it failed may try again at once
		}
	}
	defer s.group.Stop(time.Second)
	if o.Ready != nil {
		o.Ready(err)
	}
	if err != nil {
		s.log.Fatalf("%v", err)
		s.flush()
		return err
	}
	s.log.Infof("daemon started -- version %s, configuration %s", version.Mail, o.ConfigDir)
	s.oddities()
	s.watch(ctx)
	s.engine.stop()
	s.closeSockets()
	s.flush()
	return nil
}

// prepare reads the configuration, makes directories, takes the lock and
// opens the log.
func (s *supervisor) prepare() (*os.File, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	if err := s.layout.Create(false); err != nil {
		return nil, err
	}
	lock, err := layout.Lock(s.layout.QueueDirectory)
	if err != nil {
		return nil, err
	}
	if err := s.openLog(); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func (s *supervisor) load() error {
	snap, err := config.Load(s.options.ConfigDir)
	if err != nil {
		return err
	}
	var l layout.Layout
	if err := snap.Main().Fill(&l); err != nil {
		return err
	}
	owner, err := l.Owner()
	if err != nil {
		return err
	}
	s.snap, s.layout, s.owner = snap, l, owner
	return nil
}

func (s *supervisor) start(ctx context.Context) error {
	wanted, err := listen.Wanted(s.snap)
	if err != nil {
		return err
	}
	if s.open, err = s.open.With(wanted, s.owner); err != nil {
		return err
	}
	if os.Geteuid() == 0 && !s.options.OneProcess {
		s.engine, err = newChildren(s)
	} else {
		s.engine, err = newInProcess(s)
	}
	if err != nil {
		return err
	}
	if err := s.engine.configure(ctx, s.open, s.logFile); err != nil {
		s.engine.stop()
		return err
	}
	return nil
}

// oddities logs settings without effect: no setting is silent.
func (s *supervisor) oddities() {
	list, err := config.Check(s.snap)
	if err != nil {
		return // it says so where the value is used
	}
	log := s.log.With("postfix/postfix-script")
	for _, w := range list {
		log.Warnf("%s", w)
	}
}

// obey returns a context that ends with a signal to stop, whatever is being
// waited for then, and passes requests for a reload on.
func (s *supervisor) obey(ctx context.Context, signals <-chan os.Signal) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	s.group.Go("signals", func(context.Context) {
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.group.Stopping():
				return
			case got := <-signals:
				if got != syscall.SIGHUP {
					s.log.Infof("terminating on signal %d", got)
					return
				}
				select {
				case s.reloads <- struct{}{}:
				default: // one is due already
				}
			}
		}
	})
	return ctx
}

// watch serves reloads and brings back what died, until ctx ends.
func (s *supervisor) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reloads:
			if err := s.reload(ctx); err != nil {
				s.log.Errorf("reload: %v; the former configuration stays in use", placed(err))
			}
		case d := <-s.engine.died():
			s.engine.bury(d)
			if err := s.engine.configure(ctx, s.open, s.logFile); err != nil && ctx.Err() == nil {
				s.log.Warnf("restart: %v", placed(err))
			}
		}
	}
}

// reload takes a new configuration into use, or leaves everything as it was.
func (s *supervisor) reload(ctx context.Context) error {
	old := *s
	if err := s.load(); err != nil {
		return err
	}
	s.log.Infof("reload -- version %s, configuration %s", version.Mail, s.options.ConfigDir)
	err := s.reopenLog()
	s.oddities()
	if err == nil {
		err = s.rewire(ctx)
	}
	if err != nil {
		s.snap, s.layout, s.owner = old.snap, old.layout, old.owner
	}
	return err
}

// rewire has the engine use the configuration and its sockets; it closes the
// sockets that are not wanted any more when the engine does without them.
func (s *supervisor) rewire(ctx context.Context) error {
	wanted, err := listen.Wanted(s.snap)
	if err != nil {
		return err
	}
	next, err := s.open.With(wanted, s.owner)
	if err != nil {
		return err
	}
	if err := s.engine.configure(ctx, next, s.logFile); err != nil {
		next.CloseBut(s.open)
		return err
	}
	s.open.CloseBut(next)
	s.open = next
	return nil
}

// placed adds file and line to an error about a setting.
func placed(err error) error {
	var bad *config.ParamError
	if errors.As(err, &bad) {
		return errors.New(bad.At())
	}
	return err
}

func (s *supervisor) closeSockets() {
	for _, open := range s.open {
		open.File.Close()
	}
}

// logSettings are what says where the log goes.
type logSettings struct {
	File     string `param:"maillog_file"`
	Prefixes string `param:"maillog_file_prefixes"`
	Facility string `param:"syslog_facility"`
	Name     string `param:"syslog_name"`
	Mode     string `param:"maillog_file_permissions"`
}

// openLog opens maillog_file, or leaves the log to syslog.
func (s *supervisor) openLog() error {
	file, sink, name, err := openLogFile(s.snap)
	if err != nil {
		return err
	}
	s.logFile = file
	if file != nil {
		host, _ := os.Hostname()
		s.sink = maillog.NewFile(file, shortHost(host))
		s.group.Go("log", s.sink.Run)
		sink = s.sink
	}
	s.log = maillog.New(sink, name+"/master", os.Getpid(), nil)
	return nil
}

// reopenLog opens the log file anew: it may have been renamed or rotated.
func (s *supervisor) reopenLog() error {
	file, _, _, err := openLogFile(s.snap)
	if err != nil || file == nil {
		return err
	}
	old := s.logFile
	s.logFile = file
	if s.sink == nil {
		return errors.New("maillog_file was set while the system runs: stop and start it")
	}
	s.sink.Replace(file)
	if old != nil && old != os.Stdout {
		old.Close()
	}
	return nil
}

func (s *supervisor) flush() {
	if s.sink != nil {
		s.sink.Flush()
	}
}

// openLogFile opens where a configuration wants its log: a file, or syslog.
func openLogFile(snap *config.Snapshot) (*os.File, maillog.Sink, string, error) {
	var c logSettings
	if err := snap.Main().Fill(&c); err != nil {
		return nil, nil, "", err
	}
	switch c.File {
	case "":
		sink, err := maillog.NewSyslog("/dev/log", c.Facility)
		if err != nil {
			err = fmt.Errorf("file %s/main.cf: parameter syslog_facility: %w", snap.Dir(), err)
		}
		return nil, sink, c.Name, err
	case "/dev/stdout":
		return os.Stdout, nil, c.Name, nil
	}
	if !allowedPrefix(c.File, c.Prefixes) {
		return nil, nil, "", fmt.Errorf("maillog_file: %s does not start with a prefix of maillog_file_prefixes (%s)", c.File, c.Prefixes)
	}
	mode := os.FileMode(0o600)
	if _, err := fmt.Sscanf(c.Mode, "%o", &mode); c.Mode != "" && err != nil {
		return nil, nil, "", fmt.Errorf("maillog_file_permissions: %q is not an octal number", c.Mode)
	}
	file, err := os.OpenFile(c.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, mode)
	if err != nil {
		return nil, nil, "", fmt.Errorf("maillog_file: %w", err)
	}
	return file, nil, c.Name, nil
}
