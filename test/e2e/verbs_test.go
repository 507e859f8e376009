package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"posthaste/test/system"
)

// verb is a command of a script. It fails the script by a panic of ts.Fatalf.
type verb = func(ts *testscript.TestScript, neg bool, args []string)

var verbs = map[string]verb{
	"start": plain(0, start), "restart": plain(0, restart), "reload": plain(0, reload), "signal": plain(1, sendSignal), "ended": plain(0, ended),
	"waitlog": waitlog, "log": lookAtLog, "waitfile": plain(2, waitfile), "waitqueue": waitqueue, "queueid": plain(2, queueID),
	"send": send, "connect": connect, "dial": plain(0, dial), "ask": plain(3, ask), "say": plain(2, say), "hear": plain(2, hear),
	"gone": plain(1, gone), "hangup": plain(1, hangup),
	"hop": plain(2, hop), "hopwaits": plain(2, hopwaits), "release": plain(1, release), "hopgot": plain(2, hopgot),
	"measure": plain(0, measure), "settled": plain(0, settled),
	"config": configure, "append": appendLine,
	"sent": plain(2, sent), "refused": plain(1, refused), "pour": plain(2, pour), "damage": plain(1, damage),
}

// plain makes a verb of a function that takes n words and has no negation.
func plain(n int, f func(ts *testscript.TestScript, st *stage, args []string)) verb {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != n {
			ts.Fatalf("this command takes %d words, and no !", n)
		}
		f(ts, stageOf(ts), args)
	}
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func wait(ts *testscript.TestScript, what string, condition func() bool) {
	if !system.Soon(condition) {
		ts.Fatalf("waited %v for %s", system.Patience, what)
	}
}

func number(ts *testscript.TestScript, word string) int {
	n, err := strconv.Atoi(word)
	ts.Check(err)
	return n
}

func expression(ts *testscript.TestScript, text string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + text)
	ts.Check(err)
	return re
}

func start(ts *testscript.TestScript, st *stage, _ []string) {
	ts.Check(ts.Exec("postfix", "start"))
}

func restart(ts *testscript.TestScript, st *stage, _ []string) {
	ts.Check(ts.Exec("postfix", "stop"))
	ts.Check(ts.Exec("postfix", "start"))
}

// reload reloads the configuration and waits until it is in use.
func reload(ts *testscript.TestScript, st *stage, _ []string) {
	st.reloads++
	banner := fmt.Sprintf("configuration %d", st.reloads)
	ts.Check(ts.Exec("postconf", "-e", "smtpd_banner="+banner))
	ts.Check(ts.Exec("postfix", "reload"))
	greeting := ""
	if !system.Soon(func() bool {
		c, err := system.Dial(st.server.Addr())
		ts.Check(err)
		defer c.Close()
		greeting, err = c.Hear()
		ts.Check(err)
		ts.Check(c.Ask("QUIT", "221"))
		return greeting == "220 "+banner
	}) {
		ts.Fatalf("the configuration is not in use; the greeting is %q", greeting)
	}
}

func sendSignal(ts *testscript.TestScript, st *stage, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	signal, pid := signals[args[0]], st.pid()
	if signal == 0 || pid == 0 {
		ts.Fatalf("no such signal, or no server")
	}
	ts.Check(syscall.Kill(pid, signal))
}

func ended(ts *testscript.TestScript, st *stage, _ []string) {
	wait(ts, "the end of the server", func() bool { return st.pid() == 0 })
}

func waitlog(ts *testscript.TestScript, neg bool, args []string) {
	want := 1
	if len(args) == 2 && strings.HasPrefix(args[0], "-count=") {
		want = number(ts, strings.TrimPrefix(args[0], "-count="))
		args = args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitlog [-count=N] RE")
	}
	re, st := expression(ts, args[0]), stageOf(ts)
	wait(ts, fmt.Sprintf("%d log lines %s", want, args[0]), func() bool { return len(re.FindAllString(st.server.Log(), -1)) >= want })
}

func lookAtLog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: log RE")
	}
	if found := expression(ts, args[0]).FindString(stageOf(ts).server.Log()); (found == "") != neg {
		ts.Fatalf("log %s: found %q", args[0], found)
	}
}

func waitfile(ts *testscript.TestScript, _ *stage, args []string) {
	want, found := number(ts, args[0]), 0
	pattern := ts.MkAbs(args[1])
	wait(ts, fmt.Sprintf("%d files %s", want, args[1]), func() bool {
		paths, err := filepath.Glob(pattern)
		ts.Check(err)
		found = len(paths)
		return found == want
	})
}

func waitqueue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitqueue N [QUEUE]")
	}
	want := number(ts, args[0])
	wait(ts, "messages in the queue: "+strings.Join(args, " "), func() bool {
		return len(listed(ts, args[1:]...)) == want
	})
}

// listed is the queue, or one of its parts.
func listed(ts *testscript.TestScript, queues ...string) []system.Queued {
	all, err := stageOf(ts).server.Queue()
	ts.Check(err)
	if len(queues) == 0 {
		return all
	}
	var some []system.Queued
	for _, q := range all {
		if q.Queue == queues[0] {
			some = append(some, q)
		}
	}
	return some
}

func queueID(ts *testscript.TestScript, _ *stage, args []string) {
	found := listed(ts, args[1])
	if len(found) != 1 {
		ts.Fatalf("%d messages in %s, not one", len(found), args[1])
	}
	ts.Setenv(args[0], found[0].ID)
}

const letter = "From: <me@client.test>\r\nSubject: a letter\r\n\r\nHello.\r\n"

