package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"posthaste/test/system"
)

// TestReloadUnderLoad reloads again and again while mail comes in, is
// delivered, and is returned: no connection is cut, nothing is put off.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	s := system.New(t, system.TempDir(t),
		"relay_domains = elsewhere.test",
		"transport_maps = inline:{ {elsewhere.test = discard:} }",
		"virtual_alias_maps = inline:{ {alias@box.test = b@box.test} {failing@box.test = b@box.test, nobody@nowhere.test} }",
		"default_transport = error:5.1.2 no such place", "in_flow_delay = 0", "canonical_maps = inline:{ {x@y.test = z@y.test} }")
	s.Start()
	reloads, clients := 100, 4
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sent := make([]int, clients)
	for n := range clients {
		sending.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				to := []string{"b@box.test", "alias@box.test", "x@elsewhere.test", "failing@box.test"}[i%4]
				if err := sendOne(s, to); err != nil {
					t.Errorf("client %d, message %d: %v", n, i, err)
					return
				}
				sent[n]++
			}
		})
	}
	for n := range reloads {
		if out, err := s.Command("postfix", "reload"); err != nil {
			t.Errorf("%v %s", err, out)
		}
		system.Wait(t, fmt.Sprintf("reload %d", n+1), func() bool { return strings.Count(s.Log(), "]: reload -- version ") > n })
	}
	close(stop)
	sending.Wait()
	system.Wait(t, "an empty queue", func() bool {
		queue, err := s.Queue()
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queue {
			if q.Queue == "deferred" {
				t.Fatalf("message %s was put off: %v", q.ID, q.Recipients)
			}
		}
		return len(queue) == 0
	})
	for line := range strings.Lines(s.Log()) {
		for _, bad := range []string{"status=deferred", "warning: ", "error: ", "fatal: ", "lost connection", "status=undeliverable"} {
			if strings.Contains(line, bad) {
				t.Errorf("the log: %s", line)
			}
		}
	}
	t.Logf("%d reloads, %v messages", reloads, sent)
}

func sendOne(s *system.Server, to string) error {
	c, err := system.Hello(s.Addr())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send(letter, "sender@box.test", to); err != nil {
		return err
	}
	return c.Ask("QUIT", "221")
}
