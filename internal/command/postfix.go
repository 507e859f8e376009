package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/config/macro"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/config/version"
	"posthaste/internal/master"
	"posthaste/internal/master/layout"
	"posthaste/internal/queue/trigger"
)

// Time limits of postfix(1).
const (
	startLimit = 90 * time.Second // until the ports answer
	stopLimit  = 30 * time.Second // before stopping with force
	pollPause  = 50 * time.Millisecond

	// rotatePause is for the running system to let go of the former log.
	rotatePause = time.Second
)

// exitUnavailable is EX_UNAVAILABLE of sysexits(3).
const exitUnavailable = 69

// control is one run of postfix(1).
type control struct {
	env    *Env
	dir    string
	snap   *config.Snapshot
	layout layout.Layout
}

// subcommands of postfix(1), as its usage message lists them.
var subcommands = map[string]func(*control, context.Context) int{
	"start": (*control).start, "start-fg": (*control).startForeground, "stop": (*control).stop,
	"quick-stop": (*control).stop, "drain": (*control).stop, "abort": (*control).abort,
	"reload": (*control).reload, "flush": (*control).flush, "check": (*control).check, "status": (*control).status,
	"set-permissions": (*control).setPermissions, "upgrade-configuration": (*control).setPermissions,
	"logrotate": (*control).logrotate,
}

// Postfix is postfix(1): it starts, stops and watches over the mail system.
func Postfix(ctx context.Context, env *Env) int {
	options := env.Getopt("c:Dv")
	flagC := ""
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case '?':
			return env.Fatalf("usage: %s [-c config_dir] [-Dv] command", env.Name)
		}
	}
	c := &control{env: env, dir: config.Dir(flagC, env.Getenv)}
	word := strings.Join(options.Operands(), " ")
	if status := c.load(); status != 0 {
		return status
	}
	run, ok := subcommands[word]
	if !ok {
		return c.fatal("unknown command: '%s'. Usage: postfix start (or stop, reload, abort, flush, check, status, "+
			"set-permissions, upgrade-configuration, logrotate, tls, non-bdb)", word)
	}
	return run(c, ctx)
}

// info says something in the words and the name of Postfix's logger command,
// which its scripts call.
func (c *control) info(format string, args ...any) {
	fmt.Fprintf(c.env.Stderr, "postfix/postlog: %s\n", fmt.Sprintf(format, args...))
}

func (c *control) warn(format string, args ...any) { c.info("warning: "+format, args...) }

func (c *control) fatal(format string, args ...any) int {
	c.info("fatal: "+format, args...)
	return 1
}

// load reads the configuration and says what is wrong or odd about it.
func (c *control) load() int {
	snap, err := config.Load(c.dir)
	var entry *mastercf.Error
	if err != nil && !errors.As(err, &entry) {
		var param *config.ParamError
		if errors.As(err, &param) {
			for _, text := range param.Warnings {
				c.env.Warnf("%s", text)
			}
			return c.env.Fatalf("%s", param.Error())
		}
		return c.env.Fatalf("%v", err)
	}
	if err != nil {
		fmt.Fprintf(c.env.Stderr, "postconf: fatal: %v\n", entry)
		return c.fatal("cannot execute /usr/sbin/postconf!")
	}
	c.snap = snap
	c.compatibility()
	if err := snap.Main().Fill(&c.layout); err != nil {
		return c.env.Fatalf("%v", err)
	}
	return c.oddities()
}

// compatibility tells those whose main.cf asks for the defaults of old.
func (c *control) compatibility() {
	level, err := c.snap.Main().Level()
	newest, _ := macro.ParseLevel(version.Level)
	if err != nil || level.Compare(newest) >= 0 {
		return
	}
	for _, text := range []string{
		"Postfix is using backwards-compatible default settings",
		"See https://www.postfix.org/COMPATIBILITY_README.html for details",
		`To disable backwards compatibility use "postconf compatibility_level=` + version.Level + `" and "postfix reload"`,
	} {
		fmt.Fprintf(c.env.Stderr, "%s: %s\n", c.env.Name, text)
		logLine(c.snap, "postfix", text)
	}
}

// oddities lists settings without effect, in postconf's words; a terminal is
// also told the line and the nearest name, and so is the log when the system
// takes the configuration into use.
func (c *control) oddities() int {
	list, err := config.Check(c.snap)
	if err != nil {
		fmt.Fprintf(c.env.Stderr, "postconf: fatal: %v\n", err)
		return c.fatal("cannot execute /usr/sbin/postconf!")
	}
	old := false
	for _, w := range list {
		old = old || w.Finding == config.Deprecated
		text := w.Text
		if isTerminal(c.env.Stderr) {
			text = w.String()
		}
		fmt.Fprintf(c.env.Stderr, "postconf: warning: %s\n", text)
	}
	if old {
		fmt.Fprintf(c.env.Stderr, "postconf: warning: %s\n", deprecation)
	}
	return 0
}

func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// running returns the supervisor's process id, 0 without one.
func (c *control) running() int {
	pid, err := layout.Running(c.layout.QueueDirectory)
	if err != nil {
		c.warn("%v", err)
	}
	return pid
}

func (c *control) status(context.Context) int {
	if pid := c.running(); pid != 0 {
		c.info("the Postfix mail system is running: PID: %d", pid)
		return 0
	}
	c.info("the Postfix mail system is not running")
	return 1
}

