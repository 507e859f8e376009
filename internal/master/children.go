package master

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sort"
	"syscall"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/master/listen"
	"posthaste/internal/sys/maillog"
)

// children is the engine of a system started by root: a mail process and a
// delivery process. When either dies, both are started anew.
type children struct {
	super *supervisor
	exits chan death

	mail, delivery *exec.Cmd
	policy         *worker.PolicyFile // of the delivery process
	control        *link
	answers        chan error // to configure
	started        time.Time
	failures       int // quick deaths in a row
}

func newChildren(s *supervisor) (*children, error) {
	policy, err := worker.NewPolicyFile(workerPolicy(s.snap))
	if err != nil {
		return nil, err
	}
	return &children{super: s, exits: make(chan death, 4), policy: policy}, nil
}

// death is the end of a process that was not asked to end, or never began.
type death struct {
	cmd *exec.Cmd // nil: no process could be started
	why string
}

func (c *children) died() <-chan death { return c.exits }

// bury ends the other process when one died: each is useless without the other.
func (c *children) bury(d death) {
	c.super.log.Warnf("%s", d.why)
	if d.cmd == nil {
		return
	}
	other := c.mail
	if d.cmd == c.mail {
		other = c.delivery
	}
	other.Process.Kill()
	for e := range c.exits {
		if e.cmd == other {
			break
		}
	}
	c.mail, c.delivery = nil, nil
}

// configure starts the processes if they do not run, and passes everything on.
// Processes that cannot begin their work are ended: their death is followed by
// another try.
func (c *children) configure(ctx context.Context, open listen.Sockets, log *os.File) error {
	if err := c.policy.Set(workerPolicy(c.super.snap)); err != nil {
		return err
	}
	if c.mail != nil {
		return c.pass(ctx, open, log)
	}
	if err := c.spawn(ctx); err != nil {
		c.exits <- death{why: "mail: cannot start"}
		return err
	}
	err := c.pass(ctx, open, log)
	if err != nil {
		c.mail.Process.Kill()
	}
	return err
}

