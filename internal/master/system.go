package master

import (
	"context"
	"os"
	"time"

	"posthaste/internal/sys/maillog"
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

// System is the running mail system: the roles of master.cf and what they
// share.
type System struct{ env Environment }

// NewSystem opens the queue.
func NewSystem(env Environment) (*System, error) { return &System{env: env}, nil }

// Configure takes the configuration on disk and the sockets into use.
func (s *System) Configure(ctx context.Context, listeners []Listener) error { return nil }

// Stop ends sessions and deliveries, each phase within grace.
func (s *System) Stop(grace time.Duration) {}
