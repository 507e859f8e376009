package kill

import (
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

var (
	seed   = flag.Uint64("kill.seed", 0, "seed of the moments and messages; 0 takes the clock")
	rounds = flag.Int("kill.rounds", 300, "how often the server is killed, at most")
	budget = flag.Duration("kill.time", 50*time.Second, "when to stop killing")
)

const clients = 4

// Where a message goes: the domain of its recipient. The local part is the
// name of the message, and so is the sender's for mail that is held.
const (
	box     = "box.test"     // a Maildir
	discard = "discard.test" // nowhere
	dead    = "dead.test"    // a next hop that refuses connections
	both    = "both"         // a Maildir and the dead next hop
	held    = "held"         // the queue, by an access table
)

var kinds = []string{box, box, box, discard, dead, both, held}

func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	if testing.Short() {
		*rounds = 20
	}
	t.Logf("to repeat: -kill.seed=%d", *seed)
	s := system.New(t, system.TempDir(t),
		"relay_domains = discard.test dead.test",
		"transport_maps = inline:{ {discard.test = discard:} {dead.test = smtp:[127.0.0.1]:"+system.FreePort(t)+"} }",
		"smtpd_sender_restrictions = check_sender_access inline:{ {hold.test = HOLD} }",
		"minimal_backoff_time = 2s", "queue_run_delay = 2s", "in_flow_delay = 0",
		"default_destination_concurrency_failed_cohort_limit = 0",
	)
	r := rand.New(rand.NewPCG(*seed, 1))
	load := &load{addr: s.Addr(), ledger: map[string]*message{}}
	killed, began := 0, time.Now()
	for ; killed < *rounds && (killed < 20 || time.Since(began) < *budget); killed++ {
		oneRound(t, s, r, load)
	}
	t.Logf("killed %d times in %v", killed, time.Since(began).Round(time.Millisecond))
	s.Start()
	load.check(t, s)
	if n := len(load.ledger); n < killed {
		t.Errorf("only %d messages were tried in %d rounds: this shows nothing", n, killed)
	}
}

// oneRound starts the server, sends mail, and kills it: mostly while it works,
// now and then while it starts.
func oneRound(t *testing.T, s *system.Server, r *rand.Rand, load *load) {
	t.Helper()
	ready := s.Launch()
	if r.IntN(8) == 0 {
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		s.Kill()
		<-ready
		return
	}
	if err := <-ready; err != nil {
		t.Fatalf("after a kill the server does not start: %v", err)
	}
	var sending sync.WaitGroup
	for range clients {
		mine := rand.New(rand.NewPCG(r.Uint64(), 2))
		sending.Go(func() { load.session(mine) })
	}
	time.Sleep(time.Duration(20+r.IntN(130)) * time.Millisecond)
	s.Kill()
	sending.Wait()
}

// message is one that was tried.
type message struct {
	name     string
	kind     string
	accepted bool   // got its final 250
	refused  string // another reply, "" for none
}

// load sends messages and remembers what became of them.
type load struct {
	addr string

	mu     sync.Mutex
	ledger map[string]*message
}