// send sends a letter; with ! it has to be refused. The last reply is stdout.
func send(ts *testscript.TestScript, neg bool, args []string) {
	c, err := system.Hello(stageOf(ts).server.Addr())
	ts.Check(err)
	defer c.Close()
	err = c.Send(letter, args[0], args[1:]...)
	if refused, ok := err.(*system.UnexpectedReply); ok && neg {
		fmt.Fprintln(ts.Stdout(), refused.Reply)
		return
	}
	ts.Check(err)
	if neg {
		ts.Fatalf("the mail was accepted")
	}
	ts.Check(c.Ask("QUIT", "221"))
}

func connect(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: connect C [PORT]")
	}
	st := stageOf(ts)
	port := st.server.Port
	if len(args) == 2 {
		port = args[1]
	}
	c, err := system.Dial("127.0.0.1:" + port)
	if err == nil {
		if err = c.Want("connect", "220"); err != nil {
			c.Close()
		}
	}
	if (err != nil) != neg {
		ts.Fatalf("connect: %v", err)
	}
	if err == nil {
		st.clients[args[0]] = c
	}
}

// dial opens a connection and wants nothing from it.
func dial(ts *testscript.TestScript, st *stage, _ []string) {
	c, err := system.Dial(st.server.Addr())
	ts.Check(err)
	ts.Defer(func() { c.Close() })
}

func client(ts *testscript.TestScript, st *stage, name string) *system.Client {
	c := st.clients[name]
	if c == nil {
		ts.Fatalf("no connection %s", name)
	}
	return c
}

func ask(ts *testscript.TestScript, st *stage, args []string) {
	ts.Check(client(ts, st, args[0]).Say(args[1] + "\r\n"))
	hear(ts, st, []string{args[0], args[2]})
}

func say(ts *testscript.TestScript, st *stage, args []string) {
	ts.Check(client(ts, st, args[0]).Say(strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00").Replace(args[1])))
}

func hear(ts *testscript.TestScript, st *stage, args []string) {
	reply, err := client(ts, st, args[0]).Hear()
	ts.Check(err)
	if !expression(ts, args[1]).MatchString(reply) {
		ts.Fatalf("the reply is %q", reply)
	}
}

func gone(ts *testscript.TestScript, st *stage, args []string) {
	c := client(ts, st, args[0])
	for {
		if _, err := c.Hear(); err != nil {
			if os.IsTimeout(err) {
				ts.Fatalf("the connection is not closed")
			}
			return
		}
	}
}

func hangup(ts *testscript.TestScript, st *stage, args []string) {
	client(ts, st, args[0]).Close()
	delete(st.clients, args[0])
}

func hop(ts *testscript.TestScript, st *stage, args []string) {
	h, err := system.NewHop(args[1])
	ts.Check(err)
	st.hops[args[0]] = h
}

func hopwaits(ts *testscript.TestScript, st *stage, args []string) {
	want := number(ts, args[1])
	wait(ts, args[1]+" messages at the next hop", func() bool { return st.hops[args[0]].Waiting() == want })
}

func release(_ *testscript.TestScript, st *stage, args []string) { st.hops[args[0]].Release() }

func hopgot(ts *testscript.TestScript, st *stage, args []string) {
	want := number(ts, args[1])
	wait(ts, args[1]+" messages through the next hop", func() bool { return len(st.hops[args[0]].Messages()) == want })
}

// openFiles counts the open files of the server.
func openFiles(ts *testscript.TestScript, st *stage) int {
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(st.pid()), "fd"))
	if os.IsNotExist(err) {
		return 0 // not on Linux
	}
	ts.Check(err)
	return len(entries)
}

func measure(ts *testscript.TestScript, st *stage, _ []string) { st.open = openFiles(ts, st) }

func settled(ts *testscript.TestScript, st *stage, _ []string) {
	now := 0
	if !system.Soon(func() bool { now = openFiles(ts, st); return now <= st.open }) {
		ts.Fatalf("%d files are open, before it were %d", now, st.open)
	}
}

func configure(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Exec("postconf", append([]string{"-e"}, args...)...))
}

func appendLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: append FILE TEXT")
	}
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	ts.Check(err)
	_, err = fmt.Fprintln(file, strings.Join(args[1:], " "))
	ts.Check(err)
	ts.Check(file.Close())
}

// sent tries until a letter is accepted, as a client would do after 4xx.
func sent(ts *testscript.TestScript, st *stage, args []string) {
	var err error
	if !system.Soon(func() bool {
		c, dialed := system.Hello(st.server.Addr())
		ts.Check(dialed)
		defer c.Close()
		err = c.Send(letter, args[0], args[1])
		return err == nil
	}) {
		ts.Fatalf("the mail is not accepted: %v", err)
	}
}

// refused waits until nobody listens on a port.
func refused(ts *testscript.TestScript, _ *stage, args []string) {
	wait(ts, "a closed port "+args[0], func() bool {
		c, err := system.Dial("127.0.0.1:" + args[0])
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// pour sends so many bytes without a line end.
func pour(ts *testscript.TestScript, st *stage, args []string) {
	c := client(ts, st, args[0])
	for left := number(ts, args[1]); left > 0; left -= 1000 {
		if c.Say(strings.Repeat("x", 1000)) != nil {
			return // it may have hung up on us
		}
	}
}

// damage puts queue files into a directory that no program has written.
func damage(ts *testscript.TestScript, _ *stage, args []string) {
	dir := ts.MkAbs(args[0])
	for name, text := range map[string]string{
		"1A2B3C4D5E": "this is no queue file",
		"1A2B3C4D5F": "",
		"1A2B3C4D50": "C^            585             188               1               0             585               0T\x10",
	} {
		ts.Check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700))
	}
}
