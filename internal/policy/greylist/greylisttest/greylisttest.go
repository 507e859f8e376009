// Package greylisttest has the tests that every greylist.Store has to pass: the
// store in memory, the one in a file, and those to come.
package greylisttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"posthaste/internal/policy/greylist"
)

// Run runs the suite. open makes an empty store; it closes it with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) greylist.Store) {
	for name, test := range map[string]func(*testing.T, greylist.Store){
		"GetPutDelete": getPutDelete, "Kinds": kindsAreApart, "Scan": scan, "Len": length, "Odd": oddKeys,
		"Model": model, "Concurrent": concurrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, s greylist.Store, key string, want *greylist.Entry) {
	t.Helper()
	e, found, err := s.Get(context.Background(), greylist.Triplets, key)
	must(t, err)
	if found != (want != nil) || want != nil && e != *want {
		t.Fatalf("%q: got %+v %v, want %+v", key, e, found, want)
	}
}

func getPutDelete(t *testing.T, s greylist.Store) {
	ctx := t.Context()
	expect(t, s, "a", nil)
	first, second := greylist.Entry{First: 1, Last: 1}, greylist.Entry{First: 1, Last: 1 << 40, Count: 1<<32 - 1}
	must(t, s.Put(ctx, greylist.Triplets, "a", first))
	expect(t, s, "a", &first)
	must(t, s.Put(ctx, greylist.Triplets, "a", second))
	expect(t, s, "a", &second)
	must(t, s.Delete(ctx, greylist.Triplets, "a"))
	expect(t, s, "a", nil)
	must(t, s.Delete(ctx, greylist.Triplets, "a"))
	must(t, s.Put(ctx, greylist.Triplets, "a", first))
	expect(t, s, "a", &first)
}

func kindsAreApart(t *testing.T, s greylist.Store) {
	ctx := t.Context()
	for i, kind := range greylist.Kinds() {
		must(t, s.Put(ctx, kind, "same", greylist.Entry{First: int64(i), Last: int64(i)}))
	}
	must(t, s.Delete(ctx, greylist.Clients, "same"))
	for i, kind := range greylist.Kinds() {
		e, found, err := s.Get(ctx, kind, "same")
		must(t, err)
		if found != (kind != greylist.Clients) || found && e.First != int64(i) {
			t.Errorf("%v: %+v %v", kind, e, found)
		}
	}
}

func scan(t *testing.T, s greylist.Store) {
	ctx := t.Context()
	var want []string
	for i := range 257 {
		key := fmt.Sprintf("%03d", i)
		want = append(want, key)
		must(t, s.Put(ctx, greylist.Triplets, key, greylist.Entry{First: int64(i), Last: int64(i)}))
	}
	for _, limit := range []int{1, 10, 256, 257, 1000} {
		var got []string
		for after := ""; ; {
			items, err := s.Scan(ctx, greylist.Triplets, after, limit)
			must(t, err)
			for _, item := range items {
				got = append(got, item.Key)
				after = item.Key
			}
			if len(items) < limit {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d items, want %d in order", limit, len(got), len(want))
		}
	}
	items, err := s.Scan(ctx, greylist.Triplets, "100x", 1)
	must(t, err)
	if len(items) != 1 || items[0].Key != "101" || items[0].First != 101 {
		t.Errorf("after a key that is not there: %+v", items)
	}
}

func length(t *testing.T, s greylist.Store) {
	ctx := t.Context()
	for i := range 100 {
		must(t, s.Put(ctx, greylist.Triplets, fmt.Sprint(i), greylist.Entry{First: 1, Last: 1}))
	}
	for i := range 40 {
		must(t, s.Delete(ctx, greylist.Triplets, fmt.Sprint(i)))
	}
	_, err := s.Scan(ctx, greylist.Triplets, "", 1) // whatever is under way is done
	must(t, err)
	n, err := s.Len(ctx, greylist.Triplets)
	must(t, err)
	if n != 60 {
		t.Errorf("Len = %d, want 60", n)
	}
}

func oddKeys(t *testing.T, s greylist.Store) {
	for _, key := range []string{"x\x00y", "\xff\xfe", "ü/ü", string(make([]byte, 600))} {
		e := greylist.Entry{First: 7, Last: 9}
		must(t, s.Put(t.Context(), greylist.Triplets, key, e))
		expect(t, s, key, &e)
	}
}

// model compares with a map, over many random changes.
func model(t *testing.T, s greylist.Store) {
	ctx, random, want := t.Context(), rand.New(rand.NewPCG(1, 2)), map[string]greylist.Entry{}
	for range 1500 {
		key := fmt.Sprint(random.IntN(50))
		switch random.IntN(10) {
		case 0, 1:
			delete(want, key)
			must(t, s.Delete(ctx, greylist.Triplets, key))
		case 2:
			items, err := s.Scan(ctx, greylist.Triplets, "", 1000)
			must(t, err)
			if len(items) != len(want) {
				t.Fatalf("%d items, want %d", len(items), len(want))
			}
			for _, item := range items {
				if want[item.Key] != item.Entry {
					t.Fatalf("%q: %+v, want %+v", item.Key, item.Entry, want[item.Key])
				}
			}
		default:
			e := greylist.Entry{First: random.Int64N(1 << 33), Count: random.Uint32N(10)}
			e.Last = e.First + random.Int64N(1<<20)
			want[key] = e
			must(t, s.Put(ctx, greylist.Triplets, key, e))
		}
		if e, ok := want[key]; ok {
			expect(t, s, key, &e)
		} else {
			expect(t, s, key, nil)
		}
	}
}

func concurrent(t *testing.T, s greylist.Store) {
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			ctx := context.Background()
			for i := range 200 {
				key, e := fmt.Sprintf("%d/%d", worker, i), greylist.Entry{First: int64(i), Last: int64(i) + 1}
				if err := s.Put(ctx, greylist.Triplets, key, e); err != nil {
					t.Error(err)
				}
				if i%50 == 0 {
					if _, err := s.Scan(ctx, greylist.Triplets, "", 10); err != nil {
						t.Error(err)
					}
				}
				if got, found, err := s.Get(ctx, greylist.Triplets, key); err != nil || !found || got != e {
					t.Errorf("%s: %+v %v %v", key, got, found, err)
				}
			}
		})
	}
	wait.Wait()
	items, err := s.Scan(context.Background(), greylist.Triplets, "", 10_000)
	if err != nil || len(items) != 1600 {
		t.Errorf("%d items, %v; want 1600", len(items), err)
	}
}
