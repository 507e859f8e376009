package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is one mail system with its files.
type Server struct {
	Dir  string // configuration, and all else below it
	Port string // of its SMTP service

	t     testing.TB
	cmd   *exec.Cmd
	said  *os.File      // its standard error
	ended chan struct{} // closed when cmd has ended
}

// main is the configuration that every server starts from.
const mainText = `compatibility_level = 3.11
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
myhostname = mail.example.test
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_host_lookup = native
default_transport = error:4.4.1 no way out of a test
virtual_mailbox_domains = box.test
virtual_mailbox_base = %[1]s
virtual_mailbox_maps = inline:{ {@box.test = box/} }
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[3]d
virtual_minimum_uid = 1
`

const masterText = `127.0.0.1:%s inet n - n - - smtpd
pickup     unix  n       -      n      60     1       pickup
cleanup    unix  n       -      n      -      0       cleanup
qmgr       unix  n       -      n      300    1       qmgr
rewrite    unix  -       -      n      -      -       trivial-rewrite
bounce     unix  -       -      n      -      0       bounce
defer      unix  -       -      n      -      0       bounce
trace      unix  -       -      n      -      0       bounce
flush      unix  n       -      n      1000?  0       flush
smtp       unix  -       -      n      -      -       smtp
relay      unix  -       -      n      -      -       smtp
showq      unix  n       -      n      -      -       showq
error      unix  -       -      n      -      -       error
retry      unix  -       -      n      -      -       error
discard    unix  -       -      n      -      -       discard
local      unix  -       n      n      -      -       local
virtual    unix  -       n      n      -      -       virtual
postlog    unix-dgram n  -      n      -      1       postlogd
`

// New writes the configuration of a server below dir, with further main.cf
// lines behind it, and stops the server at the end of the test. Mail to any
// user of box.test goes to the Maildir box/.
func New(t testing.TB, dir string, further ...string) *Server {
	t.Helper()
	s := &Server{Dir: dir, Port: FreePort(t), t: t}
	owner := s.owner()
	if _, err := lookup("postfix"); err != nil && os.Getuid() == 0 {
		further = append(further, "mail_owner = daemon", "setgid_group = mail") // Postfix was never here
	}
	s.write("main.cf", fmt.Sprintf(mainText, dir, owner.UID, owner.GID)+strings.Join(further, "\n")+"\n")
	s.write("master.cf", fmt.Sprintf(masterText, s.Port))
	t.Cleanup(s.finish)
	return s
}

// owner is who owns mailboxes: the user of the test, or for root's system an
// account that every machine has.
func (s *Server) owner() identity {
	s.t.Helper()
	if os.Getuid() != 0 {
		return identity{os.Getuid(), os.Getgid()}
	}
	nobody, err := lookup("nobody")
	if err == nil {
		err = errors.Join(os.Chmod(s.Dir, 0o755), os.Mkdir(s.Path("box"), 0o755), os.Chown(s.Path("box"), nobody.UID, nobody.GID))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return nobody
}

// TempDir is a directory with a short name, for the names of sockets in it
// must fit.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *Server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// Path is a file or directory of the server.
func (s *Server) Path(elements ...string) string {
	return filepath.Join(append([]string{s.Dir}, elements...)...)
}

// Addr is where it speaks SMTP.
func (s *Server) Addr() string { return "127.0.0.1:" + s.Port }

// Launch starts the supervisor in a process group of its own and returns at
// once; the channel tells how the start went.
func (s *Server) Launch() <-chan error {
	s.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.said, err = os.OpenFile(s.Path("stderr"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(filepath.Join(Bin(), "posthaste"), "master", "-c", s.Dir, "-w")
	s.cmd.Stderr = s.said
	s.cmd.ExtraFiles = []*os.File{write}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = s.cmd.Start()
	write.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	ended, cmd := make(chan struct{}), s.cmd
	s.ended = ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
	answer := make(chan error, 1)
	go func() {
		defer read.Close()
		text, err := io.ReadAll(read)
		if err == nil && string(text) != "ready\n" {
			err = fmt.Errorf("server said %q", text)
		}
		answer <- err
	}()
	return answer
}

// Start launches the server and waits until it listens.
func (s *Server) Start() {
	s.t.Helper()
	select {
	case err := <-s.Launch():
		if err != nil {
			s.t.Fatal(err)
		}
	case <-time.After(Patience):
		s.t.Fatal("the server does not start")
	}
}

// PID is the supervisor's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Kill ends all of the server at once, as a crash would.
func (s *Server) Kill() {
	s.t.Helper()
	if err := syscall.Kill(-s.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Fatal(err)
	}
	s.AwaitEnd()
}

// Stop asks the server to end, and waits.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	s.AwaitEnd()
}

// AwaitEnd waits for the end of the supervisor.
func (s *Server) AwaitEnd() {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(2 * Patience):
		s.t.Fatal("the server does not end")
	}
	s.said.Close()
	s.cmd = nil
}

// finish clears up, and fails the test for what a server must never say.
func (s *Server) finish() {
	if s.cmd != nil {
		syscall.Kill(-s.PID(), syscall.SIGKILL)
		<-s.ended
	}
	said, _ := os.ReadFile(s.Path("stderr"))
	Innocent(s.t, s.Log()+string(said))
	if s.t.Failed() {
		s.t.Logf("the end of the log:\n%s%s", tail(s.Log(), 60), tail(string(said), 60))
	}
}

// Innocent fails a test whose server raced or panicked.
func Innocent(t testing.TB, said string) {
	t.Helper()
	for _, word := range []string{"DATA RACE", "panic: ", "fatal error: "} {
		if at := strings.Index(said, word); at >= 0 {
			t.Errorf("the server said: %.3000s", said[max(0, at-200):])
		}
	}
}

func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// Log is the mail log so far.
func (s *Server) Log() string {
	text, _ := os.ReadFile(s.Path("mail.log"))
	return string(text)
}

// WaitLog waits for a line that matches a regular expression.
func (s *Server) WaitLog(expression string) {
	s.t.Helper()
	re := regexp.MustCompile("(?m)" + expression)
	Wait(s.t, "a log line "+expression, func() bool { return re.MatchString(s.Log()) })
}

// Command runs one of the commands on this server's configuration.
func (s *Server) Command(name string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(Bin(), name), args...)
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+s.Dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out), err
}

// Queued is one message as postqueue -j lists it.
type Queued struct {
	Queue      string `json:"queue_name"`
	ID         string `json:"queue_id"`
	Sender     string `json:"sender"`
	Recipients []struct {
		Address string `json:"address"`
		Reason  string `json:"delay_reason"`
	} `json:"recipients"`
}

// Queue lists the queue.
func (s *Server) Queue() ([]Queued, error) {
	out, err := s.Command("postqueue", "-j")
	if err != nil {
		return nil, err
	}
	var all []Queued
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var q Queued
		if err := decoder.Decode(&q); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("postqueue -j: %w in %q", err, out)
		}
		all = append(all, q)
	}
}

// Mail reads the messages of the Maildir box/new.
func (s *Server) Mail() (map[string]string, error) {
	paths, err := filepath.Glob(s.Path("box", "new", "*"))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all[path] = string(data)
	}
	return all, nil
}

// Children finds the processes that a process started, by their second word:
// "posthaste-mail", "posthaste-delivery" (Linux only).
func Children(pid int) map[string]int {
	found := map[string]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) || fields[0] == "Z" {
			continue
		}
		dir := filepath.Dir(path)
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		words := strings.Split(string(line), "\x00")
		child, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && len(words) > 1 {
			found[words[1]] = child
		}
	}
	return found
}