// pass hands the sockets and the log to the mail process, which reads the
// configuration anew.
func (c *children) pass(ctx context.Context, open listen.Sockets, log *os.File) error {
	keys := make([]string, 0, len(open))
	for key := range open {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	m := message{Op: "configure", Log: log != nil}
	var files []*os.File
	if log != nil {
		files = append(files, log)
	}
	for _, key := range keys {
		m.Listeners = append(m.Listeners, open[key].Service)
		files = append(files, open[key].File)
	}
	if len(files) > maxFiles {
		return fmt.Errorf("master.cf: %d sockets are too many, at most %d", len(files), maxFiles)
	}
	if err := c.control.send(m, files...); err != nil {
		return fmt.Errorf("mail process: %w", err)
	}
	select {
	case err := <-c.answers:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(readyLimit):
		return errors.New("the mail process does not answer")
	}
}

// spawn starts both processes, slowly after quick deaths.
func (c *children) spawn(ctx context.Context) error {
	if err := c.throttle(ctx); err != nil {
		return err
	}
	ours, theirs, err := newLinks()
	if err != nil {
		return err
	}
	defer theirs.Close()
	mailEnd, deliveryEnd, err := worker.SocketPair()
	if err != nil {
		return err
	}
	defer mailEnd.Close()
	defer deliveryEnd.Close()
	dir := c.super.options.ConfigDir
	c.delivery, err = c.run("delivery", nil, []string{"-c", dir}, deliveryEnd, c.policy.File())
	if err != nil {
		return err
	}
	owner := c.super.owner
	credential := &syscall.Credential{Uid: uint32(owner.UID), Gid: uint32(owner.GID), Groups: []uint32{uint32(owner.GID)}}
	c.mail, err = c.run("mail", credential, []string{"-c", dir}, theirs, mailEnd)
	if err != nil {
		c.delivery.Process.Kill()
		<-c.exits
		return err
	}
	c.control, c.answers, c.started = ours, make(chan error, 1), time.Now()
	answers := c.answers
	c.super.group.Go("control link", func(context.Context) { c.serve(ours, answers) })
	return nil
}

// lastWords is how long a dead process's messages are read: its workers may
// hold the pipe open.
const lastWords = 100 * time.Millisecond

// throttle waits before another start when the last process lived too briefly
// (postconf(5) service_throttle_time).
func (c *children) throttle(ctx context.Context) error {
	if c.started.IsZero() {
		return nil
	}
	limit, err := c.super.snap.Main().Duration("service_throttle_time")
	if err != nil {
		return err
	}
	if time.Since(c.started) > limit {
		c.failures = 0
	}
	wait := min(time.Second<<min(c.failures, 10), limit)
	if c.failures++; wait == limit {
		c.super.log.Warnf("mail: bad command startup -- throttling")
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run starts this binary again in a role.
func (c *children) run(role string, as *syscall.Credential, args []string, files ...*os.File) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{"posthaste", "posthaste-" + role}, args...)
	cmd.Dir = c.super.layout.QueueDirectory
	cmd.ExtraFiles = files
	cmd.Env = childEnvironment()
	if role == "delivery" {
		cmd.Env = append(cmd.Env, c.policy.Environ(4))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setsid: true}
	// A pipe of our own: workers inherit it, and may outlive their process.
	output, stderr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = stderr
	err = cmd.Start()
	stderr.Close()
	if err != nil {
		output.Close()
		return nil, fmt.Errorf("start %s process: %w", role, err)
	}
	c.super.group.Go(role+" output", func(context.Context) {
		c.relay(role, output)
		output.Close()
	})
	c.super.group.Go(role+" process", func(context.Context) {
		err := cmd.Wait()
		output.SetReadDeadline(time.Now().Add(lastWords))
		why := "exit status 0"
		if err != nil {
			why = err.Error()
		}
		c.exits <- death{cmd, fmt.Sprintf("process %s pid %d %s", role, cmd.Process.Pid, why)}
	})
	return cmd, nil
}

// childEnvironment is what survives of ours (postconf(5) import_environment).
func childEnvironment() []string {
	env := []string{"PATH=/usr/bin:/bin"}
	for _, name := range []string{"MAIL_CONFIG", "TZ", "LANG", "GOCOVERDIR", "GOMAXPROCS", "GODEBUG"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// relay logs what a process says on standard error: the trace of a crash.
func (c *children) relay(role string, output io.Reader) {
	for lines := bufio.NewScanner(output); lines.Scan(); {
		c.super.log.Warnf("%s: %s", role, lines.Text())
	}
}

// serve answers the mail process until it is gone.
func (c *children) serve(l *link, answers chan<- error) {
	defer l.close()
	for {
		m, files, err := l.receive()
		if err != nil {
			answer(answers, errors.New("the mail process is gone"))
			return
		}
		for _, f := range files {
			f.Close()
		}
		switch m.Op {
		case "ready":
			answer(answers, nil)
		case "failed":
			answer(answers, errors.New(m.Error))
		case "open":
			c.lend(l, m.Path)
		}
	}
}

func answer(answers chan<- error, err error) {
	select {
	case answers <- err:
	default:
	}
}

// lend opens a file that mail_owner may not read, such as a table with
// passwords, if the configuration names it.
func (c *children) lend(l *link, path string) {
	file, err := openNamed(c.super.snap, path)
	if err != nil {
		l.send(message{Op: "opened", Path: path, Error: err.Error()})
		return
	}
	defer file.Close()
	l.send(message{Op: "opened", Path: path}, file)
}

// stop asks the mail process to end, and after its grace makes both end.
func (c *children) stop() {
	if c.mail == nil {
		return
	}
	c.control.send(message{Op: "stop"})
	deadline := time.After(2*stopGrace + time.Second)
	for gone := 0; gone < 2; gone++ {
		select {
		case <-c.exits:
			c.delivery.Process.Signal(syscall.SIGTERM)
		case <-deadline:
			c.mail.Process.Kill()
			c.delivery.Process.Kill()
			return
		}
	}
}

var _ engine = (*children)(nil)

// openNamed opens a file for reading if the configuration mentions it.
func openNamed(snap *config.Snapshot, path string) (*os.File, error) {
	if !mentioned(snap, path) {
		return nil, fmt.Errorf("%s is not named in the configuration", path)
	}
	return os.Open(path)
}

// shared between the processes: how a log line's host name is cut.
func shortHost(host string) string {
	for i := range host {
		if host[i] == '.' {
			return host[:i]
		}
	}
	return host
}

var _ maillog.Sink = (*maillog.File)(nil)
