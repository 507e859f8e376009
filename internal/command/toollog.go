package command

import (
	"fmt"
	"os"

	"posthaste/internal/command/cli"
	"posthaste/internal/config"
	"posthaste/internal/sys/maillog"
)

// toolSink writes log lines to standard error as commands do, and to the mail
// log when there is one.
type toolSink struct {
	env *Env
	log maillog.Sink
}

// Write implements maillog.Sink.
func (s toolSink) Write(l maillog.Line) {
	fmt.Fprintf(s.env.Stderr, "%s: %s\n", s.env.Name, l.Text)
	if s.log != nil {
		s.log.Write(l)
	}
}

// toolLog is the log of a command that reports to people and to the mail log:
// postmap(1), DIAGNOSTICS.
func (e *Env) toolLog(view *config.View) *maillog.Logger {
	sink := toolSink{env: e}
	tag := e.Name
	if view != nil {
		if name, err := view.String("syslog_name"); err == nil && name != "" {
			tag = name + "/" + e.Name
		}
		if log, err := cli.ServiceSink(view); err == nil {
			sink.log = log
		}
	}
	return maillog.New(sink, tag, os.Getpid(), nil)
}
