// Command bench measures Posthaste and an installed Postfix side by side: the
// same messages, sizes and sessions through each, in turns within one run, and
// prints medians and ratios. Absolute figures depend on the machine and what
// else it does; only the ratios of one run mean something.
//
// It needs root (two mail servers, in network and mount namespaces of their
// own) and Debian's postfix package, whose smtp-source and smtp-sink make and
// take the load. make bench calls it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"syscall"
	"time"
)

// path is a way through the server.
type path struct {
	name, recipient string
}

var paths = []path{
	{"discard", "u@discard.test"},
	{"relay", "u@relay.test"},
	{"Maildir", "u@virt.test"},
}

// load is one kind of traffic.
type load struct {
	path
	size, sessions, messages int
	keep                     bool // many messages per connection
}

func (l load) String() string {
	per := "one per connection"
	if l.keep {
		per = "many per connection"
	}
	return fmt.Sprintf("%s, %d KiB, %d sessions, %s", l.name, l.size/1024, l.sessions, per)
}

func main() {
	repeats := flag.Int("n", 3, "repetitions of each measurement; the median counts")
	messages := flag.Int("m", 2000, "messages per measurement")
	bin := flag.String("bin", "bin", "directory with Posthaste's commands")
	dir := flag.String("dir", "", "directory for queues and mailboxes, on the disk to be measured (default: a temporary one)")
	quick := flag.Bool("quick", false, "few messages, one repetition: does it work?")
	flag.Parse()
	if *quick {
		*repeats, *messages = 1, 100
	}
	if os.Getenv("POSTHASTE_BENCH") == "" {
		os.Exit(isolate())
	}
	if err := run(*bin, *dir, *repeats, *messages); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// isolate runs this program again with a network and file system view of its own.
func isolate() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: needs root: it starts two mail servers in namespaces of their own")
		return 1
	}
	for _, need := range []string{"postfix", "smtp-source", "smtp-sink"} {
		if _, err := exec.LookPath(need); err != nil {
			fmt.Fprintf(os.Stderr, "bench: no %s; install Debian's postfix package\n", need)
			return 1
		}
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), "POSTHASTE_BENCH=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		return 1
	}
	return 0
}

func loads(messages int) []load {
	var all []load
	for _, p := range paths {
		for _, sessions := range []int{1, 10, 100} {
			all = append(all, load{p, 4096, sessions, messages, true})
		}
		all = append(all, load{p, 65536, 10, messages / 2, true})
	}
	return append(all, load{paths[0], 4096, 1, messages / 4, false})
}

// sample is one measurement.
type sample struct {
	rate    float64 // messages per second, accepted and delivered
	cpu     float64 // microseconds per message
	flushes float64 // of the disk, per message
}

func run(bin, dir string, repeats, messages int) error {
	for _, args := range [][]string{
		{"mount", "--make-rprivate", "/"}, {"mount", "-t", "proc", "proc", "/proc"}, {"ip", "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	if dir == "" {
		temporary, err := os.MkdirTemp("", "posthaste-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	servers, err := start(bin, dir)
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	fmt.Printf("| %-52s | Postfix /s | Posthaste /s | ratio | CPU us/msg | CPU us/msg | CPU ratio | flushes |\n", "messages accepted and delivered")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, l := range loads(messages) {
		results := map[string][]sample{}
		for range repeats {
			for _, s := range servers {
				one, err := s.measure(l)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, l, err)
				}
				results[s.name] = append(results[s.name], one)
			}
		}
		theirs, ours := median(results["postfix"]), median(results["posthaste"])
		fmt.Printf("| %-52s | %10.0f | %12.0f | %5.1f | %10.0f | %10.0f | %9.2f | %.2f / %.2f |\n", l,
			theirs.rate, ours.rate, ours.rate/theirs.rate, theirs.cpu, ours.cpu, ours.cpu/theirs.cpu, theirs.flushes, ours.flushes)
	}
	return nil
}

// median takes each figure's own median.
func median(all []sample) sample {
	pick := func(of func(sample) float64) float64 {
		values := make([]float64, len(all))
		for i, s := range all {
			values[i] = of(s)
		}
		sort.Float64s(values)
		return values[len(values)/2]
	}
	return sample{
		rate:    pick(func(s sample) float64 { return s.rate }),
		cpu:     pick(func(s sample) float64 { return s.cpu }),
		flushes: pick(func(s sample) float64 { return s.flushes }),
	}
}

const settleLimit = 120 * time.Second
