// Package vfstest is a file system in memory that can fail and can lose power.
//
// Every call may be made to fail (Hook), and Crash gives the tree as a power
// cut would leave it: data since the last Sync of a file is lost or torn, and
// names since the last SyncDir are lost, in any combination that keeps the
// order of operations on the same name. A rename is one operation: both names
// change or neither. After a failed Sync the data of that moment is never
// written, however often Sync is repeated.
//
// Tests of the queue and the maildrop use it.
package vfstest

import (
	"io"
	"io/fs"
	"path"
	"sync"
	"syscall"
	"time"

	"posthaste/internal/sys/vfs"
)

// Mem is a vfs.FS. The zero value is not usable; see New.
type Mem struct {
	// Hook is called before each operation, without any lock held; an error
	// fails it. A write whose hook fails with ErrShort keeps its first half
	// and fails with ENOSPC.
	Hook func(op, name string) error
	// After is called when an operation is done, whether it succeeded or not.
	After func(op, name string)

	mu    sync.Mutex
	dirs  map[string]map[string]*node // current names
	kept  map[string]map[string]*node // names on stable storage
	log   []nameOp                    // what Crash may or may not undo
	space int64
	uid   int
	now   func() time.Time
}

// ErrShort is for Hook: see there.
const ErrShort = syscall.Errno(0x7fff)

// node is a file; directories are the keys of Mem.dirs.
type node struct {
	data, kept      []byte
	perm, keptPerm  fs.FileMode
	mtime, keptTime time.Time
	pending         []write // since the last Sync
	isDir           bool
	uid, links      int
}

type write struct {
	off  int64
	data []byte // nil: truncated to off
}

// nameOp is one change of names: unset, then set, as one step.
type nameOp struct {
	dirs       [2]string
	name, from string // dirs[0]/name is set to n; dirs[1]/from is removed
	n          *node  // nil: dirs[0]/name is removed
}

// New makes an empty tree with room for space bytes.
func New(space int64) *Mem {
	m := &Mem{dirs: map[string]map[string]*node{}, kept: map[string]map[string]*node{}, space: space, now: time.Now}
	m.dirs["."], m.kept["."] = map[string]*node{}, map[string]*node{}
	return m
}

// SetClock replaces the clock that stamps files.
func (m *Mem) SetClock(now func() time.Time) { m.now = now }

func (m *Mem) begin(op, name string) error {
	if m.Hook != nil {
		if err := m.Hook(op, name); err != nil && err != ErrShort {
			return &fs.PathError{Op: op, Path: name, Err: err}
		} else if err != nil && op == "write" {
			return err
		}
	}
	m.mu.Lock()
	return nil
}

func (m *Mem) end(op, name string) {
	m.mu.Unlock()
	m.done(op, name)
}

func (m *Mem) done(op, name string) {
	if m.After != nil {
		m.After(op, name)
	}
}

func split(name string) (dir, base string) {
	return path.Dir(path.Clean(name)), path.Base(path.Clean(name))
}

