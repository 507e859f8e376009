package indexed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"

	"golang.org/x/sys/unix"
)

// Duplicates is what happens to a second entry with a known key.
type Duplicates uint8

const (
	Warn    Duplicates = iota // keep the first and complain
	Replace                   // the last counts (-r)
	Ignore                    // keep the first (-w)
)

// Null is whether keys and values end in a NUL.
type Null uint8

const (
	NullDefault Null = iota // as Postfix on Linux: not in cdb
	NullAlways              // -N
	NullNever               // -n
)

// Update is a new version of a table. Nothing of it shows until Commit, which
// replaces the file in one step.
type Update struct {
	kind, path string
	set        Settings
	pairs      map[string]string
	order      []string // keys as they came; some may be gone
	done       []pair   // made by stored
	locked     *os.File // the version that is edited, until Commit
}

// Settings are those of an Update.
type Settings struct {
	Log        *maillog.Logger
	Duplicates Duplicates
	Null       Null
	// Mode of a new file. An existing .db or .lmdb file keeps its own.
	Mode fs.FileMode
}

// Create begins a table from nothing.
func Create(kind, name string, set Settings) (*Update, error) {
	if suffix[kind] == "" {
		return nil, fmt.Errorf("unsupported dictionary type: %s does not support bulk-mode creation.", kind)
	}
	if set.Mode == 0 {
		set.Mode = 0o644
	}
	return &Update{kind: kind, path: Path(kind, name), set: set, pairs: map[string]string{}}, nil
}

// Edit begins with what the table has now. errors.Is(err, fs.ErrNotExist) tells
// a table that does not exist yet.
func Edit(kind, name string, set Settings) (*Update, error) {
	u, err := Create(kind, name, set)
	if err != nil {
		return nil, err
	}
	if kind == "cdb" {
		return nil, errors.New("dict_cdb_open: inappropriate open flags for cdb database - specify O_RDONLY or O_WRONLY|O_CREAT|O_TRUNC")
	}
	if u.locked, err = lockForEdit(u.path); err != nil {
		return nil, openError{kind, u.path, err}
	}
	c, err := read(kind, u.locked)
	if err != nil {
		return nil, openError{kind, u.path, err}
	}
	if set.Null == NullDefault && c.null {
		u.set.Null = NullAlways
	}
	err = c.each(func(key, value []byte) error {
		u.put(string(trimNull(key)), string(trimNull(value)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("error reading %s: %s", u.path, strerror.Text(err))
	}
	return u, nil
}

// lockForEdit opens the file that is behind path when nobody else edits it any
// more: another editor may have put a new file there while we waited.
func lockForEdit(path string) (*os.File, error) {
	for {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil && !errors.Is(err, unix.ENOTSUP) {
			file.Close()
			return nil, err
		}
		mine, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return file, nil
		}
		file.Close()
	}
}

// Set adds an entry in the place of the one with the same key.
func (u *Update) Set(key, value string) { u.put(key, value) }

// Put adds an entry.
func (u *Update) Put(key, value string) {
	if _, known := u.pairs[key]; known {
		switch u.set.Duplicates {
		case Warn:
			u.set.Log.Warnf("%s: duplicate entry: \"%s\"", u.title(), key)
			return
		case Ignore:
			return
		}
	}
	u.put(key, value)
}

func (u *Update) put(key, value string) {
	if _, known := u.pairs[key]; !known {
		u.order = append(u.order, key)
	}
	u.pairs[key] = value
}

// title is the table's name in complaints, which each library puts its own way.
func (u *Update) title() string {
	switch u.kind {
	case "cdb":
		return u.path[:len(u.path)-len(".cdb")]
	case "lmdb":
		return "lmdb:" + u.path[:len(u.path)-len(".lmdb")]
	}
	return u.path
}

// Delete removes an entry and reports whether there was one.
func (u *Update) Delete(key string) bool {
	_, found := u.pairs[key]
	delete(u.pairs, key)
	return found
}

// stored are the pairs as the file has them. A btree is in the order of keys.
func (u *Update) stored() []pair {
	if u.pairs == nil {
		return u.done
	}
	null := u.set.Null == NullAlways || (u.set.Null == NullDefault && u.kind != "cdb")
	bytesOf := func(s string) []byte {
		if null {
			return append([]byte(s), 0)
		}
		return []byte(s)
	}
	list := make([]pair, 0, len(u.pairs))
	for _, key := range u.order {
		if value, ok := u.pairs[key]; ok {
			list = append(list, pair{bytesOf(key), bytesOf(value)})
			delete(u.pairs, key) // a key that was deleted and came back is in order twice
		}
	}
	if u.kind == "btree" {
		slices.SortFunc(list, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	}
	u.done, u.pairs = list, nil
	return list
}

func (u *Update) write(out io.Writer) error {
	switch u.kind {
	case "lmdb":
		return writeLMDB(out, u.stored())
	case "cdb":
		return writeCDB(out, "", u.stored())
	}
	return writeCDB(out, u.kind, u.stored())
}

// Commit makes the new version the table. It must be the last call.
func (u *Update) Commit() error {
	defer u.Close()
	err := u.replace()
	if errors.Is(err, fs.ErrPermission) {
		// Not our directory, but our file, as /etc/aliases.db of a mailing
		// list's owner: then it is written in place, under a lock.
		if inPlace := u.overwrite(); !errors.Is(inPlace, fs.ErrPermission) && !errors.Is(inPlace, fs.ErrNotExist) {
			err = inPlace
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errBadSize):
		return fmt.Errorf("error updating %s: %w", u.title(), errBadSize)
	}
	return fmt.Errorf("open database %s: %s", u.path, strerror.Text(err))
}

// Close gives up an Edit that was not committed. Close after Commit does nothing.
func (u *Update) Close() {
	if u.locked != nil {
		u.locked.Close() // it was only read
		u.locked = nil
	}
}

func (u *Update) replace() (err error) {
	temp, err := os.CreateTemp(filepath.Dir(u.path), filepath.Base(u.path)+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	if err := u.inherit(temp); err != nil {
		return err
	}
	if err := u.write(temp); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), u.path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(u.path))
}

// inherit gives the new file the mode, and if we may, the owner of the old one.
func (u *Update) inherit(temp *os.File) error {
	mode := u.set.Mode
	if old, err := os.Stat(u.path); err == nil && u.kind != "cdb" {
		mode = old.Mode().Perm()
		if st, ok := old.Sys().(*syscall.Stat_t); ok {
			_ = temp.Chown(int(st.Uid), int(st.Gid)) // only root may; others keep what they are
		}
	}
	return temp.Chmod(mode)
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// overwrite writes an existing file in place.
func (u *Update) overwrite() error {
	var content bytes.Buffer
	file, err := os.OpenFile(u.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := u.write(&content); err != nil {
		return err
	}
	u.Close() // our own lock would be in the way
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := file.WriteAt(content.Bytes(), 0); err != nil {
		return err
	}
	if err := file.Truncate(int64(content.Len())); err != nil {
		return err
	}
	return file.Sync()
}
