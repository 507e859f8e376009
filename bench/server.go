package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settings that both servers get; %s is the instance's directory, %d the port
// of the sink. Everything else is at its default.
const settings = `
compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = /
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.test
mydestination =
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:%[2]d
smtp_host_lookup = native
smtp_dns_support_level = disabled
alias_maps =
alias_database =
local_recipient_maps =
transport_maps = inline:{discard.test=discard:}
virtual_mailbox_domains = virt.test
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:u/
virtual_uid_maps = static:2100
virtual_gid_maps = static:2100
virtual_mailbox_limit = 0
smtpd_peername_lookup = no
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_client_event_limit_exceptions = 127.0.0.0/8
`

const services = `
127.0.0.1:%d inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
`

const sinkPort = 2526

// server is one mail server under test.
type server struct {
	name    string
	command string // its postfix command
	conf    string
	dir     string
	port    int
	disk    string // block device below dir, for the count of flushes
}

// start makes both instances and the sink behind them.
func start(bin, dir string) ([]*server, error) {
	theirs, err := exec.LookPath("postfix")
	if err != nil {
		return nil, err
	}
	sink := exec.Command("smtp-sink", "-u", "nobody", fmt.Sprintf("127.0.0.1:%d", sinkPort), "1000")
	if err := sink.Start(); err != nil {
		return nil, err
	}
	all := []*server{
		{name: "postfix", command: theirs, conf: "/etc/postfix", port: 2601},
		{name: "posthaste", command: filepath.Join(bin, "postfix"), port: 2602},
	}
	for _, s := range all {
		s.dir = filepath.Join(dir, s.name)
		if err := s.start(); err != nil {
			return all, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return all, nil
}

func (s *server) start() error {
	files := filepath.Join(s.dir, "conf")
	for _, d := range []string{files, filepath.Join(s.dir, "queue"), filepath.Join(s.dir, "data"), filepath.Join(s.dir, "mail")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for d := s.dir; d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	if s.conf != "" { // an installed Postfix wants the other files there, too
		if out, err := exec.Command("cp", "-a", s.conf+"/.", files).CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s: %w: %s", s.conf, err, out)
		}
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(files, "main.cf"), fmt.Appendf(nil, settings[1:], s.dir, sinkPort), 0o644),
		os.WriteFile(filepath.Join(files, "master.cf"), fmt.Appendf(nil, services[1:], s.port), 0o644),
		os.Chown(filepath.Join(s.dir, "mail"), 2100, 2100),
		own(filepath.Join(s.dir, "data"), "postfix"))
	if err != nil {
		return err
	}
	if s.conf == "" {
		s.conf = files
	} else if out, err := exec.Command("mount", "--bind", files, s.conf).CombinedOutput(); err != nil {
		return fmt.Errorf("bind %s: %w: %s", s.conf, err, out)
	}
	s.disk = device(s.dir)
	if out, err := exec.Command(s.command, "-c", s.conf, "start").CombinedOutput(); err != nil {
		return fmt.Errorf("start: %w: %s", err, out)
	}
	return s.waitPort()
}

func own(path, user string) error {
	out, err := exec.Command("chown", user, path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("chown %s: %w: %s", user, err, out)
	}
	return nil
}

func (s *server) waitPort() error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *server) stop() { exec.Command(s.command, "-c", s.conf, "stop").Run() }

// measure sends one load and waits until nothing of it is left in the queue.
func (s *server) measure(l load) (sample, error) {
	args := []string{"-s", strconv.Itoa(l.sessions), "-m", strconv.Itoa(l.messages), "-l", strconv.Itoa(l.size),
		"-f", "sender@source.test", "-t", l.recipient}
	if l.keep {
		args = append(args, "-d")
	}
	args = append(args, fmt.Sprintf("127.0.0.1:%d", s.port))
	cpu, flushes, begun := s.cpu(), flushCount(s.disk), time.Now()
	if out, err := exec.Command("smtp-source", args...).CombinedOutput(); err != nil {
		return sample{}, fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	if err := s.settle(); err != nil {
		return sample{}, err
	}
	took := time.Since(begun)
	n := float64(l.messages)
	result := sample{
		rate:    n / took.Seconds(),
		cpu:     float64((s.cpu() - cpu).Microseconds()) / n,
		flushes: float64(flushCount(s.disk)-flushes) / n,
	}
	if l.name == "Maildir" {
		if got := countFiles(filepath.Join(s.dir, "mail")); got != l.messages {
			return result, fmt.Errorf("%d messages in the Maildir, %d were sent", got, l.messages)
		}
		os.RemoveAll(filepath.Join(s.dir, "mail", "u"))
	}
	return result, nil
}

// settle waits until the queue is empty.
func (s *server) settle() error {
	for deadline := time.Now().Add(settleLimit); ; {
		left := 0
		for _, q := range []string{"incoming", "active", "deferred"} {
			left += countFiles(filepath.Join(s.dir, "queue", q))
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages are still queued", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func countFiles(dir string) int {
	n := 0
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil
	})
	return n
}

// clockTick is the unit of times in /proc (USER_HZ).
const clockTick = 10 * time.Millisecond

// cpu is the time that the server's processes have used, those that ended included.
func (s *server) cpu() time.Duration {
	data, err := os.ReadFile(filepath.Join(s.dir, "queue/pid/master.pid"))
	if err != nil {
		return 0
	}
	root, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	type process struct {
		parent int
		ticks  int64
	}
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		p := process{parent: parent}
		for _, field := range fields[11:15] { // utime stime cutime cstime
			ticks, _ := strconv.ParseInt(field, 10, 64)
			p.ticks += ticks
		}
		all[pid] = p
	}
	var total int64
	for pid := range all {
		for at := pid; at > 1; at = all[at].parent {
			if at == root {
				total += all[pid].ticks
				break
			}
		}
	}
	return time.Duration(total) * clockTick
}

// device names the block device that holds a directory.
func device(dir string) string {
	out, err := exec.Command("df", "--output=source", dir).Output()
	if err != nil {
		return ""
	}
	lines := strings.Fields(string(out))
	return filepath.Base(lines[len(lines)-1])
}

// flushCount is how many cache flushes a device has done.
func flushCount(name string) int64 {
	data, _ := os.ReadFile("/proc/diskstats")
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 18 && fields[2] == name {
			n, _ := strconv.ParseInt(fields[18], 10, 64)
			return n
		}
	}
	return 0
}