func (m *Mem) find(name string) *node {
	dir, base := split(name)
	return m.dirs[dir][base]
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// Open implements vfs.FS.
func (m *Mem) Open(name string) (vfs.File, error) { return m.open(name, false) }

// OpenWrite implements vfs.FS.
func (m *Mem) OpenWrite(name string) (vfs.File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (vfs.File, error) {
	if err := m.begin("open", name); err != nil {
		return nil, err
	}
	defer m.end("open", name)
	n := m.find(name)
	if n == nil {
		return nil, fail("open", name, fs.ErrNotExist)
	}
	if n.isDir {
		return nil, fail("open", name, syscall.EISDIR)
	}
	return &memFile{m: m, n: n, name: name, writable: writable}, nil
}

// Create implements vfs.FS.
func (m *Mem) Create(name string, perm fs.FileMode) (vfs.File, error) {
	if err := m.begin("create", name); err != nil {
		return nil, err
	}
	defer m.end("create", name)
	dir, base := split(name)
	if m.dirs[dir] == nil {
		return nil, fail("create", name, fs.ErrNotExist)
	}
	if m.dirs[dir][base] != nil {
		return nil, fail("create", name, fs.ErrExist)
	}
	n := &node{perm: perm, mtime: m.now(), keptTime: m.now(), uid: m.uid, links: 1}
	m.apply(nameOp{dirs: [2]string{dir, dir}, name: base, n: n})
	return &memFile{m: m, n: n, name: name, writable: true}, nil
}

func (m *Mem) apply(op nameOp) {
	m.log = append(m.log, op)
	op.run(m.dirs)
}

func (op nameOp) run(dirs map[string]map[string]*node) {
	if op.from != "" {
		delete(dirs[op.dirs[1]], op.from)
	}
	if op.n == nil {
		delete(dirs[op.dirs[0]], op.name)
		return
	}
	if dirs[op.dirs[0]] == nil {
		return // its directory never reached the disk
	}
	dirs[op.dirs[0]][op.name] = op.n
	if full := path.Join(op.dirs[0], op.name); op.n.isDir && dirs[full] == nil {
		dirs[full] = map[string]*node{}
	}
}

// Rename implements vfs.FS.
func (m *Mem) Rename(from, to string) error {
	if err := m.begin("rename", from); err != nil {
		return err
	}
	defer m.end("rename", from)
	n := m.find(from)
	toDir, toBase := split(to)
	fromDir, fromBase := split(from)
	if n == nil || m.dirs[toDir] == nil {
		return fail("rename", from, fs.ErrNotExist)
	}
	m.apply(nameOp{dirs: [2]string{toDir, fromDir}, name: toBase, from: fromBase, n: n})
	return nil
}

// Remove implements vfs.FS.
func (m *Mem) Remove(name string) error {
	if err := m.begin("remove", name); err != nil {
		return err
	}
	defer m.end("remove", name)
	n := m.find(name)
	if n == nil {
		return fail("remove", name, fs.ErrNotExist)
	}
	if n.isDir && len(m.dirs[path.Clean(name)]) > 0 {
		return fail("remove", name, syscall.ENOTEMPTY)
	}
	dir, base := split(name)
	m.apply(nameOp{dirs: [2]string{dir, dir}, name: base})
	return nil
}

// Mkdir implements vfs.FS.
func (m *Mem) Mkdir(name string, perm fs.FileMode) error {
	if err := m.begin("mkdir", name); err != nil {
		return err
	}
	defer m.end("mkdir", name)
	dir, base := split(name)
	if m.dirs[dir] == nil {
		return fail("mkdir", name, fs.ErrNotExist)
	}
	if m.dirs[dir][base] != nil {
		return fail("mkdir", name, fs.ErrExist)
	}
	m.apply(nameOp{dirs: [2]string{dir, dir}, name: base, n: &node{isDir: true, perm: perm, keptPerm: perm, mtime: m.now()}})
	return nil
}

// ReadDir implements vfs.FS.
func (m *Mem) ReadDir(name string, fn func(entry string) bool) error {
	if err := m.begin("readdir", name); err != nil {
		return err
	}
	var names []string
	dir, ok := m.dirs[path.Clean(name)]
	for entry := range dir {
		names = append(names, entry)
	}
	m.end("readdir", name)
	if !ok {
		return fail("readdir", name, fs.ErrNotExist)
	}
	for _, entry := range names {
		if !fn(entry) {
			break
		}
	}
	return nil
}

// Lstat implements vfs.FS.
func (m *Mem) Lstat(name string) (vfs.Info, error) {
	if err := m.begin("lstat", name); err != nil {
		return vfs.Info{}, err
	}
	defer m.end("lstat", name)
	if n := m.find(name); n != nil {
		return n.info(), nil
	}
	return vfs.Info{}, fail("lstat", name, fs.ErrNotExist)
}

func (n *node) info() vfs.Info {
	i := vfs.Info{Mode: n.perm, Size: int64(len(n.data)), ModTime: n.mtime, UID: n.uid, Links: n.links}
	if n.isDir {
		i.Mode |= fs.ModeDir
	}
	return i
}

// Chmod implements vfs.FS.
func (m *Mem) Chmod(name string, perm fs.FileMode) error {
	return m.change("chmod", name, func(n *node) { n.perm = perm })
}

// Chtimes implements vfs.FS.
func (m *Mem) Chtimes(name string, mtime time.Time) error {
	return m.change("chtimes", name, func(n *node) { n.mtime = mtime })
}

func (m *Mem) change(op, name string, set func(*node)) error {
	if err := m.begin(op, name); err != nil {
		return err
	}
	defer m.end(op, name)
	n := m.find(name)
	if n == nil {
		return fail(op, name, fs.ErrNotExist)
	}
	set(n)
	return nil
}

// SetOwner changes the owner of a file.
func (m *Mem) SetOwner(name string, uid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.find(name).uid = uid
}

// SyncDir implements vfs.FS.
func (m *Mem) SyncDir(name string) error {
	if err := m.begin("syncdir", name); err != nil {
		return err
	}
	defer m.end("syncdir", name)
	dir := path.Clean(name)
	if m.dirs[dir] == nil {
		return fail("syncdir", name, fs.ErrNotExist)
	}
	want := make([]bool, len(m.log))
	for i := len(m.log) - 1; i >= 0; i-- {
		op := m.log[i]
		want[i] = want[i] || op.dirs[0] == dir || op.dirs[1] == dir
		for j := 0; want[i] && j < i; j++ {
			want[j] = want[j] || op.dependsOn(m.log[j])
		}
	}
	var rest []nameOp
	for i, op := range m.log {
		if want[i] {
			op.run(m.kept)
		} else {
			rest = append(rest, op)
		}
	}
	m.log = rest
	return nil
}

// dependsOn reports that op cannot be on disk without the earlier one.
func (op nameOp) dependsOn(earlier nameOp) bool {
	for _, mine := range op.names() {
		for _, other := range earlier.names() {
			if mine == other || path.Dir(mine) == other {
				return true
			}
		}
	}
	return false
}

func (op nameOp) names() []string {
	names := []string{path.Join(op.dirs[0], op.name)}
	if op.from != "" {
		names = append(names, path.Join(op.dirs[1], op.from))
	}
	return names
}

// Free implements vfs.FS.
func (m *Mem) Free() (int64, error) {
	if err := m.begin("free", "."); err != nil {
		return 0, err
	}
	defer m.end("free", ".")
	return m.space - m.used(), nil
}

func (m *Mem) used() (sum int64) {
	for _, dir := range m.dirs {
		for _, n := range dir {
			sum += int64(len(n.data))
		}
	}
	return sum
}

// SetSpace changes how many bytes fit.
func (m *Mem) SetSpace(space int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space = space
}

func (w write) apply(data []byte) []byte {
	if w.data == nil {
		if w.off < int64(len(data)) {
			return data[:w.off]
		}
		return append(data, make([]byte, w.off-int64(len(data)))...)
	}
	if grow := w.off + int64(len(w.data)) - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[w.off:], w.data)
	return data
}

// memFile is an open file.
type memFile struct {
	m        *Mem
	n        *node
	name     string
	pos      int64
	writable bool
	closed   bool
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	short := false
	if err := f.m.begin("write", f.name); err == ErrShort {
		short = true
		f.m.mu.Lock()
	} else if err != nil {
		return 0, err
	}
	defer f.m.end("write", f.name)
	if f.closed || !f.writable {
		return 0, fail("write", f.name, fs.ErrClosed)
	}
	have := int64(len(f.n.data)) - off // what is overwritten needs no room
	room := max(have, f.m.space-f.m.used()+have)
	whole := len(p)
	if short {
		p = p[:len(p)/2]
	}
	if int64(len(p)) > room {
		p = p[:max(room, 0)]
	}
	w := write{off: off, data: clip(p)}
	if len(p) > 0 {
		f.n.data = w.apply(f.n.data)
		f.n.pending = append(f.n.pending, w)
	}
	f.n.mtime = f.m.now()
	if len(p) < whole {
		return len(p), fail("write", f.name, syscall.ENOSPC)
	}
	return len(p), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.m.begin("read", f.name); err != nil {
		return 0, err
	}
	defer f.m.end("read", f.name)
	if f.closed {
		return 0, fail("read", f.name, fs.ErrClosed)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Stat() (vfs.Info, error) {
	if err := f.m.begin("fstat", f.name); err != nil {
		return vfs.Info{}, err
	}
	defer f.m.end("fstat", f.name)
	return f.n.info(), nil
}

func (f *memFile) Chmod(perm fs.FileMode) error {
	if err := f.m.begin("fchmod", f.name); err != nil {
		return err
	}
	defer f.m.end("fchmod", f.name)
	f.n.perm = perm
	return nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.m.begin("truncate", f.name); err != nil {
		return err
	}
	defer f.m.end("truncate", f.name)
	w := write{off: size}
	f.n.data = w.apply(f.n.data)
	f.n.pending = append(f.n.pending, w)
	return nil
}

func (f *memFile) Sync() error {
	if err := f.m.begin("fsync", f.name); err != nil {
		f.m.mu.Lock()
		f.n.pending = nil // the kernel drops what it could not write
		f.m.mu.Unlock()
		return err
	}
	defer f.m.end("fsync", f.name)
	for _, w := range f.n.pending {
		f.n.kept = w.apply(f.n.kept)
	}
	f.n.keptPerm, f.n.keptTime, f.n.pending = f.n.perm, f.n.mtime, nil
	return nil
}

func (f *memFile) Close() error {
	if err := f.m.begin("close", f.name); err != nil {
		f.closed = true
		return err
	}
	defer f.m.end("close", f.name)
	if f.closed {
		return fail("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