// start launches the supervisor in the background and waits until it listens.
func (c *control) start(ctx context.Context) int {
	if c.running() != 0 {
		return c.fatal("the Postfix mail system is already running")
	}
	if err := c.layout.Create(false); err != nil {
		c.warn("%v", err)
		return c.fatal("Postfix integrity check failed!")
	}
	c.info("starting the Postfix mail system")
	if err := c.launch(ctx); err != nil {
		fmt.Fprintf(c.env.Stderr, "postfix/master: fatal: %v\n", err)
		return c.fatal("mail system startup failed")
	}
	return 0
}

// launch runs "posthaste master" as a daemon; it tells on a pipe how it went.
func (c *control) launch(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command(self)
	cmd.Args = []string{"posthaste", "master", "-c", c.dir, "-w"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	answer := make([]byte, 4096)
	read.SetReadDeadline(time.Now().Add(startLimit))
	n, err := read.Read(answer)
	if err != nil || n == 0 {
		return errors.New("the daemon died without a word; see the log")
	}
	if text := string(answer[:n]); text != readyWord {
		return errors.New(strings.TrimSpace(text))
	}
	return cmd.Process.Release()
}

func (c *control) startForeground(ctx context.Context) int {
	if c.running() != 0 {
		return c.fatal("the Postfix mail system is already running")
	}
	c.info("starting the Postfix mail system")
	if err := master.Run(ctx, master.Options{ConfigDir: c.dir, Foreground: true}); err != nil {
		return c.env.Fatalf("%v", err)
	}
	return 0
}

// stop asks the supervisor to end, and after a while insists.
func (c *control) stop(ctx context.Context) int {
	return c.end(ctx, "stopping", syscall.SIGTERM)
}

func (c *control) abort(ctx context.Context) int {
	return c.end(ctx, "aborting", syscall.SIGQUIT)
}

func (c *control) end(ctx context.Context, doing string, how syscall.Signal) int {
	pid := c.running()
	if pid == 0 {
		return c.fatal("the Postfix mail system is not running")
	}
	c.info("%s the Postfix mail system", doing)
	if err := syscall.Kill(pid, how); err != nil {
		return c.fatal("signal process %d: %v", pid, err)
	}
	if c.gone(ctx, stopLimit) {
		return 0
	}
	c.warn("stopping the Postfix mail system with force")
	syscall.Kill(pid, syscall.SIGKILL)
	if !c.gone(ctx, stopLimit) {
		return 1
	}
	return 0
}

// gone waits until no supervisor holds the lock.
func (c *control) gone(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for c.running() != 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (c *control) reload(context.Context) int {
	pid := c.running()
	if pid == 0 {
		return c.fatal("the Postfix mail system is not running")
	}
	c.info("refreshing the Postfix mail system")
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return c.fatal("signal process %d: %v", pid, err)
	}
	return 0
}

func (c *control) flush(ctx context.Context) int {
	if trigger.Send(ctx, filepath.Join(c.layout.QueueDirectory, "public", "qmgr"), trigger.FlushAll) != nil {
		fmt.Fprintln(c.env.Stderr, "postqueue: fatal: Cannot flush mail queue - mail system is down")
		return exitUnavailable
	}
	return 0
}

// check makes missing directories and looks for wrong owners and modes and
// for damaged messages.
func (c *control) check(context.Context) int {
	if err := c.layout.Create(false); err != nil {
		c.warn("%v", err)
		return c.fatal("unable to create missing queue directories")
	}
	for _, text := range c.layout.Check() {
		c.warn("%s", text)
	}
	return 0
}

func (c *control) setPermissions(context.Context) int {
	if err := c.layout.Create(true); err != nil {
		return c.fatal("%v", err)
	}
	return 0
}

// logrotate renames maillog_file and lets the running system open a new one
// (postfix(1), postconf(5) maillog_file_rotate_suffix).
func (c *control) logrotate(context.Context) int {
	var s struct {
		File       string `param:"maillog_file"`
		Suffix     string `param:"maillog_file_rotate_suffix"`
		Compressor string `param:"maillog_file_compressor"`
	}
	if err := c.snap.Main().Fill(&s); err != nil {
		return c.env.Fatalf("%v", err)
	}
	switch {
	case s.File == "":
		return c.fatal("empty 'maillog_file' parameter value - logfile rotation failed")
	case strings.HasPrefix(s.File, "/dev/"):
		return c.fatal("not rotating '%s'", s.File)
	}
	rotated := s.File + "." + strftime(time.Now(), s.Suffix)
	err := os.Rename(s.File, rotated)
	if pid := c.running(); err == nil && pid != 0 {
		err = syscall.Kill(pid, syscall.SIGHUP)
	}
	if err == nil && s.Compressor != "" {
		<-time.After(rotatePause)
		err = exec.Command(s.Compressor, rotated).Run()
	}
	if err != nil {
		return c.fatal("logfile '%s' rotation failed: %v", s.File, err)
	}
	return 0
}

// strftime knows the conversions of maillog_file_rotate_suffix's default.
func strftime(t time.Time, layout string) string {
	for conversion, form := range map[string]string{"%Y": "2006", "%m": "01", "%d": "02", "%H": "15", "%M": "04", "%S": "05"} {
		layout = strings.ReplaceAll(layout, conversion, t.Format(form))
	}
	return layout
}

// logLine puts a line into the mail log of the running system, or of none.
func logLine(snap *config.Snapshot, tag, text string) {
	var s struct {
		Queue string `param:"queue_directory"`
	}
	if snap.Main().Fill(&s) == nil {
		master.LogTo(filepath.Join(s.Queue, "public", "postlog"), tag, text)
	}
}
