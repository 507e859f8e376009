package verify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Cache keeps what is known about addresses. Losing it costs probes, nothing
// else. Safe for concurrent use.
type Cache interface {
	get(address string) (entry, bool)
	put(address string, e entry)
	// sweep drops the entries that keep says no to, at most once in interval,
	// and tells whether it did.
	sweep(now time.Time, interval time.Duration, keep func(entry) bool) (retained, dropped int, done bool)
	// Name is the cache's name in the log.
	Name() string
	Close() error
}

// entry is what is known about one address.
type entry struct {
	state   state
	probed  time.Time // when a probe was sent that was not answered yet
	updated time.Time // when it was answered last; zero for never
	text    string
}

// state numbers are those of Postfix.
type state int

const (
	stateOK state = iota
	stateDeferred
	stateBounced
	stateToDo
)

// maxText bounds the text of an entry, which comes from a remote host.
const maxText = 1024

func (e entry) encode() string {
	return fmt.Sprintf("%d:%d:%d:%s", e.state, unix(e.probed), unix(e.updated), e.text[:min(len(e.text), maxText)])
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func parse(text string) (entry, bool) {
	parts := strings.SplitN(text, ":", 4)
	if len(parts) != 4 {
		return entry{}, false
	}
	var n [3]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil || n[i] < 0 {
			return entry{}, false
		}
	}
	if n[0] > int64(stateToDo) {
		return entry{}, false
	}
	at := func(n int64) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return time.Unix(n, 0)
	}
	return entry{state(n[0]), at(n[1]), at(n[2]), parts[3]}, true
}

// maxMemory bounds a cache in memory, in entries.
const maxMemory = 100_000

// memory is a Cache that ends with the process.
type memory struct {
	mu      sync.Mutex
	entries map[string]entry
	swept   time.Time
}

// Memory makes a cache that is not kept (address_verify_map empty).
func Memory() Cache { return &memory{entries: map[string]entry{}} }

func (m *memory) Name() string { return "internal:verify" }
func (m *memory) Close() error { return nil }

func (m *memory) get(address string) (entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[address]
	return e, ok
}

func (m *memory) put(address string, e entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.entries[address]; !known && len(m.entries) >= maxMemory {
		for other := range m.entries { // any will do
			delete(m.entries, other)
			break
		}
	}
	e.text = e.text[:min(len(e.text), maxText)]
	m.entries[address] = e
}

func (m *memory) sweep(now time.Time, interval time.Duration, keep func(entry) bool) (retained, dropped int, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.swept.IsZero() && now.Sub(m.swept) < interval {
		return 0, 0, false
	}
	m.swept = now
	for address, e := range m.entries {
		if keep(e) {
			retained++
		} else {
			delete(m.entries, address)
			dropped++
		}
	}
	return retained, dropped, true
}

// file is a Cache in a file.
type file struct {
	name string
	db   *bbolt.DB
}

var (
	entries = []byte("addresses")
	notes   = []byte("notes")
	sweptAt = []byte("last cleanup")
)

// openWait is how long opening waits for somebody else who has the file open.
const openWait = time.Second

// Open opens a cache in the file at path, or makes it. A file that is no cache
// is replaced by an empty one. name is what the log calls it.
func Open(path, name string) (Cache, error) {
	db, err := openDB(path)
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) && !errors.Is(err, os.ErrPermission) {
		if os.Remove(path) == nil {
			db, err = openDB(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return &file{name: name, db: db}, nil
}

func openDB(path string) (db *bbolt.DB, err error) {
	defer func() { // a damaged file may make the library panic
		if v := recover(); v != nil {
			err = fmt.Errorf("damaged: %v", v)
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: openWait})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(entries)
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(notes)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (f *file) Name() string { return f.name }
func (f *file) Close() error { return f.db.Close() }

func (f *file) get(address string) (e entry, ok bool) {
	_ = f.db.View(func(tx *bbolt.Tx) error {
		if text := tx.Bucket(entries).Get([]byte(address)); text != nil {
			e, ok = parse(string(text))
		}
		return nil
	})
	return e, ok
}

// put may fail, as on a full disk: then the address is probed again.
func (f *file) put(address string, e entry) {
	if address == "" || len(address) > bbolt.MaxKeySize {
		return
	}
	_ = f.db.Batch(func(tx *bbolt.Tx) error {
		return tx.Bucket(entries).Put([]byte(address), []byte(e.encode()))
	})
}

// sweepStep is how many entries one transaction drops, so that others get a
// turn in between.
const sweepStep = 1000

func (f *file) sweep(now time.Time, interval time.Duration, keep func(entry) bool) (retained, dropped int, done bool) {
	var last int64
	_ = f.db.View(func(tx *bbolt.Tx) error {
		last, _ = strconv.ParseInt(string(tx.Bucket(notes).Get(sweptAt)), 10, 64)
		return nil
	})
	if last > 0 && now.Sub(time.Unix(last, 0)) < interval {
		return 0, 0, false
	}
	var from []byte
	for more := true; more; {
		err := f.db.Update(func(tx *bbolt.Tx) error {
			more = false
			c := tx.Bucket(entries).Cursor()
			key, text := c.Seek(from)
			for n := 0; key != nil; key, text = c.Next() {
				if n++; n > sweepStep {
					from, more = append(from[:0:0], key...), true
					return nil
				}
				if e, ok := parse(string(text)); ok && keep(e) {
					retained++
					continue
				}
				if err := c.Delete(); err != nil {
					return err
				}
				dropped++
			}
			return tx.Bucket(notes).Put(sweptAt, strconv.AppendInt(nil, now.Unix(), 10))
		})
		if err != nil {
			break
		}
	}
	return retained, dropped, true
}
