package queue

import (
	"sync"
	"testing"
	"time"
)

func TestNewIDIsUniqueAndValid(t *testing.T) {
	t.Parallel()
	for _, form := range []Form{Short, Long} {
		var g IDs
		var mu sync.Mutex
		seen := map[ID]bool{}
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for range 2000 {
					id := g.New(form, time.Unix(1795378010, 5), 4711)
					mu.Lock()
					if seen[id] {
						t.Errorf("%s twice", id)
					}
					seen[id] = true
					mu.Unlock()
					if !IsID(string(id)) {
						t.Errorf("%s is not valid", id)
					}
				}
			})
		}
		wait.Wait()
	}
}

func TestIsID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"5058436": true, "D28FD4A": true, "4jXg8H4Tnpz20": true, "4jXg8K6rLsz22": true, "0123456789AB": true,
		"": false, "A": false, "ABCDE": false, "abcdef": false, "../../etc": false, "5058436/": false, "5058436#FIX": false,
		"4jXg8H4Tnp": false, "4jXg8H4Tnpz": false, "z20": false, "4jXg8H4TAnpz20": false, " 5058436": false, "5058436\n": false,
		"0123456789ABCDEF012345": false,
	} {
		if IsID(text) != want {
			t.Errorf("IsID(%q) = %v", text, !want)
		}
	}
}

// The long ids were made by Postfix 3.7.11; it put the files into deferred/9.
func TestLongID(t *testing.T) {
	t.Parallel()
	id := ID("4jXg8H4Tnpz20")
	if got := id.Hash()[:1]; got != "9" {
		t.Errorf("hash %s", id.Hash())
	}
	at, ok := id.Time()
	if !ok || at.Unix() != 1795378015 {
		t.Errorf("time %v %v", at, ok)
	}
	if back := newID(Long, at.UnixMicro(), 101); back[:11] != id[:11] {
		t.Errorf("made %s of the time in %s", back, id)
	}
	if got := ID("5058436").Hash(); got != "5058436" {
		t.Errorf("short hash %s", got)
	}
}

func FuzzIsID(f *testing.F) {
	f.Add("5058436")
	f.Add("4jXg8H4Tnpz20")
	f.Add("../z")
	f.Fuzz(func(t *testing.T, text string) {
		if !IsID(text) {
			return
		}
		for _, c := range text {
			if c < '0' || c > 'z' {
				t.Fatalf("%q is no file name", text)
			}
		}
		if h := ID(text).Hash(); len(h) < 5 {
			t.Fatalf("hash %q of %q", h, text)
		}
		ID(text).Time()
	})
}
