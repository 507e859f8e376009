package indexed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"

	"golang.org/x/sys/unix"
)

// suffix is what each type adds to the name of the source file.
var suffix = map[string]string{"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb"}

// Path is the file that postmap makes for a table.
func Path(kind, name string) string { return name + suffix[kind] }

// Kinds are the types that can be written.
func Kinds() []string { return []string{"btree", "cdb", "hash", "lmdb"} }

// ErrType is a file that is a table of another type than its name says.
var ErrType = errors.New("unexpected file type or format")

// Hash opens hash:name, the file name.db.
func Hash(o *table.Opener, name string, use table.Use) (table.Table, error) {
	return open(o, "hash", name)
}

// Btree opens btree:name, the file name.db.
func Btree(o *table.Opener, name string, use table.Use) (table.Table, error) {
	return open(o, "btree", name)
}

// CDB opens cdb:name, the file name.cdb.
func CDB(o *table.Opener, name string, use table.Use) (table.Table, error) {
	return open(o, "cdb", name)
}

// LMDB opens lmdb:name, the file name.lmdb.
func LMDB(o *table.Opener, name string, use table.Use) (table.Table, error) {
	return open(o, "lmdb", name)
}

// indexed is an open table. Its name in complaints has the file's suffix, but
// for lmdb:, as in Postfix.
type indexed struct {
	name    string // with the file's name
	spec    string // as in the configuration
	current *table.Following[contents]
}

// contents is one version of the file.
type contents struct {
	reader
	storage *storage
	null    bool // keys and values end in a NUL
}

func (c contents) inMemory() bool { return c.storage.memory != nil }

func open(o *table.Opener, kind, name string) (table.Table, error) {
	path := Path(kind, name)
	current, err := table.Follow(o, path, func(file *os.File) (contents, error) {
		c, err := load(kind, file)
		if err == nil {
			warnOlder(o, path, name, file)
		}
		return c, err
	})
	if err != nil {
		return nil, openError{kind, path, err}
	}
	current.Removable(func(err error) error { return openError{kind, path, err} })
	shown := path
	if kind == "lmdb" {
		shown = name
	}
	return &indexed{kind + ":" + shown, kind + ":" + name, current}, nil
}

// openError is the reason in the words of the type's library.
type openError struct {
	kind, path string
	err        error
}

func (e openError) Error() string {
	text := strerror.Text(e.err)
	if errors.Is(e.err, errCorrupt) || errors.Is(e.err, ErrType) {
		switch e.kind {
		case "cdb":
			return fmt.Sprintf("dict_cdbq_open: unable to init %s: Protocol error", e.path)
		case "lmdb":
			text = "MDB_INVALID: File is not an LMDB file"
		default:
			text = "Invalid argument"
		}
	}
	return fmt.Sprintf("open database %s: %s", e.path, text)
}

func (e openError) Unwrap() error { return e.err }

// load reads a version of the file while nobody writes it in place. The file
// stays open as part of it if it is large.
func load(kind string, file *os.File) (contents, error) {
	if err := lock(file); err != nil {
		return contents{}, err
	}
	c, err := read(kind, file)
	if err != nil {
		return contents{}, err
	}
	if c.inMemory() {
		return c, file.Close()
	}
	return c, unlock(file)
}

func unlock(file *os.File) error {
	if err := unix.Flock(int(file.Fd()), unix.LOCK_UN); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

// read reads a version of the file.
func read(kind string, file *os.File) (contents, error) {
	info, err := file.Stat()
	if err != nil {
		return contents{}, err
	}
	if !info.Mode().IsRegular() {
		return contents{}, fmt.Errorf("%w: not a regular file", errCorrupt)
	}
	s, err := newStorage(file, info.Size())
	if err != nil {
		return contents{}, err
	}
	r, err := openReader(kind, s)
	if err != nil {
		return contents{}, err
	}
	c := contents{reader: r, storage: s}
	c.null, err = endsInNull(r)
	return c, err
}

// lockPatience is how long opening waits for somebody who writes in place.
const lockPatience = 50

// lock takes a shared lock. Somebody who holds an exclusive one for long makes
// the table unavailable, rather than the caller wait.
func lock(file *os.File) error {
	var err error
	for range lockPatience {
		err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("somebody is writing it: %w", err)
	}
	return nil // a file system without locks is read without
}

// openReader picks the format by what the file begins with; .db files are
// Berkeley DB's or our own.
func openReader(kind string, s *storage) (reader, error) {
	if kind == "lmdb" {
		if !isLMDB(s) {
			return nil, errCorrupt
		}
		return openLMDB(s)
	}
	if kind == "cdb" {
		return openCDB(s)
	}
	if magic, _ := bdbMagic(s); magic != 0 {
		if (magic == bdbHashMagic) != (kind == "hash") {
			return nil, ErrType
		}
		return openBDB(s)
	}
	c, err := openCDB(s)
	if err != nil {
		return nil, err
	}
	if mark := c.mark(); mark != kind {
		return nil, ErrType
	}
	return c, nil
}

var errStop = errors.New("enough")

// endsInNull looks at the first pair.
func endsInNull(r reader) (bool, error) {
	null := false
	err := r.each(func(key, _ []byte) error {
		null = bytes.HasSuffix(key, []byte{0})
		return errStop
	})
	if err != nil && !errors.Is(err, errStop) {
		return false, err
	}
	return null, nil
}

// sourceGrace is how much newer the source may be before the log says so: an
// editor saves just before postmap runs.
const sourceGrace = 100 * time.Second

func warnOlder(o *table.Opener, path, source string, file *os.File) {
	built, err := file.Stat()
	if err != nil {
		return
	}
	written, err := os.Stat(source)
	if err != nil {
		return
	}
	if written.ModTime().After(built.ModTime()) && written.ModTime().Before(o.Now().Add(-sourceGrace)) {
		o.Log().Warnf("database %s is older than source file %s", path, source)
	}
}

// Lookup implements table.Table.
func (t *indexed) Lookup(_ context.Context, key string) (string, bool, error) {
	c, err := t.current.Value()
	if err != nil {
		return "", false, fmt.Errorf("%s is unavailable. %w", t.spec, err)
	}
	stored := make([]byte, 0, 64)
	stored = append(stored, key...)
	if c.null {
		stored = append(stored, 0)
	}
	value, found, err := c.get(stored)
	if err != nil {
		return "", false, fmt.Errorf("error reading %s: %s", t.name, strerror.Text(err))
	}
	return string(trimNull(value)), found, nil
}

func trimNull(b []byte) []byte { return bytes.TrimSuffix(b, []byte{0}) }

func (t *indexed) Fixed() bool  { return true }
func (t *indexed) Name() string { return t.name }
func (t *indexed) Close() error { return nil }

// All implements table.Lister.
func (t *indexed) All(_ context.Context, yield func(key, value string) error) error {
	return t.current.Get().each(func(key, value []byte) error {
		return yield(string(trimNull(key)), string(trimNull(value)))
	})
}

// OwnerID implements table.Owner.
func (t *indexed) OwnerID() (int, bool) { return t.current.OwnerID() }
