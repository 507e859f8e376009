package spool

import (
	"errors"
	"io/fs"
	"strings"
	"sync"

	"posthaste/internal/queue"
	"posthaste/internal/sys/vfs"
)

// Names of directories that are not queues of committed mail.
const (
	Maildrop  = "maildrop"
	DeferLog  = "defer"
	BounceLog = "bounce"
	TraceLog  = "trace"
	FlushLog  = "flush"
)

// Directories are those of a queue directory that the mail system owns alone
// (mode 0700).
func Directories() []string {
	return []string{"incoming", "active", "deferred", "hold", "corrupt", DeferLog, BounceLog, TraceLog, FlushLog, "private", "saved"}
}

// Bits of a file's mode (mail_queue(3) of Postfix): complete, and to be
// returned to the sender at the next attempt.
const (
	readyMode   fs.FileMode = 0o700
	draftMode   fs.FileMode = 0o600
	ExpireMode  fs.FileMode = 0o010
	messageMode             = readyMode | ExpireMode
)

// Ready reports a complete message file.
func Ready(i vfs.Info) bool { return i.Mode.IsRegular() && i.Mode&readyMode == readyMode }

// maxDepth is the limit of hash_queue_depth.
const maxDepth = 3

// Layout knows where files are: hashed subdirectories and how to walk them.
// The queue commands share it with Spool.
type Layout struct {
	FS     vfs.FS
	depth  int
	hashed map[string]bool
}

// NewLayout takes hash_queue_names and hash_queue_depth.
func NewLayout(fsys vfs.FS, c Config) Layout {
	l := Layout{FS: fsys, depth: max(0, min(c.HashDepth, maxDepth)), hashed: map[string]bool{}}
	for _, name := range strings.FieldsFunc(c.HashNames, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		l.hashed[name] = true
	}
	return l
}

// Depth is the number of subdirectory levels of a directory.
func (l *Layout) Depth(dir string) int {
	if l.hashed[dir] {
		return l.depth
	}
	return 0
}

// Path is where the file of id belongs. id was checked by queue.IsID.
func (l *Layout) Path(dir string, id queue.ID) string {
	depth := l.Depth(dir)
	if depth == 0 {
		return dir + "/" + string(id)
	}
	var b strings.Builder
	b.WriteString(dir)
	hash := id.Hash()
	for i := range depth {
		b.WriteByte('/')
		b.WriteByte(hash[i])
	}
	b.WriteByte('/')
	b.WriteString(string(id))
	return b.String()
}

// Move renames a file and makes the subdirectories on the way.
func (l *Layout) Move(from, to string) error {
	err := l.FS.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) && l.makeDirs(to) {
		return l.FS.Rename(from, to)
	}
	return err
}

// makeDirs makes the subdirectories above a path; false if it has none.
// Others may make them at the same time.
func (l *Layout) makeDirs(path string) bool {
	deep := 0
	for i, c := range path {
		if c == '/' {
			deep++
			_ = l.FS.Mkdir(path[:i], 0o700) // the next step tells if it failed
		}
	}
	return deep > 1
}

// create makes a new file and the subdirectories on the way.
func (l *Layout) create(path string, perm fs.FileMode) (vfs.File, error) {
	f, err := l.FS.Create(path, perm)
	if errors.Is(err, fs.ErrNotExist) && l.makeDirs(path) {
		return l.FS.Create(path, perm)
	}
	return f, err
}

// Found is one name in a queue directory.
type Found struct {
	ID   queue.ID
	Path string
	Name string // the last part of Path; not a queue id if ID is ""
	Deep int    // levels of subdirectories it was found below
}

// Walk calls fn for each queue id below a directory, at whatever level of
// subdirectories it is; an error of fn ends it. A missing directory is empty.
func (l *Layout) Walk(dir string, fn func(Found) error) error {
	return l.WalkAll(dir, func(f Found) error {
		if f.ID == "" {
			return nil
		}
		return fn(f)
	})
}

// WalkAll is Walk that reports names which are not queue ids too.
func (l *Layout) WalkAll(dir string, fn func(Found) error) error {
	return l.walk(dir, 0, fn)
}

func (l *Layout) walk(dir string, deep int, fn func(Found) error) error {
	var names []string
	err := l.FS.ReadDir(dir, func(name string) bool { names = append(names, name); return true })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		path := dir + "/" + name
		if len(name) == 1 && deep < maxDepth && strings.Contains("0123456789ABCDEF", name) {
			err = l.walk(path, deep+1, fn)
		} else {
			f := Found{Path: path, Name: name, Deep: deep}
			if queue.IsID(name) {
				f.ID = queue.ID(name)
			}
			err = fn(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parent is the directory of a path.
func parent(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// dirSyncs lets concurrent callers share one sync of a directory: all that
// waited while one ran are served by the next one.
type dirSyncs struct {
	fs   vfs.FS
	mu   sync.Mutex
	dirs map[string]*dirSync
}

type dirSync struct {
	running bool
	next    *syncBatch
}

type syncBatch struct {
	lead chan struct{} // closed: one of the batch may run
	done chan struct{} // closed: err is set
	once sync.Once
	err  error
}

func (d *dirSyncs) sync(dir string) error {
	d.mu.Lock()
	if d.dirs == nil {
		d.dirs = map[string]*dirSync{}
	}
	if d.dirs[dir] == nil {
		d.dirs[dir] = &dirSync{}
	}
	s := d.dirs[dir]
	if !s.running {
		s.running = true
		d.mu.Unlock()
		return d.run(dir, s)
	}
	if s.next == nil {
		s.next = &syncBatch{lead: make(chan struct{}), done: make(chan struct{})}
	}
	b := s.next
	d.mu.Unlock()
	<-b.lead
	b.once.Do(func() {
		b.err = d.run(dir, s)
		close(b.done)
	})
	<-b.done
	return b.err
}

func (d *dirSyncs) run(dir string, s *dirSync) error {
	d.mu.Lock()
	if s.next != nil && isClosed(s.next.lead) {
		s.next = nil // this is its turn; who comes now waits for another one
	}
	d.mu.Unlock()
	err := d.fs.SyncDir(dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.next == nil {
		s.running = false
	} else {
		close(s.next.lead)
	}
	return err
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
