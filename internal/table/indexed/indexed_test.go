package indexed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

func opener(log *maillog.Logger) *table.Opener {
	return table.NewOpener(table.Setup{Log: log, Types: []table.Type{
		{Name: "hash", Open: Hash}, {Name: "btree", Open: Btree}, {Name: "cdb", Open: CDB}, {Name: "lmdb", Open: LMDB}}})
}

// source is what testdata/source holds.
func source(t testing.TB) map[string]string {
	text, err := os.ReadFile("testdata/source")
	if err != nil {
		t.Fatal(err)
	}
	pairs := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		pairs[key] = value
	}
	return pairs
}

// check compares a table with what it must hold.
func check(t *testing.T, tab table.Table, want map[string]string) {
	t.Helper()
	if err := table.Reason(tab); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		got, found, err := tab.Lookup(t.Context(), key)
		if got != value || !found || err != nil {
			t.Fatalf("%s: %q = %.20q %v %v, want %.20q", tab.Name(), key, got, found, err, value)
		}
	}
	for _, key := range []string{"", "key", "key400@example.com", "zzz", "\x00", strings.Repeat("k", 5000)} {
		if got, found, err := tab.Lookup(t.Context(), key); found || err != nil {
			t.Errorf("%s: %.20q = %q %v %v, want nothing", tab.Name(), key, got, found, err)
		}
	}
	all := map[string]string{}
	err := table.Unwrap(tab).(table.Lister).All(t.Context(), func(key, value string) error {
		all[key] = value
		return nil
	})
	if err != nil || fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("%s: All: %v, %d of %d pairs", tab.Name(), err, len(all), len(want))
	}
}

// TestDebian reads files that postmap of Debian's Postfix 3.7.11 made
// (libdb 5.3.28, LMDB 0.9.24, tinycdb 0.78).
func TestDebian(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"hash:testdata/debian-hash", "btree:testdata/debian-btree", "cdb:testdata/debian", "lmdb:testdata/debian"} {
		check(t, opener(nil).Open(spec, table.FoldedKeys), source(t))
	}
}

func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		for _, null := range []Null{NullDefault, NullAlways, NullNever} {
			name := filepath.Join(t.TempDir(), "t")
			want := source(t)
			for i := range 5000 { // enough for a second level of branch pages
				want[fmt.Sprintf("%s%d", strings.Repeat("p", 300*(i%2)), i)] = fmt.Sprint(i)
			}
			u, err := Create(kind, name, Settings{Null: null})
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range want {
				u.Put(key, value)
			}
			if err := u.Commit(); err != nil {
				t.Fatal(err)
			}
			check(t, opener(nil).Open(kind+":"+name, table.FoldedKeys), want)
		}
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		name := filepath.Join(t.TempDir(), "t")
		u, _ := Create(kind, name, Settings{})
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		check(t, opener(nil).Open(kind+":"+name, table.Use{}), map[string]string{})
	}
}

func TestEdit(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"hash", "btree", "lmdb"} {
		var log maillog.Memory
		set := Settings{Log: maillog.New(&log, "t", 1, nil)}
		name := filepath.Join(t.TempDir(), "t")
		u, _ := Create(kind, name, set)
		u.Put("a", "1")
		u.Put("b", "2")
		u.Put("a", "3")
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		title := map[string]string{"lmdb": "lmdb:" + name}[kind]
		if title == "" {
			title = name + ".db"
		}
		if want := "t: warning: " + title + `: duplicate entry: "a"`; log.String() != want {
			t.Errorf("log %q, want %q", log.String(), want)
		}
		u, err := Edit(kind, name, Settings{Duplicates: Replace})
		if err != nil {
			t.Fatal(err)
		}
		u.Put("a", "4")
		if u.Delete("nosuch") || !u.Delete("b") {
			t.Error("Delete reports the wrong thing")
		}
		u.Put("c", "5")
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		check(t, opener(nil).Open(kind+":"+name, table.Use{}), map[string]string{"a": "4", "c": "5"})
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, file := range []string{"empty.db", "empty.cdb", "empty.lmdb"} {
		os.WriteFile(filepath.Join(dir, file), nil, 0o644)
	}
	u, _ := Create("hash", dir+"/x", Settings{})
	if err := u.Commit(); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"hash:" + dir + "/no":    "open database " + dir + "/no.db: No such file or directory",
		"lmdb:" + dir + "/no":    "open database " + dir + "/no.lmdb: No such file or directory",
		"hash:" + dir + "/empty": "open database " + dir + "/empty.db: Invalid argument",
		"cdb:" + dir + "/empty":  "dict_cdbq_open: unable to init " + dir + "/empty.cdb: Protocol error",
		"lmdb:" + dir + "/empty": "open database " + dir + "/empty.lmdb: MDB_INVALID: File is not an LMDB file",
		"btree:" + dir + "/x":    "open database " + dir + "/x.db: Invalid argument",
		"nis:x":                  "unsupported dictionary type: nis",
		"x":                      `open dictionary: expecting "type:name" form instead of "x"`,
	} {
		tab := opener(nil).Open(spec, table.Use{})
		if err := table.Reason(tab); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", spec, err, want)
		}
		if _, _, err := tab.Lookup(t.Context(), "a"); err == nil || err.Error() != spec+" is unavailable. "+want {
			t.Errorf("%s: lookup says %v", spec, err)
		}
	}
	if err := table.Reason(opener(nil).Open("btree:"+dir+"/x", table.Use{})); !errors.Is(err, ErrType) {
		t.Errorf("another type: %v", err)
	}
}

