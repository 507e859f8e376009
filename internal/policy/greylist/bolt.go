package greylist

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"posthaste/internal/sys/maillog"
)

const (
	flushEvery = time.Second
	flushSoon  = 10_000  // changes that are not waited with
	maxDirty   = 400_000 // changes in memory while the disk does not keep up
	flushBatch = 5_000   // changes in one transaction
	shards     = 64
	lockWait   = time.Second
)

// ErrDamaged is the error while a damaged file is not replaced yet.
var ErrDamaged = errors.New("the database is damaged")

// errBehind is the error when changes come faster than the disk takes them.
var errBehind = errors.New("the disk does not keep up with changes")

// Bolt is a Store in a file. Changes are in memory at once and in the file
// within a second: a crash loses no more than that. A file that cannot be read
// is put aside, as NAME.damaged, and begun anew. Run has to run.
type Bolt struct {
	path string
	log  *maillog.Logger

	mu     sync.RWMutex // of db
	db     *bolt.DB     // nil while damaged
	commit func(db *bolt.DB, change func(tx *bolt.Tx) error) error

	flushing sync.Mutex // one flush at a time
	seed     maphash.Seed
	shards   [shards]shard
	dirty    atomic.Int64
	stored   [kinds]atomic.Int64 // entries in the file
	added    [kinds]atomic.Int64 // puts that are not there yet
	wake     chan struct{}
	complain throttle
}

// shard holds changes that are not in the file yet.
type shard struct {
	mu            sync.RWMutex
	fresh, moving map[place]change // moving ones are being written
}

type place struct {
	kind Kind
	key  string
}

type change struct {
	entry   Entry
	deleted bool
}

// OpenBolt opens the file at path, or begins it. A damaged one is put aside.
// The error is about the place: no permission, or another process has it.
func OpenBolt(path string, log *maillog.Logger) (*Bolt, error) {
	b := &Bolt{path: path, log: log, seed: maphash.MakeSeed(), wake: make(chan struct{}, 1),
		commit: func(db *bolt.DB, change func(tx *bolt.Tx) error) error { return db.Update(change) }}
	for i := range b.shards {
		b.shards[i].fresh = map[place]change{}
	}
	err := b.open()
	if isDamage(err) {
		err = b.replace(err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return b, nil
}

// isDamage tells trouble with what is in the file.
func isDamage(err error) bool {
	return err != nil && !errors.Is(err, berrors.ErrTimeout) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) &&
		(errors.Is(err, ErrDamaged) || errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrVersionMismatch) || errors.Is(err, berrors.ErrChecksum) ||
			strings.Contains(err.Error(), "file size too small"))
}

// guarded turns what a damaged file does to the library, panics and memory
// faults, into ErrDamaged.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, v)
		}
	}()
	return f()
}

var metaBucket, lengthKey = []byte("meta"), []byte("lengths")

func bucketName(kind Kind) []byte { return []byte(kind.String()) }

