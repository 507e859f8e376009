package greylist

import (
	"context"
	"sort"
	"strings"
	"sync"
)

// Kind is what an entry of a Store is about.
type Kind uint8

const (
	Triplets   Kind = iota // by client network, sender and recipient
	Clients                // deliveries of a client, by its address
	ListedHost             // clients that an administrator let through for good
	ListedRcpt             // recipients that are not greylisted
	kinds
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{Triplets, Clients, ListedHost, ListedRcpt} }

// String is the name of the kind in commands.
func (k Kind) String() string {
	return [...]string{"triplets", "clients", "whitelist-clients", "whitelist-recipients"}[k]
}

// Entry is what is known about a key. Times are seconds since 1970.
type Entry struct {
	First int64  `json:"first"`
	Last  int64  `json:"last"` // of a triplet, after First only when it passed
	Count uint32 `json:"count,omitempty"`
}

// passed tells a triplet that came again in time.
func (e Entry) passed() bool { return e.Last > e.First }

// Item is an Entry with its key.
type Item struct {
	Key string `json:"key"`
	Entry
}

// Store keeps what the greylist knows. Implementations may lose the last
// second's changes in a crash, and may be shared by several hosts: two that
// write one key at the same time is no harm, the last one counts. An error
// means that the store does not work now; the caller lets mail through. Safe
// for concurrent use. Package greylisttest has the suite that each
// implementation has to pass.
type Store interface {
	Get(ctx context.Context, kind Kind, key string) (e Entry, found bool, err error)
	Put(ctx context.Context, kind Kind, key string, e Entry) error
	Delete(ctx context.Context, kind Kind, key string) error
	// Scan returns up to limit items with keys above after, in the order of
	// keys. It sees all changes that were made before it began.
	Scan(ctx context.Context, kind Kind, after string, limit int) ([]Item, error)
	// Len is the number of entries of a kind. It is quick, exact after a
	// Scan, and may else be a little too high for keys that were put or deleted
	// in the last seconds.
	Len(ctx context.Context, kind Kind) (int, error)
}

// Memory is a Store in memory: for tests, and for when there is nothing else.
type Memory struct {
	mu      sync.RWMutex
	entries [kinds]map[string]Entry
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	m := &Memory{}
	for kind := range m.entries {
		m.entries[kind] = map[string]Entry{}
	}
	return m
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, kind Kind, key string) (Entry, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.entries[kind][key]
	return e, ok, nil
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, kind Kind, key string, e Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[kind][strings.Clone(key)] = e
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(_ context.Context, kind Kind, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries[kind], key)
	return nil
}

// Scan implements Store.
func (m *Memory) Scan(_ context.Context, kind Kind, after string, limit int) ([]Item, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var items []Item
	for key, e := range m.entries[kind] {
		if key > after {
			items = append(items, Item{key, e})
		}
	}
	sort.Slice(items, func(i, j int) bool { return items[i].Key < items[j].Key })
	return items[:min(limit, len(items))], nil
}

// Len implements Store.
func (m *Memory) Len(_ context.Context, kind Kind) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.entries[kind]), nil
}

var _ Store = (*Memory)(nil)
