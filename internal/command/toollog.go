package command

import (
	"fmt"
	"os"

	"posthaste/internal/config"
	"posthaste/internal/sys/maillog"
)

// toolSink writes log lines to standard error as commands do, and to the
// system log when there is one.
type toolSink struct {
	env    *Env
	syslog maillog.Sink
}

// Write implements maillog.Sink.
func (s toolSink) Write(l maillog.Line) {
	fmt.Fprintf(s.env.Stderr, "%s: %s\n", s.env.Name, l.Text)
	if s.syslog != nil {
		s.syslog.Write(l)
	}
}

// syslogSocket is where the system log daemon listens.
const syslogSocket = "/dev/log"

// toolLog is the log of a command that reports to people and to the mail log:
// postmap(1), DIAGNOSTICS.
func (e *Env) toolLog(view *config.View) *maillog.Logger {
	sink := toolSink{env: e}
	tag := e.Name
	if view != nil {
		if name, err := view.String("syslog_name"); err == nil && name != "" {
			tag = name + "/" + e.Name
		}
		facility, _ := view.String("syslog_facility")
		if _, err := os.Stat(syslogSocket); err == nil {
			if s, err := maillog.NewSyslog(syslogSocket, facility); err == nil {
				sink.syslog = s
			}
		}
	}
	return maillog.New(sink, tag, os.Getpid(), nil)
}