func (b *Bolt) open() error {
	if err := checkFile(b.path); err != nil {
		return err
	}
	var db *bolt.DB
	err := guarded(func() (err error) {
		// The free list is kept in the file: to find it anew, the library goes
		// through all pages in a goroutine of its own, where damage would end
		// the process.
		db, err = bolt.Open(b.path, 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
		if err != nil {
			return err
		}
		return db.Update(func(tx *bolt.Tx) error {
			for _, kind := range Kinds() {
				if _, err := tx.CreateBucketIfNotExists(bucketName(kind)); err != nil {
					return err
				}
			}
			meta, err := tx.CreateBucketIfNotExists(metaBucket)
			if err != nil {
				return err
			}
			b.readLengths(meta.Get(lengthKey))
			return nil
		})
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.db = db
	b.mu.Unlock()
	return nil
}

// replace puts the file aside and begins a new one. The old one stays open if
// the library hangs on to it.
func (b *Bolt) replace(reason error) error {
	b.log.Warnf("greylist: %s: %v; a new one is begun, the old one is now %s.damaged", b.path, reason, b.path)
	b.mu.Lock()
	b.db = nil
	b.mu.Unlock()
	if err := os.Rename(b.path, b.path+".damaged"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return b.open()
}

func (b *Bolt) readLengths(value []byte) {
	for i := range b.stored {
		b.stored[i].Store(0)
		if len(value) >= 8*(i+1) {
			b.stored[i].Store(int64(binary.BigEndian.Uint64(value[8*i:])))
		}
	}
}

func (b *Bolt) writeLengths(meta *bolt.Bucket, lengths [kinds]int64) error {
	var value []byte
	for _, n := range lengths {
		value = binary.BigEndian.AppendUint64(value, uint64(n))
	}
	return meta.Put(lengthKey, value)
}

func (b *Bolt) shard(p place) *shard {
	return &b.shards[maphash.Comparable(b.seed, p)%shards]
}

// Get implements Store.
func (b *Bolt) Get(_ context.Context, kind Kind, key string) (Entry, bool, error) {
	p := place{kind, key}
	s := b.shard(p)
	s.mu.RLock()
	c, ok := s.fresh[p]
	if !ok {
		c, ok = s.moving[p]
	}
	s.mu.RUnlock()
	if ok {
		return c.entry, !c.deleted, nil
	}
	var e Entry
	found := false
	err := b.view(func(tx *bolt.Tx) error {
		if value := tx.Bucket(bucketName(kind)).Get([]byte(key)); value != nil {
			e, found = decode(value)
		}
		return nil
	})
	return e, found, err
}

// view reads from the file. A damaged one is replaced by Run.
func (b *Bolt) view(read func(tx *bolt.Tx) error) error {
	b.mu.RLock()
	db := b.db
	b.mu.RUnlock()
	if db == nil {
		return ErrDamaged
	}
	err := guarded(func() error { return db.View(read) })
	if errors.Is(err, ErrDamaged) {
		b.damaged(db, err)
	}
	return err
}

// damaged gives a file up.
func (b *Bolt) damaged(db *bolt.DB, err error) {
	b.mu.Lock()
	if b.db == db {
		b.db = nil
		b.log.Warnf("greylist: %s: %v", b.path, err)
	}
	b.mu.Unlock()
	b.poke()
}

func (b *Bolt) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Put implements Store.
func (b *Bolt) Put(_ context.Context, kind Kind, key string, e Entry) error {
	return b.change(place{kind, strings.Clone(key)}, change{entry: e})
}

// Delete implements Store.
func (b *Bolt) Delete(_ context.Context, kind Kind, key string) error {
	return b.change(place{kind, strings.Clone(key)}, change{deleted: true})
}

func (b *Bolt) change(p place, c change) error {
	s := b.shard(p)
	s.mu.Lock()
	old, ok := s.fresh[p]
	if !ok && b.dirty.Load() >= maxDirty {
		s.mu.Unlock()
		return errBehind
	}
	s.fresh[p] = c
	s.mu.Unlock()
	switch {
	case !ok && !c.deleted, ok && old.deleted && !c.deleted:
		b.added[p.kind].Add(1)
	case ok && !old.deleted && c.deleted:
		b.added[p.kind].Add(-1)
	}
	if !ok && b.dirty.Add(1) == flushSoon {
		b.poke()
	}
	return nil
}

// Len implements Store.
func (b *Bolt) Len(_ context.Context, kind Kind) (int, error) {
	return int(max(b.stored[kind].Load()+b.added[kind].Load(), 0)), nil
}

// Scan implements Store.
func (b *Bolt) Scan(_ context.Context, kind Kind, after string, limit int) ([]Item, error) {
	if err := b.Flush(); err != nil {
		return nil, err
	}
	var items []Item
	err := b.view(func(tx *bolt.Tx) error {
		items = items[:0]
		c := tx.Bucket(bucketName(kind)).Cursor()
		key, value := c.Seek([]byte(after))
		if key != nil && string(key) == after {
			key, value = c.Next()
		}
		for ; key != nil && len(items) < limit; key, value = c.Next() {
			e, _ := decode(value) // the zero entry is old, and swept
			items = append(items, Item{string(key), e})
		}
		return nil
	})
	return items, err
}

// Run writes changes out until ctx ends, and then what is left.
func (b *Bolt) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			b.tryFlush()
			return
		case <-ticker.C:
		case <-b.wake:
		}
		b.tryFlush()
	}
}

func (b *Bolt) tryFlush() {
	b.mu.RLock()
	gone := b.db == nil
	b.mu.RUnlock()
	if gone {
		if err := b.replace(ErrDamaged); err != nil && b.complain.allow(time.Now()) {
			b.log.Warnf("greylist: %s: %v", b.path, err)
		}
	}
	if err := b.Flush(); err != nil && b.complain.allow(time.Now()) {
		b.log.Warnf("greylist: %s: %v; %d changes wait", b.path, err, b.dirty.Load())
	}
}

// Flush writes changes to the file. What could not be written is tried again
// with the next flush.
func (b *Bolt) Flush() error {
	b.flushing.Lock()
	defer b.flushing.Unlock()
	places := b.take()
	var err error
	for batch := range slices.Chunk(places, flushBatch) {
		if err == nil {
			err = b.write(batch)
		}
		b.done(batch, err == nil)
	}
	return err
}

// take makes the fresh changes moving ones, and lists them in the order of the
// file.
func (b *Bolt) take() []place {
	var places []place
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		s.moving, s.fresh = s.fresh, make(map[place]change, len(s.fresh))
		for p := range s.moving {
			places = append(places, p)
		}
		s.mu.Unlock()
	}
	slices.SortFunc(places, func(x, y place) int {
		return cmp.Or(cmp.Compare(x.kind, y.kind), strings.Compare(x.key, y.key))
	})
	return places
}

