package schedule

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"posthaste/internal/mail/dsn"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScripts runs testdata/*.txt: a command, "----", what it does, an empty
// line. The commands are
//
//	limits TRANSPORT key=value...
//	add MESSAGE TRANSPORT:DESTINATION COUNT
//	next [COUNT]           start deliveries, all that may start without COUNT
//	done LABEL... ok|site|cut
//	drop MESSAGE
//	alive
//	at SECONDS             set the clock
//	wake
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func runScript(t *testing.T, text string) string {
	p := &player{t: t, s: New(300 * time.Second), out: map[string]*Delivery{}, next: map[Message]int{}, now: time.Unix(0, 0)}
	var b strings.Builder
	for block := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n\n") {
		head, _, _ := strings.Cut(block, "\n----")
		b.WriteString(head + "\n----\n")
		for line := range strings.SplitSeq(head, "\n") {
			if !strings.HasPrefix(line, "#") {
				b.WriteString(p.run(strings.Fields(line)))
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

type player struct {
	t      *testing.T
	s      *Schedule
	now    time.Time
	out    map[string]*Delivery
	labels int
	next   map[Message]int
}

func (p *player) run(f []string) string {
	switch f[0] {
	case "limits":
		p.s.SetLimits(f[1], p.limits(f[2:]))
	case "add":
		return p.add(f)
	case "next":
		return p.starts(f)
	case "done":
		return p.done(f[1:])
	case "drop":
		return recipients("dropped", p.s.Drop(Message(p.number(f[1]))))
	case "alive":
		p.s.Alive()
	case "at":
		p.now = time.Unix(int64(p.number(f[1])), 0)
	case "wake":
		at, ok := p.s.Wake(p.now)
		if !ok {
			return "never\n"
		}
		return fmt.Sprintf("at %d\n", at.Unix())
	default:
		p.t.Fatalf("unknown command %q", f)
	}
	return ""
}

func (p *player) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *player) add(f []string) string {
	m := Message(p.number(f[1]))
	transport, name, _ := strings.Cut(f[2], ":")
	var indexes []int
	for range p.number(f[3]) {
		indexes = append(indexes, p.next[m])
		p.next[m]++
	}
	reason, ok := p.s.Add(Recipients{m, Destination{transport, name}, indexes})
	if !ok {
		return fmt.Sprintf("suspended: %s\n", reason)
	}
	return ""
}

func (p *player) starts(f []string) string {
	n := 1 << 30
	if len(f) > 1 {
		n = p.number(f[1])
	}
	var b strings.Builder
	for range n {
		d, ok := p.s.Next(p.now)
		if !ok {
			b.WriteString("nothing\n")
			break
		}
		label := string(rune('A'+p.labels/26)) + string(rune('a'+p.labels%26))
		p.labels++
		p.out[label] = d
		fmt.Fprintf(&b, "%s: message %d %s:%s %v\n", label, d.Message, d.Destination.Transport, d.Destination.Name, d.Indexes)
	}
	return b.String()
}

func (p *player) done(f []string) string {
	how := map[string]Result{"ok": Answered, "site": SiteFailed, "cut": CutOff}
	result, ok := how[f[len(f)-1]]
	if !ok {
		p.t.Fatalf("done: %q", f)
	}
	var b strings.Builder
	for _, label := range f[:len(f)-1] {
		d := p.out[label]
		if d == nil {
			p.t.Fatalf("no delivery %s", label)
		}
		delete(p.out, label)
		b.WriteString(recipients("suspended", p.s.Done(d, result, dsn.New(450, "4.4.1", "no answer"), p.now)))
	}
	return b.String()
}

func recipients(what string, all []Recipients) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s: message %d %s:%s %v\n", what, r.Message, r.Destination.Transport, r.Destination.Name, r.Indexes)
	}
	return b.String()
}

func (p *player) limits(f []string) Limits {
	l := Limits{Initial: 5, Concurrency: 20, Recipients: 50, MaxProc: 100, FailedCohorts: 1}
	for _, word := range f {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "initial":
			l.Initial = p.number(value)
		case "concurrency":
			l.Concurrency = p.number(value)
		case "recipients":
			l.Recipients = p.number(value)
		case "maxproc":
			l.MaxProc = p.number(value)
		case "cohorts":
			l.FailedCohorts = float64(p.number(value))
		case "positive":
			l.Positive = p.feedback(value)
		case "negative":
			l.Negative = p.feedback(value)
		case "delay":
			l.DestinationDelay = time.Duration(p.number(value)) * time.Second
		case "transport-delay":
			l.TransportDelay = time.Duration(p.number(value)) * time.Second
		default:
			p.t.Fatalf("limits: %q", word)
		}
	}
	return l
}

func (p *player) feedback(s string) Feedback {
	f, err := ParseFeedback(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func TestFeedbackSyntax(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"1": 1, "0.25": 0.25, "1 / concurrency": 0.25, "1/sqrt_concurrency": 0.5, " 0 ": 0} {
		f, err := ParseFeedback(text)
		if err != nil || f.value(4) != want {
			t.Errorf("%q: %v %v, want %v", text, f.value(4), err, want)
		}
	}
	for _, text := range []string{"", "2", "-1", "1/x", "NaN", "x/concurrency"} {
		if _, err := ParseFeedback(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	l, err := Settings{Initial: 5, Concurrency: 20, Positive: "1", Negative: "1/concurrency"}.Limits(100)
	if err != nil || l.MaxProc != 100 || l.Negative.value(2) != 0.5 {
		t.Error(l, err)
	}
	if l, err := (Settings{Positive: "x", Negative: "1"}).Limits(1); err == nil || l.Positive.value(3) != 1 {
		t.Error(l, err)
	}
}

func TestNextAttempt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e6, 0)
	for age, want := range map[time.Duration]time.Duration{0: 300 * time.Second, 1000 * time.Second: 1000 * time.Second,
		time.Hour * 24: 4000 * time.Second, -time.Hour: 300 * time.Second} {
		got := NextAttempt(now, now.Add(-age), 300*time.Second, 4000*time.Second).Sub(now)
		if got != want {
			t.Errorf("age %v: %v, want %v", age, got, want)
		}
	}
}

// TestEveryRecipientOnce checks the promise of the package on random steps:
// each recipient comes out once, and no limit is exceeded.
func TestEveryRecipientOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, now := New(300*time.Second), time.Unix(0, 0)
		l := Limits{Initial: rapid.IntRange(1, 5).Draw(t, "initial"), Concurrency: rapid.IntRange(0, 6).Draw(t, "concurrency"),
			Recipients: rapid.IntRange(0, 3).Draw(t, "recipients"), MaxProc: rapid.IntRange(0, 7).Draw(t, "maxproc"),
			FailedCohorts: float64(rapid.IntRange(0, 2).Draw(t, "cohorts"))}
		s.SetLimits("t", l)
		added, out := map[[2]int]bool{}, map[[2]int]int{}
		var running []*Delivery
		perDest := map[string]int{}
		count := func(r Recipients) {
			for _, i := range r.Indexes {
				out[[2]int{int(r.Message), i}]++
			}
		}
		step := func() {
			d, ok := s.Next(now)
			if !ok {
				return
			}
			count(d.Recipients)
			if l.Recipients > 0 && len(d.Indexes) > l.Recipients || len(d.Indexes) == 0 {
				t.Fatalf("%d recipients", len(d.Indexes))
			}
			running = append(running, d)
			perDest[d.Destination.Name]++
			if l.Concurrency > 0 && perDest[d.Destination.Name] > l.Concurrency || l.MaxProc > 0 && len(running) > l.MaxProc {
				t.Fatalf("limit exceeded: %d for %s, %d in all", perDest[d.Destination.Name], d.Destination.Name, len(running))
			}
		}
		finish := func(i int, r Result) {
			d := running[i]
			running = append(running[:i], running[i+1:]...)
			perDest[d.Destination.Name]--
			for _, x := range s.Done(d, r, dsn.New(450, "4.0.0", ""), now) {
				count(x)
			}
		}
		serial := 0
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				m := rapid.IntRange(0, 4).Draw(t, "message")
				r := Recipients{Message(m), Destination{"t", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "dest")}, nil}
				for range rapid.IntRange(1, 5).Draw(t, "count") {
					added[[2]int{m, serial}] = true
					r.Indexes = append(r.Indexes, serial)
					serial++
				}
				if _, ok := s.Add(r); !ok {
					count(r)
				}
			case 2, 3:
				step()
			case 4:
				if len(running) > 0 {
					finish(rapid.IntRange(0, len(running)-1).Draw(t, "which"), Result(rapid.IntRange(0, 2).Draw(t, "result")))
				}
			case 5:
				now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "seconds")) * time.Second)
			case 6:
				for _, r := range s.Drop(Message(rapid.IntRange(0, 4).Draw(t, "dropped"))) {
					count(r)
				}
			}
		}
		for range 1000 { // all that waits must come out in the end
			step()
			if len(running) > 0 {
				finish(0, Answered)
			} else if s.Waiting() == 0 {
				break
			}
			now = now.Add(time.Minute)
		}
		for id := range added {
			if out[id] != 1 {
				t.Fatalf("recipient %v came out %d times", id, out[id])
			}
		}
		now = now.Add(time.Hour)
		s.Next(now)
		if n := len(s.transports["t"].destinations) + len(s.transports["t"].jobs); n != 0 || s.Waiting() != 0 {
			t.Fatalf("%d destinations and jobs left, %d recipients", n, s.Waiting())
		}
	})
}

func BenchmarkStep(b *testing.B) {
	s, now := New(300*time.Second), time.Unix(0, 0)
	s.SetLimits("t", Limits{Initial: 5, Concurrency: 20, Recipients: 50, MaxProc: 100, FailedCohorts: 1})
	names := make([]string, 1000)
	for i := range names {
		names[i] = "d" + strconv.Itoa(i)
	}
	for i := range 20000 {
		s.Add(Recipients{Message(i), Destination{"t", names[i%7]}, []int{0}})
	}
	i := 20000
	for b.Loop() {
		s.Add(Recipients{Message(i), Destination{"t", names[i%1000]}, []int{0}})
		i++
		d, ok := s.Next(now)
		if !ok {
			b.Fatal("nothing")
		}
		s.Done(d, Answered, dsn.Status{}, now)
	}
}
