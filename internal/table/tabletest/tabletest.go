// Package tabletest is the conformance suite of table.Table: what every type
// of table promises its callers. The test of each type runs it.
package tabletest

import (
	"fmt"
	"sync"
	"testing"

	"posthaste/internal/table"
)

// Case is an open table and what it must answer.
type Case struct {
	Table table.Table
	Name  string            // what Name must return
	Fixed bool              // what Fixed must return
	Found map[string]string // keys and their values
	// Missing are keys that must not be found. Leave it out for types that
	// know every key.
	Missing []string
}

// Run checks the promises of one table. The table is closed at the end.
func Run(t *testing.T, c Case) {
	t.Helper()
	if err := table.Reason(c.Table); err != nil {
		t.Fatalf("open: %v", err)
	}
	if got := c.Table.Name(); got != c.Name {
		t.Errorf("Name is %q, want %q", got, c.Name)
	}
	if got := c.Table.Fixed(); got != c.Fixed {
		t.Errorf("Fixed is %v, want %v", got, c.Fixed)
	}
	check(t, c)
	concurrent(t, c)
	list(t, c)
	if err := c.Table.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := c.Table.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func check(t *testing.T, c Case) {
	t.Helper()
	for key, want := range c.Found {
		if got, found, err := c.Table.Lookup(t.Context(), key); got != want || !found || err != nil {
			t.Errorf("%q is %q, %v, %v, want %q", key, got, found, err, want)
		}
	}
	for _, key := range c.Missing {
		if got, found, err := c.Table.Lookup(t.Context(), key); got != "" || found || err != nil {
			t.Errorf("%q is %q, %v, %v, want nothing", key, got, found, err)
		}
	}
}

// concurrent asks from several goroutines; the race detector is the judge.
func concurrent(t *testing.T, c Case) {
	t.Helper()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 20 {
				check(t, c)
			}
		})
	}
	wait.Wait()
}

// list compares the enumeration with lookups, if the type has one.
func list(t *testing.T, c Case) {
	t.Helper()
	if _, can := table.Unwrap(c.Table).(table.Lister); !can {
		return
	}
	err := table.List(t.Context(), c.Table, func(key, value string) error {
		got, found, err := c.Table.Lookup(t.Context(), key)
		if got != value || !found || err != nil {
			return fmt.Errorf("listed %q = %q, but a lookup says %q, %v, %v", key, value, got, found, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
