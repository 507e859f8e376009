package table

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"posthaste/internal/sys/maillog"
)

// Type opens the tables of one kind, such as "hash".
type Type struct {
	Name string
	// Open opens the table that is called name behind the colon. The text of
	// its error is what the log says: "open database /etc/x.db: No such file
	// or directory".
	Open func(o *Opener, name string, use Use) (Table, error)
}

// Setup is what an Opener needs from the outside. Zero fields have defaults.
type Setup struct {
	Log *maillog.Logger
	// Types are the known kinds of table; package table/all has the full list.
	Types []Type
	// DefaultType is default_database_type, for names without a type in the
	// commands. Parameters always name the type.
	DefaultType string
	// OpenFile opens for reading; a helper with more rights may stand behind
	// it. Default os.Open.
	OpenFile func(path string) (*os.File, error)
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// ProxyAllowed tells whether proxy_read_maps lists "type:name". nil allows all.
	ProxyAllowed func(spec string) bool
	// UTF8 is smtputf8_enable: keys and results must be UTF-8 then, and case
	// folding is Unicode's.
	UTF8 bool
	// Getenv is what environ: reads. Default os.Getenv.
	Getenv func(string) string
}

// Opener opens tables by "type:name". Users of the same table share it, and
// each closes its own handle. Safe for concurrent use.
type Opener struct {
	subject string // "type:name(0,flags)" of the table that is being opened
	setup   Setup
	log     *maillog.Logger
	shared  *sharedTables
}

// NewOpener makes an opener.
func NewOpener(s Setup) *Opener {
	if s.OpenFile == nil {
		s.OpenFile = os.Open
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Getenv == nil {
		s.Getenv = os.Getenv
	}
	if s.DefaultType == "" {
		s.DefaultType = "hash"
	}
	types := make(map[string]Type, len(s.Types))
	for _, t := range s.Types {
		types[t.Name] = t
	}
	return &Opener{setup: s, log: s.Log, shared: &sharedTables{types: types, open: map[sharedKey]*source{}}}
}

// With returns an opener of the same tables whose complaints go to log, so
// that they carry the role's tag.
func (o *Opener) With(log *maillog.Logger) *Opener {
	other := *o
	other.log = log
	return &other
}

// Log is where complaints go.
func (o *Opener) Log() *maillog.Logger { return o.log }

// Now is the opener's clock.
func (o *Opener) Now() time.Time { return o.setup.Now() }

// OpenFile opens a file for reading.
func (o *Opener) OpenFile(path string) (*os.File, error) { return o.setup.OpenFile(path) }

// Getenv reads the environment that environ: sees.
func (o *Opener) Getenv(name string) string { return o.setup.Getenv(name) }

// UTF8 is smtputf8_enable.
func (o *Opener) UTF8() bool { return o.setup.UTF8 }

// DefaultType is default_database_type.
func (o *Opener) DefaultType() string { return o.setup.DefaultType }

// ProxyAllowed reports whether proxy_read_maps lists proxy:spec, spec being "type:name".
func (o *Opener) ProxyAllowed(spec string) bool {
	return o.setup.ProxyAllowed == nil || o.setup.ProxyAllowed(spec)
}

// Types returns the names of the known types.
func (o *Opener) Types() []string {
	var names []string
	for _, t := range o.setup.Types {
		names = append(names, t.Name)
	}
	return names
}

// Type finds a type by name.
func (o *Opener) Type(name string) (Type, bool) {
	t, ok := o.shared.types[name]
	return t, ok
}

// Permanent marks a reason that no later try mends: a type that is not known,
// a name that cannot be read.
type Permanent struct{ Reason string }

func (p Permanent) Error() string { return p.Reason }

// Open opens "type:name". It always returns a Table: one that could not be
// opened logs why, once, and then its every lookup fails with "type:name is
// unavailable. reason" while opening is tried again, at most once a second,
// unless the reason is Permanent.
func (o *Opener) Open(spec string, use Use) Table {
	key := sharedKey{spec, use}
	o.shared.mu.Lock()
	src := o.shared.open[key]
	if src == nil {
		src = &source{opener: o, key: key}
		o.shared.open[key] = src
	}
	src.users++
	o.shared.mu.Unlock()

	_, err := src.current()
	if err != nil {
		o.log.Errorf("%s", err)
	}
	return &handle{source: src, log: o.log}
}

// Reason returns why a table from Open is not available, nil when it is.
func Reason(t Table) error {
	if h, ok := t.(*handle); ok {
		_, err := h.source.current()
		return err
	}
	return nil
}

// Unwrap returns the table itself behind what Open returned, nil when it is
// not available.
func Unwrap(t Table) Table {
	if h, ok := t.(*handle); ok {
		inner, err := h.source.current()
		if err != nil {
			return nil
		}
		return Unwrap(inner)
	}
	return t
}

// openNow opens spec without sharing.
func (o *Opener) openNow(spec string, use Use) (Table, error) {
	kind, name, ok := strings.Cut(spec, ":")
	if !ok || kind == "" || name == "" {
		return nil, Permanent{fmt.Sprintf("open dictionary: expecting \"type:name\" form instead of \"%s\"", spec)}
	}
	t, ok := o.shared.types[kind]
	if !ok {
		return nil, Permanent{"unsupported dictionary type: " + kind}
	}
	own := *o
	own.subject = fmt.Sprintf("%s(0,%s)", spec, use.flags(o.setup.UTF8))
	return t.Open(&own, name, use)
}

type sharedKey struct {
	spec string
	use  Use
}

type sharedTables struct {
	types map[string]Type
	mu    sync.Mutex
	open  map[sharedKey]*source
}

// source is one table, shared by its handles.
type source struct {
	opener *Opener
	key    sharedKey
	users  int // under sharedTables.mu

	mu     sync.Mutex
	table  Table
	err    error
	tried  time.Time
	closed bool
}

// retryOpen is how long a table that cannot be opened stays so.
const retryOpen = time.Second

// current returns the open table, opening it when it is time to.
func (s *source) current() (Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table != nil {
		return s.table, nil
	}
	if s.closed {
		return nil, errors.New("table is closed")
	}
	now := s.opener.Now()
	var permanent Permanent
	if s.err != nil && (errors.As(s.err, &permanent) || now.Sub(s.tried) < retryOpen) {
		return nil, s.err
	}
	s.tried = now
	s.table, s.err = s.opener.openNow(s.key.spec, s.key.use)
	return s.table, s.err
}

func (s *source) release() error {
	shared := s.opener.shared
	shared.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(shared.open, s.key)
	}
	shared.mu.Unlock()
	if !last {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.table == nil {
		return nil
	}
	t := s.table
	s.table = nil
	return t.Close()
}

// handle is one user's hold on a table.
type handle struct {
	source *source
	log    *maillog.Logger
	once   sync.Once
}

func (h *handle) Lookup(ctx context.Context, key string) (string, bool, error) {
	t, err := h.source.current()
	if err != nil {
		return "", false, fmt.Errorf("%s is unavailable. %w", h.Name(), err)
	}
	return h.source.opener.ask(ctx, t, key, h.source.key.use)
}

func (h *handle) Fixed() bool {
	t, err := h.source.current()
	// A table that is not there answers every key, with its error.
	return err != nil || t.Fixed()
}

func (h *handle) Name() string { return h.source.key.spec }

func (h *handle) Close() error {
	var err error
	h.once.Do(func() { err = h.source.release() })
	return err
}
