package greylist

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCheckLetsWholeFilesPass: at each stage of a file's life, with buckets
// that are large and small, free pages, and pages that go on.
func TestCheckLetsWholeFilesPass(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "greylist.db")
	random := rand.New(rand.NewPCG(1, 1))
	for round := range 12 {
		b, err := OpenBolt(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 1 << round {
			n := random.IntN(4000)
			if random.IntN(3) == 0 {
				b.Delete(t.Context(), Triplets, key(n))
			} else {
				b.Put(t.Context(), Triplets, key(n)+string(make([]byte, n%500)), Entry{First: 1, Last: 1})
			}
			b.Put(t.Context(), ListedHost, key(n%20), Entry{First: 1, Last: 1})
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := checkFile(path); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if _, err := os.Stat(path + ".damaged"); err == nil {
			t.Fatal("a whole file was put aside")
		}
	}
}

// TestPageThatGoesOnForever: what the header of a page claims must not cost
// memory and time.
func TestPageThatGoesOnForever(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(filled(t, 3000))
	if err != nil {
		t.Fatal(err)
	}
	for page := 2; page < len(whole)/4096; page += 7 {
		damaged := append([]byte(nil), whole...)
		copy(damaged[page*4096+12:], []byte{0xff, 0xff, 0xff, 0xfe})
		path := filepath.Join(t.TempDir(), "greylist.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		use(t, path)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("page %d: %v", page, took)
		}
	}
}

func FuzzCheckFile(f *testing.F) {
	whole, err := os.ReadFile(filledForFuzz(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(8192, []byte{1, 2, 3})
	f.Add(12, []byte{0xff, 0xff})
	path := filepath.Join(f.TempDir(), "greylist.db")
	f.Fuzz(func(t *testing.T, at int, noise []byte) {
		data := append([]byte(nil), whole...)
		if at < 0 || at >= len(data) {
			return
		}
		copy(data[at:], noise)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		checkFile(path)
	})
}

func filledForFuzz(f *testing.F) string {
	path := filepath.Join(f.TempDir(), "whole.db")
	b, err := OpenBolt(path, nil)
	if err != nil {
		f.Fatal(err)
	}
	for i := range 500 {
		b.Put(f.Context(), Triplets, key(i), Entry{First: 1, Last: 2})
	}
	b.Put(f.Context(), Clients, "a", Entry{First: 1, Last: 2})
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	return path
}