// TestFollows: a new version of the file is seen by an open table, and a table
// that was not there comes to life.
func TestFollows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var log maillog.Memory
	o := table.NewOpener(table.Setup{Now: func() time.Time { return now }, Log: maillog.New(&log, "t", 1, nil),
		Types: []table.Type{{Name: "hash", Open: Hash}}})
	name := filepath.Join(t.TempDir(), "t")
	tab := o.Open("hash:"+name, table.FoldedKeys)
	defer tab.Close()
	write := func(value string) {
		u, _ := Create("hash", name, Settings{})
		u.Put("k", value)
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	lookup := func(want string) {
		t.Helper()
		if got, _, err := tab.Lookup(t.Context(), "K"); got != want || (err == nil) != (want != "") {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	lookup("")
	write("one")
	now = now.Add(2 * time.Second)
	lookup("one")
	write("two")
	lookup("one")
	now = now.Add(2 * time.Second)
	lookup("two")
	os.WriteFile(name+".db", []byte("rubbish"), 0o644)
	for range 3 {
		now = now.Add(2 * time.Second)
		lookup("two")
	}
	if n := strings.Count(log.String(), "keeping the last good version"); n != 1 {
		t.Errorf("complained %d times: %s", n, log.String())
	}
	write("three")
	now = now.Add(2 * time.Second)
	lookup("three")
}

// TestKeepsMode: a .db file keeps its mode, a new one has the given one.
func TestKeepsMode(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "t")
	for i, want := range []os.FileMode{0o640, 0o600} {
		u, _ := Create("hash", name, Settings{Mode: 0o640})
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		info, _ := os.Stat(name + ".db")
		if info.Mode().Perm() != want {
			t.Errorf("round %d: mode %v, want %v", i, info.Mode(), want)
		}
		os.Chmod(name+".db", 0o600)
	}
	if left, _ := filepath.Glob(name + "*"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLMDBLimits(t *testing.T) {
	t.Parallel()
	u, _ := Create("lmdb", t.TempDir()+"/t", Settings{})
	u.Put(strings.Repeat("k", 600), "v")
	if err := u.Commit(); err == nil || !strings.Contains(err.Error(), "MDB_BAD_VALSIZE") {
		t.Errorf("a key of 600 bytes: %v", err)
	}
}

func FuzzReaders(f *testing.F) {
	for _, path := range []string{"debian-hash.db", "debian-btree.db", "debian.cdb", "debian.lmdb"} {
		content, err := os.ReadFile("testdata/" + path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, "key1@example.com\x00")
	}
	f.Fuzz(func(t *testing.T, content []byte, key string) {
		for _, kind := range Kinds() {
			s, err := newStorage(bytes.NewReader(content), int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			r, err := openReader(kind, s)
			if err != nil {
				continue
			}
			_, _, _ = r.get([]byte(key))
			n := 0
			_ = r.each(func(key, value []byte) error {
				if n += 1 + len(key) + len(value); n > 1<<22 {
					return errStop
				}
				return nil
			})
		}
	})
}

// TestFlips changes single bytes: the result may be wrong, but no panic, no
// endless loop.
func TestFlips(t *testing.T) {
	t.Parallel()
	for path, kind := range map[string]string{"debian-hash.db": "hash", "debian-btree.db": "btree", "debian.cdb": "cdb", "debian.lmdb": "lmdb"} {
		content, err := os.ReadFile("testdata/" + path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(content); i += 1 + i/50 {
			old := content[i]
			for _, b := range []byte{0, 0xff, old ^ 1, old ^ 0x80} {
				content[i] = b
				s, _ := newStorage(bytes.NewReader(content), int64(len(content)))
				if r, err := openReader(kind, s); err == nil {
					for _, key := range []string{"key1@example.com", "key1@example.com\x00", "long\x00", "zz\x00"} {
						_, _, _ = r.get([]byte(key))
					}
				}
			}
			content[i] = old
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, spec := range []string{"hash:testdata/debian-hash", "btree:testdata/debian-btree", "cdb:testdata/debian", "lmdb:testdata/debian"} {
		b.Run(spec, func(b *testing.B) {
			tab := opener(nil).Open(spec, table.FoldedKeys)
			for b.Loop() {
				if _, found, err := tab.Lookup(context.Background(), "key123@example.com"); !found || err != nil {
					b.Fatal(found, err)
				}
			}
		})
	}
}

// TestEditsWait: edits at the same time are made one after the other.
func TestEditsWait(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "t")
	u, _ := Create("hash", name, Settings{})
	if err := u.Commit(); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			u, err := Edit("hash", name, Settings{})
			if err != nil {
				t.Error(err)
				return
			}
			u.Put(fmt.Sprint("key", i), "v")
			if err := u.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	n := 0
	_ = table.List(t.Context(), opener(nil).Open("hash:"+name, table.Use{}), func(_, _ string) error { n++; return nil })
	if n != 20 {
		t.Errorf("%d of 20 edits are left", n)
	}
}

// TestInPlace: where no new file can be made, an existing one is written.
func TestInPlace(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		name := filepath.Join(t.TempDir(), "t")
		os.WriteFile(Path(kind, name), bytes.Repeat([]byte("old"), 10000), 0o600)
		u, _ := Create(kind, name, Settings{})
		u.Put("k", "v")
		if err := u.overwrite(); err != nil {
			t.Fatal(err)
		}
		check(t, opener(nil).Open(kind+":"+name, table.Use{}), map[string]string{"k": "v"})
	}
}
