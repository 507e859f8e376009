// Package cli is what the commands have in common: the world they see, their
// options, their configuration and where they complain.
//
// Commands live in package command and in packages below it; they touch
// nothing but their Env.
package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
)

// Exit statuses (sysexits(3)).
const (
	ExitUsage       = 64
	ExitNoUser      = 67
	ExitUnavailable = 69
	ExitSoftware    = 70
	ExitTempFail    = 75
	ExitNoPerm      = 77
)

// Env is what a command sees of the world; the same as command.Env.
type Env struct {
	Name   string // the command's name, as in diagnostics
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// Tool is a command with its configuration read.
type Tool struct {
	*Env
	View *config.View
	Log  *maillog.Logger // the mail log only, not standard error
	sink *sink
	file string // maillog_file
}

// params are what every command needs.
type params struct {
	SyslogName string `param:"syslog_name"`
	Facility   string `param:"syslog_facility"`
	LogFile    string `param:"maillog_file"`
	LogService string `param:"postlog_service_name"`
	QueueDir   string `param:"queue_directory"`
}

// Load reads the configuration in the directory that option -c or MAIL_CONFIG
// names. When it cannot be used, it says why and gives an exit status.
func (e *Env) Load(flagC string) (*Tool, int) {
	snap, err := config.LoadMain(config.Dir(flagC, e.Getenv))
	t := &Tool{Env: e}
	var p params
	if err == nil {
		t.View = snap.Main()
		err = t.View.Fill(&p)
	}
	if err != nil {
		var param *config.ParamError
		if errors.As(err, &param) {
			for _, text := range param.Warnings {
				t.Warnf("%s", text)
			}
		}
		return nil, t.Fatal(1, "%v", err)
	}
	t.sink, t.file = newSink(&p), p.LogFile
	t.Log = maillog.New(t.sink, p.SyslogName+"/"+e.Name, os.Getpid(), nil)
	return t, 0
}

// LogAnyway makes the log of a privileged command go to maillog_file while no
// log service runs. Others have nothing to say then.
func (t *Tool) LogAnyway() {
	if os.Geteuid() != 0 || t.file == "" || strings.HasPrefix(t.file, "/dev/") {
		return
	}
	// It is opened now, because the command may drop its rights.
	if f, err := os.OpenFile(t.file, os.O_WRONLY|os.O_APPEND, 0); err == nil {
		t.sink.file = f
	}
}

// Quiet makes what follows go to standard error only.
func (t *Tool) Quiet() { t.Log = nil }

// Fatal is Tool.Fatal while there is no log yet.
func (e *Env) Fatal(status int, format string, args ...any) int {
	fmt.Fprintf(e.Stderr, "%s: fatal: %s\n", e.Name, fmt.Sprintf(format, args...))
	return status
}

// Fill reads parameters into a struct with param tags; the exit status is not
// 0 when one is bad.
func (t *Tool) Fill(dst any) int {
	if err := t.View.Fill(dst); err != nil {
		return t.Fatal(1, "%v", err)
	}
	return 0
}

// Info says something on standard error and in the log.
func (t *Tool) Info(format string, args ...any) {
	fmt.Fprintf(t.Stderr, "%s: %s\n", t.Name, fmt.Sprintf(format, args...))
	t.Log.Infof(format, args...)
}

// Warnf says "warning: ..." there.
func (t *Tool) Warnf(format string, args ...any) {
	fmt.Fprintf(t.Stderr, "%s: warning: %s\n", t.Name, fmt.Sprintf(format, args...))
	t.Log.Warnf(format, args...)
}

// Fatal says "fatal: ..." there and returns the exit status.
func (t *Tool) Fatal(status int, format string, args ...any) int {
	fmt.Fprintf(t.Stderr, "%s: fatal: %s\n", t.Name, fmt.Sprintf(format, args...))
	t.Log.Fatalf(format, args...)
	return status
}

// Reason is the system's text for an error, as in "No such file or directory".
func Reason(err error) string { return strerror.Text(err) }

// sink puts lines where maillog_file and syslog_facility say.
type sink struct {
	socket string   // of postlogd, "" without maillog_file
	file   *os.File // where lines go while no log service runs; nil: nowhere
	syslog maillog.Sink
}

// ServiceSink is where commands log that have nothing to say while the mail
// system is down: to its log service, or to the system log.
func ServiceSink(view *config.View) (maillog.Sink, error) {
	var p params
	if err := view.Fill(&p); err != nil {
		return nil, err
	}
	s := newSink(&p)
	return s, nil
}

// syslogSocket is where the system log daemon listens.
const syslogSocket = "/dev/log"

func newSink(p *params) *sink {
	if p.LogFile != "" {
		return &sink{socket: filepath.Join(p.QueueDir, "public", p.LogService)}
	}
	s := &sink{}
	if _, err := os.Stat(syslogSocket); err == nil {
		if log, err := maillog.NewSyslog(syslogSocket, p.Facility); err == nil {
			s.syslog = log
		}
	}
	return s
}

// logTimeout bounds how long a full log socket is waited for.
const logTimeout = time.Second

// Write implements maillog.Sink. What cannot be logged is on standard error.
func (s *sink) Write(l maillog.Line) {
	if s.syslog != nil {
		s.syslog.Write(l)
		return
	}
	if s.socket == "" {
		return
	}
	conn, err := net.DialTimeout("unixgram", s.socket, logTimeout)
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(logTimeout))
		if _, err = conn.Write(maillog.Datagram(l)); err == nil {
			return
		}
	}
	s.direct(l)
}

// direct appends to the log file while no postlogd runs, for who may.
func (s *sink) direct(l maillog.Line) {
	if s.file == nil {
		return
	}
	host, _ := os.Hostname()
	_, _ = s.file.Write(maillog.AppendLine(nil, l, host))
}
