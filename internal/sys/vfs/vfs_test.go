package vfs_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"posthaste/internal/sys/vfs"
	"posthaste/internal/sys/vfs/vfstest"
)

// Both file systems answer alike.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("Dir", func(t *testing.T) { t.Parallel(); conformance(t, vfs.Dir(t.TempDir())) })
	t.Run("Mem", func(t *testing.T) { t.Parallel(); conformance(t, vfstest.New(1<<20)) })
}

func conformance(t *testing.T, fsys vfs.FS) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	_, err := fsys.Open("a/b")
	is(err, fs.ErrNotExist)
	_, err = fsys.Create("a/b", 0o600)
	is(err, fs.ErrNotExist)
	must(fsys.Mkdir("a", 0o700))
	is(fsys.Mkdir("a", 0o700), fs.ErrExist)
	f, err := fsys.Create("a/b", 0o600)
	must(err)
	_, err = fsys.Create("a/b", 0o600)
	is(err, fs.ErrExist)
	_, err = f.Write([]byte("hello "))
	must(err)
	_, err = f.Write([]byte("world"))
	must(err)
	_, err = f.WriteAt([]byte("J"), 0)
	must(err)
	must(f.Chmod(0o700))
	must(f.Sync())
	must(f.Truncate(8))
	info, err := f.Stat()
	must(err)
	if info.Size != 8 || info.Mode != 0o700 || !info.Mode.IsRegular() || info.Links != 1 || time.Since(info.ModTime).Abs() > time.Minute {
		t.Errorf("%+v", info)
	}
	must(f.Close())
	is(fsys.Rename("a/x", "a/y"), fs.ErrNotExist)
	must(fsys.Rename("a/b", "a/c"))
	must(fsys.SyncDir("a"))
	is(fsys.SyncDir("nowhere"), fs.ErrNotExist)
	at := time.Unix(1795378010, 0)
	must(fsys.Chtimes("a/c", at))
	must(fsys.Chmod("a/c", 0o640))
	info, err = fsys.Lstat("a/c")
	must(err)
	if !info.ModTime.Equal(at) || info.Mode != 0o640 {
		t.Errorf("%+v", info)
	}
	r, err := fsys.Open("a/c")
	must(err)
	buf := make([]byte, 20)
	n, _ := r.ReadAt(buf, 1)
	if string(buf[:n]) != "ello wo" {
		t.Errorf("read %q", buf[:n])
	}
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written through a read-only file")
	}
	var names []string
	must(fsys.ReadDir("a", func(name string) bool { names = append(names, name); return true }))
	if !slices.Equal(names, []string{"c"}) {
		t.Error(names)
	}
	is(fsys.ReadDir("nowhere", func(string) bool { return true }), fs.ErrNotExist)
	is(fsys.Remove("a"), syscall.ENOTEMPTY)
	must(fsys.Remove("a/c"))
	is(fsys.Remove("a/c"), fs.ErrNotExist)
	if n, _ := r.ReadAt(buf, 0); n != 8 {
		t.Error("an open file is gone with its name")
	}
	must(r.Close())
	if _, err := fsys.Open("a"); err == nil {
		t.Error("a directory was opened as a file")
	}
	must(fsys.Remove("a"))
	if free, err := fsys.Free(); err != nil || free <= 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
}

// Neither a symbolic link nor a named pipe is opened.
func TestTricks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Symlink("/etc/passwd", dir+"/link"), syscall.Mkfifo(dir+"/pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "pipe"} {
		if _, err := vfs.Dir(dir).Open(name); err == nil {
			t.Errorf("%s was opened", name)
		}
		if info, err := vfs.Dir(dir).Lstat(name); err != nil || info.Mode.IsRegular() {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

// What Crash keeps is what was synced.
func TestCrash(t *testing.T) {
	t.Parallel()
	mem := vfstest.New(1 << 20)
	write := func(name, text string, sync bool) {
		f, err := mem.Create(name, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("synced", "abc", true)
	if err := mem.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	write("nameless", "abc", true)
	if err := mem.Rename("synced", "moved"); err != nil {
		t.Fatal(err)
	}
	names := func(m *vfstest.Mem) (list []string) {
		_ = m.ReadDir(".", func(name string) bool { list = append(list, name); return true })
		slices.Sort(list)
		return list
	}
	if got := names(mem.Crash(nil)); !slices.Equal(got, []string{"synced"}) {
		t.Errorf("strict: %v", got)
	}
	if got := names(mem.Kill()); !slices.Equal(got, []string{"moved", "nameless"}) {
		t.Errorf("kill: %v", got)
	}
	for seed := range uint64(50) {
		got := names(mem.Crash(rand.New(rand.NewPCG(seed, 1))))
		if slices.Contains(got, "synced") == slices.Contains(got, "moved") {
			t.Errorf("half a rename: %v", got)
		}
	}
	if err := mem.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	write("unsynced", "abc", false)
	_ = mem.SyncDir(".")
	if info, err := mem.Crash(nil).Lstat("unsynced"); err != nil || info.Size != 0 {
		t.Errorf("%+v %v", info, err)
	}
}
