package greylist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

func key(i int) string { return fmt.Sprintf("192.0.2.0/user%06d@s.example/r@example.com", i) }

// filled makes a file with n triplets and returns its path.
func filled(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "greylist.db")
	b, err := OpenBolt(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := b.Put(t.Context(), Triplets, key(i), Entry{First: 1000, Last: 2000}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBoltKeepsEverythingOverAnOrderlyStop(t *testing.T) {
	t.Parallel()
	path := filled(t, 12_000)
	b, err := OpenBolt(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range 12_000 {
		if e, found, err := b.Get(t.Context(), Triplets, key(i)); err != nil || !found || e.Last != 2000 {
			t.Fatalf("%s: %+v %v %v", key(i), e, found, err)
		}
	}
	if n, _ := b.Len(t.Context(), Triplets); n != 12_000 {
		t.Errorf("Len = %d", n)
	}
}

// TestBoltLosesASecondInACrash: what was put a while ago is in the file, which
// nobody has closed.
func TestBoltLosesASecondInACrash(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "greylist.db")
	b, err := OpenBolt(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	group := lifecycle.New(context.Background(), nil)
	group.Go("database", b.Run)
	b.Put(t.Context(), Triplets, key(1), Entry{First: 1, Last: 1})
	deadline := time.Now().Add(20 * time.Second)
	for b.stored[Triplets].Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
		time.Sleep(10 * time.Millisecond)
	}
	copied := filepath.Join(t.TempDir(), "greylist.db")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		t.Fatal(err)
	}
	group.Stop(time.Millisecond)
	b.Close()
	after, err := OpenBolt(copied, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if _, found, err := after.Get(t.Context(), Triplets, key(1)); err != nil || !found {
		t.Errorf("the entry is lost: %v", err)
	}
}

func TestBoltIsForOneProcess(t *testing.T) {
	t.Parallel()
	path := filled(t, 1)
	b, err := OpenBolt(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if second, err := OpenBolt(path, nil); err == nil {
		second.Close()
		t.Error("opened twice")
	}
	if _, err := os.Stat(path + ".damaged"); err == nil {
		t.Error("a file in use was put aside")
	}
}

// use does what a greylist does with a store for a while. Whatever is wrong
// with the file, it must not panic, hang or refuse mail for good.
func use(t *testing.T, path string) {
	t.Helper()
	log := &maillog.Memory{}
	logger := maillog.New(log, "postgrey", 1, nil)
	b, err := OpenBolt(path, logger)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	defer b.Close()
	g := New(Settings{}, Deps{Store: b, Log: logger})
	ask := func(i int) Decision {
		return g.Check(context.Background(), Request{ClientName: "mx.example", ClientAddress: "192.0.2.1",
			Sender: fmt.Sprintf("user%06d@s.example", i), Recipient: "r@example.com"})
	}
	for round := range 3 {
		for i := range 800 {
			if d := ask(i); !d.Pass && !strings.HasPrefix(d.Action, "DEFER_IF_PERMIT") {
				t.Fatalf("%+v", d)
			}
		}
		g.LoadListed(context.Background())
		g.Sweep(context.Background())
		b.tryFlush()
		if d := ask(10_000 + round); round == 2 && d.Reason != "new" {
			t.Errorf("it does not work again: %+v\n%s", d, log)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(filled(t, 3000))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	cases := map[string][]byte{
		"empty": {}, "one byte": {1}, "text": []byte("this is no database\n"), "noise": noise(100_000), "zeros": make([]byte, 1<<16),
		"cut after the meta pages": whole[:8192], "half": whole[:len(whole)/2], "no meta pages": append(make([]byte, 8192), whole[8192:]...),
	}
	for i := range 20 {
		damaged := append([]byte(nil), whole...)
		for range 1 + random.IntN(200) {
			damaged[8192+random.IntN(len(damaged)-8192)] = byte(random.Uint32())
		}
		cases[fmt.Sprintf("bytes changed %d", i)] = damaged
		page := append([]byte(nil), whole...)
		copy(page[4096*(2+random.IntN(len(page)/4096-2)):], noise(4096))
		cases[fmt.Sprintf("page of noise %d", i)] = page
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "greylist.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			use(t, path)
		})
	}
}

// TestFileCutWhileInUse: memory that is mapped from a file that is gone gives a
// fault, which must not end the process.
func TestFileCutWhileInUse(t *testing.T) {
	t.Parallel()
	path := filled(t, 5000)
	log := &maillog.Memory{}
	b, err := OpenBolt(path, maillog.New(log, "postgrey", 1, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.Get(t.Context(), Triplets, key(4999))
	if !errors.Is(err, ErrDamaged) {
		t.Fatalf("Get = %v, want ErrDamaged", err)
	}
	b.tryFlush()
	if _, found, err := b.Get(t.Context(), Triplets, key(4999)); err != nil || found {
		t.Errorf("after the replacement: %v %v\n%s", found, err, log)
	}
	if err := b.Put(t.Context(), Triplets, "a", Entry{First: 1, Last: 1}); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// TestDiskFull: changes wait in memory and are written when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	log := &maillog.Memory{}
	b, err := OpenBolt(filepath.Join(t.TempDir(), "greylist.db"), maillog.New(log, "postgrey", 1, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	commit, full := b.commit, true
	b.commit = func(db *bolt.DB, change func(*bolt.Tx) error) error {
		return db.Update(func(tx *bolt.Tx) error {
			if err := change(tx); err != nil || !full {
				return err
			}
			return syscall.ENOSPC
		})
	}
	for i := range flushBatch + 10 {
		if err := b.Put(t.Context(), Triplets, key(i), Entry{First: 1, Last: 1}); err != nil {
			t.Fatal(err)
		}
	}
	b.tryFlush()
	if !strings.Contains(log.String(), "no space left on device; 5010 changes wait") {
		t.Errorf("log: %s", log)
	}
	if _, found, err := b.Get(t.Context(), Triplets, key(1)); err != nil || !found {
		t.Errorf("the entry is gone: %v", err)
	}
	full = false
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := b.stored[Triplets].Load(); n != flushBatch+10 || b.dirty.Load() != 0 || b.added[Triplets].Load() != 0 {
		t.Errorf("%d stored, %d wait, %d added", n, b.dirty.Load(), b.added[Triplets].Load())
	}
	b.commit = commit
}

// TestSlowDisk: memory for changes that wait is bounded, and mail does not wait.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	b, err := OpenBolt(filepath.Join(t.TempDir(), "greylist.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.dirty.Store(maxDirty)
	g := New(Settings{}, Deps{Store: b})
	d := g.Check(t.Context(), Request{ClientName: "x", ClientAddress: "192.0.2.1", Recipient: "r@x"})
	if !d.Pass || d.Reason != "no database" {
		t.Errorf("%+v", d)
	}
	b.dirty.Store(0)
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(Entry{First: 1, Last: 2, Count: 3}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		if e, ok := decode(value); ok {
			if again, ok := decode(encode(e)); !ok || again != e {
				t.Errorf("%v: %+v, %+v", value, e, again)
			}
		}
	})
}
