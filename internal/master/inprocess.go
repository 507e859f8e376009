package master

import (
	"context"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"posthaste/internal/master/listen"
	"posthaste/internal/sys/maillog"
)

// inProcess is the engine of a system started by an ordinary user: everything
// in this process, as this user.
type inProcess struct {
	super  *supervisor
	system *System
}

func newInProcess(s *supervisor) (*inProcess, error) {
	var sink maillog.Sink
	if s.sink != nil {
		sink = s.sink
	}
	system, err := NewSystem(Environment{ConfigDir: s.options.ConfigDir, Sink: sink})
	if err != nil {
		return nil, err
	}
	return &inProcess{super: s, system: system}, nil
}

func (p *inProcess) configure(ctx context.Context, open listen.Sockets, _ *os.File) error {
	given, err := duplicate(open)
	if err != nil {
		return err
	}
	return p.system.Configure(ctx, given)
}

func (p *inProcess) stop() { p.system.Stop(stopGrace) }

func (p *inProcess) died() <-chan death { return nil }

func (p *inProcess) bury(death) {}

// duplicate makes files of its own for the system, which closes them.
func duplicate(open listen.Sockets) ([]Listener, error) {
	keys := make([]string, 0, len(open))
	for key := range open {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var given []Listener
	for _, key := range keys {
		fd, err := unix.FcntlInt(open[key].File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, l := range given {
				l.File.Close()
			}
			return nil, err
		}
		given = append(given, Listener{Service: open[key].Service, File: os.NewFile(uintptr(fd), open[key].Address)})
	}
	return given, nil
}

var _ engine = (*inProcess)(nil)