// session sends messages over one connection until it breaks.
func (l *load) session(r *rand.Rand) {
	c, err := system.Hello(l.addr)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		m := l.next(r)
		from, to := "sender@"+box, []string{m.name + "@" + m.kind}
		switch m.kind {
		case both:
			to = []string{m.name + "@" + box, m.name + "@" + dead}
		case held:
			from, to = m.name+"@hold.test", []string{m.name + "@" + box}
		}
		err := c.Send(m.text(r), from, to...)
		l.mu.Lock()
		m.accepted = err == nil
		if reply, ok := err.(*system.UnexpectedReply); ok {
			m.refused = reply.Reply
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *load) next(r *rand.Rand) *message {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &message{name: fmt.Sprintf("m%d", len(l.ledger)+1), kind: kinds[r.IntN(len(kinds))]}
	l.ledger[m.name] = m
	return m
}

// text is a message that tells its checksum: mostly small, some larger than
// what is written in one go.
func (m *message) text(r *rand.Rand) string {
	lines := 1 + r.IntN(40)
	if r.IntN(20) == 0 {
		lines = 5000
	}
	var body strings.Builder
	for range lines {
		fmt.Fprintf(&body, "%064x\r\n", r.Uint64())
	}
	return fmt.Sprintf("From: <sender@%s>\r\nSubject: %s\r\nX-Check: %08x\r\n\r\n%s", box, m.name, crc32.ChecksumIEEE([]byte(body.String())), body.String())
}

var marks = regexp.MustCompile(`(?m)^Subject: (\S+)\nX-Check: (\S+)\n`)

// read gets the name of a delivered message, and whether it is whole.
func read(text string) (name string, whole bool) {
	found := marks.FindStringSubmatch(text)
	head, body, ok := strings.Cut(text, "\n\n")
	if found == nil || !ok || !strings.Contains(head, found[0][:len(found[0])-1]) {
		return "", false
	}
	sum := crc32.ChecksumIEEE([]byte(strings.ReplaceAll(body, "\n", "\r\n")))
	return found[1], fmt.Sprintf("%08x", sum) == found[2]
}

// check waits until only mail that cannot be delivered is left, and compares
// what is there with what was accepted.
func (l *load) check(t *testing.T, s *system.Server) {
	t.Helper()
	var queue []system.Queued
	system.Wait(t, "an empty queue but for what is held or deferred", func() bool {
		var err error
		if queue, err = s.Queue(); err != nil {
			t.Fatal(err)
		}
		for _, q := range queue {
			if q.Queue != "hold" && q.Queue != "deferred" {
				return false
			}
			for _, r := range q.Recipients {
				if q.Queue == "deferred" && !strings.HasSuffix(r.Address, "@"+dead) {
					return false
				}
			}
		}
		return true
	})
	queued := map[string]int{} // by queue and recipient
	for _, q := range queue {
		for _, r := range q.Recipients {
			queued[q.Queue+" "+r.Address]++
		}
	}
	delivered := l.delivered(t, s)
	l.compare(t, queued, delivered)
	for _, dir := range []string{"corrupt", "incoming", "active"} {
		l.leftovers(t, s, dir)
	}
}

// delivered counts the messages of the Maildir by name; each must be whole and
// one of ours.
func (l *load) delivered(t *testing.T, s *system.Server) map[string]int {
	t.Helper()
	mail, err := s.Mail()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for path, text := range mail {
		name, whole := read(text)
		if l.ledger[name] == nil {
			t.Errorf("%s was not sent by us: %.500s", path, text)
		} else if !whole {
			t.Errorf("%s, message %s, is damaged", path, name)
		}
		count[name]++
	}
	return count
}

// compare goes through all that was tried.
func (l *load) compare(t *testing.T, queued, delivered map[string]int) {
	t.Helper()
	var accepted, unanswered, lost, twice int
	miss := func(m *message, where string, n int) {
		twice += max(0, n-1)
		if n == 0 && m.accepted {
			lost++
			t.Errorf("message %s (%s) was accepted and is not in %s", m.name, m.kind, where)
		}
	}
	for _, m := range l.ledger {
		switch {
		case m.accepted:
			accepted++
		case m.refused != "":
			t.Errorf("message %s was refused: %s", m.name, m.refused)
		default:
			unanswered++
		}
		switch m.kind {
		case box:
			miss(m, "the Maildir", delivered[m.name])
		case dead:
			miss(m, "the deferred queue", queued["deferred "+m.name+"@"+dead])
		case both:
			miss(m, "the Maildir", delivered[m.name])
			miss(m, "the deferred queue", queued["deferred "+m.name+"@"+dead])
		case held:
			miss(m, "the hold queue", queued["hold "+m.name+"@"+box])
			if delivered[m.name] > 0 {
				t.Errorf("message %s was delivered over the hold", m.name)
			}
		}
	}
	t.Logf("%d accepted, %d without an answer, %d lost, %d delivered or queued more than once", accepted, unanswered, lost, twice)
	if accepted == 0 {
		t.Error("no message was accepted: this shows nothing")
	}
}

// leftovers looks for files that are nobody's any more. Drafts that a kill cut
// off are not messages, and are cleared away later.
func (l *load) leftovers(t *testing.T, s *system.Server, dir string) {
	t.Helper()
	filepath.Walk(s.Path("queue", dir), func(path string, info os.FileInfo, err error) error {
		if err != nil {
			t.Error(err)
		} else if info.Mode().IsRegular() && info.Mode()&0o100 != 0 {
			t.Errorf("%s is left over", path)
		}
		return nil
	})
}