// done takes changes out of memory, or puts them back to be tried again.
func (b *Bolt) done(batch []place, written bool) {
	for _, p := range batch {
		s := b.shard(p)
		s.mu.Lock()
		c := s.moving[p]
		delete(s.moving, p)
		_, newer := s.fresh[p]
		if !written && !newer {
			s.fresh[p] = c
		}
		s.mu.Unlock()
		if written || newer {
			b.dirty.Add(-1)
			if !c.deleted {
				b.added[p.kind].Add(-1)
			}
		}
	}
}

// write writes one batch.
func (b *Bolt) write(batch []place) error {
	b.mu.RLock()
	db := b.db
	b.mu.RUnlock()
	if db == nil {
		return ErrDamaged
	}
	var lengths [kinds]int64
	err := guarded(func() error {
		return b.commit(db, func(tx *bolt.Tx) error {
			for i := range lengths {
				lengths[i] = b.stored[i].Load()
			}
			for _, p := range batch {
				n, err := b.apply(tx.Bucket(bucketName(p.kind)), p)
				if err != nil {
					return err
				}
				lengths[p.kind] += n
			}
			return b.writeLengths(tx.Bucket(metaBucket), lengths)
		})
	})
	if errors.Is(err, ErrDamaged) {
		b.damaged(db, err)
	}
	if err != nil {
		return err
	}
	for i := range lengths {
		b.stored[i].Store(lengths[i])
	}
	return nil
}

// apply makes one change; grown is by how many entries the bucket grows.
func (b *Bolt) apply(bucket *bolt.Bucket, p place) (grown int64, err error) {
	s := b.shard(p)
	s.mu.RLock()
	c := s.moving[p]
	s.mu.RUnlock()
	key := []byte(p.key)
	had := bucket.Get(key) != nil
	switch {
	case !c.deleted:
		if !had {
			grown = 1
		}
		return grown, bucket.Put(key, encode(c.entry))
	case had:
		return -1, bucket.Delete(key)
	}
	return 0, nil
}

// Close writes what is left and closes the file. Nothing may be under way.
func (b *Bolt) Close() error {
	err := b.Flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return err
	}
	db := b.db
	b.db = nil
	return errors.Join(err, guarded(db.Close))
}

// encode: times and count as numbers of variable length, the second time as
// its distance from the first.
func encode(e Entry) []byte {
	value := binary.AppendVarint(make([]byte, 0, 12), e.First)
	value = binary.AppendVarint(value, e.Last-e.First)
	if e.Count > 0 {
		value = binary.AppendUvarint(value, uint64(e.Count))
	}
	return value
}

// decode reads a value; one that makes no sense is as good as none.
func decode(value []byte) (e Entry, ok bool) {
	r := bytes.NewReader(value)
	first, err1 := binary.ReadVarint(r)
	distance, err2 := binary.ReadVarint(r)
	if err1 != nil || err2 != nil {
		return Entry{}, false
	}
	e = Entry{First: first, Last: first + distance}
	if r.Len() > 0 {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > 1<<32-1 {
			return Entry{}, false
		}
		e.Count = uint32(n)
	}
	return e, true
}

var _ Store = (*Bolt)(nil)
