package restart

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"posthaste/test/system"
)

func TestMain(m *testing.M) { os.Exit(system.RootMain(m)) }

// Names of the two processes that the supervisor starts.
const (
	mailProcess     = "posthaste-mail"
	deliveryProcess = "posthaste-delivery"
)

// start makes a server of root's with its three processes.
func start(t *testing.T, further ...string) *system.Server {
	t.Helper()
	system.NeedRoot(t)
	s := system.New(t, system.TempDir(t), append(further, "service_throttle_time = 1s")...)
	s.Start()
	alive(t, s, nil)
	return s
}

// alive waits until both processes run, others than those of before.
func alive(t *testing.T, s *system.Server, before map[string]int) map[string]int {
	t.Helper()
	var now map[string]int
	system.Wait(t, "the mail and the delivery process", func() bool {
		now = system.Children(s.PID())
		mail, delivery := now[mailProcess], now[deliveryProcess]
		return mail != 0 && delivery != 0 && mail != before[mailProcess] && delivery != before[deliveryProcess]
	})
	return now
}

// send has a message accepted, however long the system is away.
func send(t *testing.T, s *system.Server, name string) {
	t.Helper()
	var last error
	if !system.Soon(func() bool {
		last = try(s, name)
		return last == nil
	}) {
		t.Fatalf("message %s is not accepted: %v", name, last)
	}
}

func try(s *system.Server, name string) error {
	c, err := system.Hello(s.Addr())
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Send("Subject: "+name+"\r\n\r\nHello.\r\n", "a@client.test", name+"@box.test")
}

// arrived counts the delivered messages by name.
func arrived(t *testing.T, s *system.Server) map[string]int {
	t.Helper()
	mail, err := s.Mail()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for path, text := range mail {
		_, rest, ok := strings.Cut(text, "\nSubject: ")
		name, _, _ := strings.Cut(rest, "\n")
		if !ok || !strings.HasSuffix(text, "\n\nHello.\n") {
			t.Errorf("%s is damaged: %q", path, text)
		}
		count[name]++
	}
	return count
}

func TestKilledPartsComeBack(t *testing.T) {
	t.Parallel()
	s := start(t)
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	stop, accepted := make(chan struct{}), []string(nil)
	var sending sync.WaitGroup
	sending.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if name := fmt.Sprintf("m%d", n); try(s, name) == nil {
				accepted = append(accepted, name)
			} else {
				time.Sleep(5 * time.Millisecond)
			}
		}
	})
	for round := range rounds {
		part := []string{mailProcess, deliveryProcess}[round%2]
		processes := alive(t, s, nil)
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		if err := syscall.Kill(processes[part], syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", part, err)
		}
		alive(t, s, processes)
		send(t, s, fmt.Sprintf("after%d", round))
	}
	close(stop)
	sending.Wait()
	check(t, s, accepted)
	if n := strings.Count(s.Log(), "]: warning: process "); n < rounds {
		t.Errorf("the log tells %d of %d deaths", n, rounds)
	}
}

// check waits for an empty queue and looks for each message.
func check(t *testing.T, s *system.Server, accepted []string) {
	t.Helper()
	if len(accepted) == 0 {
		t.Fatal("no message was accepted: this shows nothing")
	}
	system.Wait(t, "an empty queue", func() bool {
		queue, err := s.Queue()
		if err != nil {
			t.Fatal(err)
		}
		return len(queue) == 0
	})
	count, lost, twice := arrived(t, s), 0, 0
	for _, name := range accepted {
		if n := count[name]; n == 0 {
			lost++
			t.Errorf("message %s was accepted and is lost", name)
		} else {
			twice += n - 1
		}
	}
	t.Logf("%d accepted, %d lost, %d delivered more than once", len(accepted), lost, twice)
}

// TestNobodyIsLeftBehind kills the supervisor: the other two must not go on
// without it, and the next start finds a free queue.
func TestNobodyIsLeftBehind(t *testing.T) {
	t.Parallel()
	s := start(t)
	send(t, s, "before")
	processes := alive(t, s, nil)
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.AwaitEnd()
	for name, pid := range processes {
		system.Wait(t, "the end of "+name, func() bool { return syscall.Kill(pid, 0) != nil })
	}
	s.Start()
	send(t, s, "after")
	check(t, s, []string{"before", "after"})
	s.Stop()
}

// TestBrokenConfigurationIsTriedAgain: a mail process that dies while main.cf
// is broken comes back when main.cf is mended, without anybody's help.
func TestBrokenConfigurationIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := start(t)
	good, err := os.ReadFile(s.Path("main.cf"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(s.Path("main.cf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(string(good) + "minimal_backoff_time = soon\n")
	processes := alive(t, s, nil)
	if err := syscall.Kill(processes[mailProcess], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.WaitLog("main.cf, line [0-9]+: parameter minimal_backoff_time")
	write(string(good))
	send(t, s, "mended")
	check(t, s, []string{"mended"})
}

// TestStopEndsAll stops in the orderly way.
func TestStopEndsAll(t *testing.T) {
	t.Parallel()
	s := start(t)
	send(t, s, "last")
	processes := alive(t, s, nil)
	s.Stop()
	for name, pid := range processes {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("%s is left behind", name)
		}
	}
	if !strings.Contains(s.Log(), "terminating on signal 15") {
		t.Error("the log does not tell of the stop")
	}
	s.Start()
	check(t, s, []string{"last"})
}
