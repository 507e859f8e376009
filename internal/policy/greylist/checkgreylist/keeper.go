package checkgreylist

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"posthaste/internal/policy/greylist"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

// The names of the database and of the socket for the greylist command, below
// data_directory.
const (
	DatabaseName = "greylist.db"
	SocketName   = "greylist.sock"
)

// reopenEvery is how long mail is let through before a database that could not
// be opened is tried again.
const reopenEvery = time.Minute

// Keeper keeps the database of all services of a process, over reloads. It
// opens it when mail asks for it first. It is a greylist.Store.
type Keeper struct {
	dir    string
	group  *lifecycle.Group
	log    *maillog.Logger
	shared *greylist.Shared

	current atomic.Pointer[greylist.Greylist] // the one that sweeps and obeys
	ready   atomic.Pointer[greylist.Bolt]

	mu      sync.Mutex // of opening
	next    time.Time  // try
	problem error
}

// NewKeeper keeps the database in dir. Its work is done in group, and ends when
// that stops.
func NewKeeper(dir string, group *lifecycle.Group, log *maillog.Logger) *Keeper {
	return &Keeper{dir: dir, group: group, log: log, shared: greylist.NewShared()}
}

// store is the database, opened if need be.
func (k *Keeper) store() (*greylist.Bolt, error) {
	if s := k.ready.Load(); s != nil {
		return s, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.ready.Load(); s != nil {
		return s, nil
	}
	if now := time.Now(); now.After(k.next) {
		k.next = now.Add(reopenEvery)
		s, err := greylist.OpenBolt(filepath.Join(k.dir, DatabaseName), k.log)
		if err == nil {
			k.work(s)
			k.ready.Store(s)
			return s, nil
		}
		k.problem = err
	}
	return nil, k.problem
}

// work starts what the database needs. It ends when the group is asked to, and
// not only when the group's patience is over.
func (k *Keeper) work(s *greylist.Bolt) {
	ctx, cancel := context.WithCancel(k.group.Context())
	k.group.Go("greylist", func(ctx context.Context) {
		select {
		case <-k.group.Stopping():
		case <-ctx.Done():
		}
		cancel()
	})
	k.group.Go("greylist database", func(context.Context) {
		s.Run(ctx)
		if err := s.Close(); err != nil {
			k.log.Warnf("greylist: close: %v", err)
		}
	})
	k.group.Go("greylist upkeep", func(context.Context) { k.upkeep(ctx) })
	ln, err := greylist.ListenControl(filepath.Join(k.dir, SocketName))
	if err != nil {
		k.log.Warnf("greylist: %v", err)
		return
	}
	k.group.Go("greylist control", func(context.Context) { greylist.ServeControl(ctx, k.group, ln, k) })
}

// upkeep reads what is listed and sweeps, with the settings of the moment.
func (k *Keeper) upkeep(ctx context.Context) {
	if g := k.current.Load(); g != nil {
		if err := g.LoadListed(ctx); err != nil {
			k.log.Warnf("greylist: %v", err)
		}
	}
	for k.shared.WaitForSweep(ctx) {
		if g := k.current.Load(); g != nil {
			if err := g.Sweep(ctx); err != nil && ctx.Err() == nil {
				k.log.Warnf("greylist: sweep: %v", err)
			}
		}
	}
}

// Obey carries an order out (greylist.Order).
func (k *Keeper) Obey(ctx context.Context, o greylist.Order) greylist.Reply {
	g := k.current.Load()
	if g == nil {
		return greylist.Reply{Error: "no service greylists"}
	}
	return g.Obey(ctx, o)
}

// Get implements greylist.Store.
func (k *Keeper) Get(ctx context.Context, kind greylist.Kind, key string) (greylist.Entry, bool, error) {
	s, err := k.store()
	if err != nil {
		return greylist.Entry{}, false, err
	}
	return s.Get(ctx, kind, key)
}

// Put implements greylist.Store.
func (k *Keeper) Put(ctx context.Context, kind greylist.Kind, key string, e greylist.Entry) error {
	s, err := k.store()
	if err != nil {
		return err
	}
	return s.Put(ctx, kind, key, e)
}

// Delete implements greylist.Store.
func (k *Keeper) Delete(ctx context.Context, kind greylist.Kind, key string) error {
	s, err := k.store()
	if err != nil {
		return err
	}
	return s.Delete(ctx, kind, key)
}

// Scan implements greylist.Store.
func (k *Keeper) Scan(ctx context.Context, kind greylist.Kind, after string, limit int) ([]greylist.Item, error) {
	s, err := k.store()
	if err != nil {
		return nil, err
	}
	return s.Scan(ctx, kind, after, limit)
}

// Len implements greylist.Store.
func (k *Keeper) Len(ctx context.Context, kind greylist.Kind) (int, error) {
	s, err := k.store()
	if err != nil {
		return 0, err
	}
	return s.Len(ctx, kind)
}

var _ greylist.Store = (*Keeper)(nil)

// missing says which file could not be read.
func missing(param string, err error) error { return fmt.Errorf("%s: %w", param, err) }
