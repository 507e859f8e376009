package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopLetsWorkFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context(), nil)
		finished := false
		g.Go("delivery", func(ctx context.Context) {
			<-g.Stopping()
			time.Sleep(time.Second)
			finished = ctx.Err() == nil
		})
		if err := g.Stop(2 * time.Second); err != nil {
			t.Fatal(err)
		}
		if !finished {
			t.Error("the work was cut off inside its grace period")
		}
		if g.Go("late", func(context.Context) {}) {
			t.Error("new work was taken after the end")
		}
	})
}

func TestStopCancelsAndNamesTheStubborn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New(t.Context(), nil)
		release := make(chan struct{})
		g.Go("obedient", func(ctx context.Context) { <-ctx.Done() })
		g.Go("stubborn", func(context.Context) { <-release })
		err := g.Stop(time.Second)
		if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "stubborn") || strings.Contains(err.Error(), "obedient") {
			t.Errorf("Stop = %v", err)
		}
		close(release)
		g.Wait()
	})
}

func TestPanicIsReported(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	g := New(t.Context(), func(name string, value any, stack []byte) { got <- name + ": " + value.(string) })
	g.Go("session", func(context.Context) { panic("broken") })
	if s := <-got; s != "session: broken" {
		t.Errorf("got %q", s)
	}
	g.Wait()
	if left := g.Running(); len(left) != 0 {
		t.Errorf("still counted as running: %v", left)
	}
}
