package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"posthaste/internal/master"
	"posthaste/internal/sys/lifecycle"
)

// The server that "posthaste try" starts: high ports on the loopback
// interface, one domain with one mailbox, and no relaying for strangers.
const (
	tryPort   = 2525 // or the next one that is free
	tryDomain = "example.test"
	tryUser   = "you@" + tryDomain
	tryLimit  = 30 * time.Second
)

const tryMain = `# A small Posthaste, started by "posthaste try". Parameters are those of Postfix:
# "postconf -c %[1]s" shows all of them.
compatibility_level = 3.11
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s

# Who we are, and which networks may send mail through us: only this machine.
myhostname = mail.example.test
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8, [::1]/128
mydestination =
alias_maps =
alias_database =

# One domain with one mailbox, a Maildir below %[1]s/mail.
virtual_mailbox_domains = example.test
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = inline:{ {you@example.test = you/Maildir/} {postmaster@example.test = you/Maildir/} }
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[3]d
virtual_minimum_uid = 1
`

const tryMaster = `# service  type  private unpriv chroot wakeup maxproc command
127.0.0.1:%d inet n - n - - smtpd
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

// Try is "posthaste try [directory]": a mail server of one's own in a
// directory, a first message, and then what one likes until Ctrl-C.
func Try(ctx context.Context, env *Env) int {
	dir := "run"
	if len(env.Args) > 1 || len(env.Args) == 1 && strings.HasPrefix(env.Args[0], "-") {
		return env.Fatalf("usage: posthaste try [directory]")
	}
	if len(env.Args) == 1 {
		dir = env.Args[0]
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return env.Fatalf("%v", err)
	}
	if err := dropRoot(dir); err != nil {
		return env.Fatalf("%v", err)
	}
	port, err := tryFiles(dir)
	if err != nil {
		return env.Fatalf("%v", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ready, ended := make(chan error, 1), make(chan error, 1)
	group := lifecycle.New(ctx, nil)
	group.Go("mail system", func(ctx context.Context) {
		ended <- master.Run(ctx, master.Options{ConfigDir: dir, Ready: func(err error) { ready <- err }, OneProcess: true})
	})
	fmt.Fprintf(env.Stdout, "starting a mail server in %s, port %d on this machine only\n", dir, port)
	if err := <-ready; err != nil {
		return env.Fatalf("%v", err)
	}
	if err := firstMail(ctx, env.Stdout, dir, port); err != nil {
		stop()
		<-ended
		return env.Fatalf("first mail: %v; see %s/mail.log", err, dir)
	}
	hints(env.Stdout, dir, port)
	<-ctx.Done()
	fmt.Fprintln(env.Stdout, "\nstopping")
	if err := <-ended; err != nil {
		return env.Fatalf("%v", err)
	}
	fmt.Fprintln(env.Stdout, "stopped")
	return 0
}

// dropRoot becomes the user nobody when root tries: a mail server in one
// process has no business with root's rights.
func dropRoot(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("become nobody: %w", err)
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%w: you are root, and the user nobody cannot get there; name another directory, as in: posthaste try /tmp/try", err)
	}
	return nil
}

// tryFiles writes the configuration, unless there is one already, and returns
// the port in it.
func tryFiles(dir string) (int, error) {
	for _, d := range []string{dir, filepath.Join(dir, "mail"), filepath.Join(dir, "queue"), filepath.Join(dir, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return 0, err
		}
	}
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	main, services := fmt.Sprintf(tryMain, dir, os.Getuid(), os.Getgid()), fmt.Sprintf(tryMaster, port)
	for name, text := range map[string]string{"main.cf": main, "master.cf": services} {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		_, err = io.WriteString(file, text)
		if err := errors.Join(err, file.Close()); err != nil {
			return 0, err
		}
	}
	return portIn(filepath.Join(dir, "master.cf"))
}

// freePort is tryPort, or the next one that nobody listens on.
func freePort() (int, error) {
	var last error
	for port := tryPort; port < tryPort+20; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, last
}

// portIn reads the port of the first service in master.cf.
func portIn(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "127.0.0.1:")
	var port int
	if _, err := fmt.Sscanf(rest, "%d", &port); err != nil {
		return 0, fmt.Errorf("%s has no service on 127.0.0.1:port", path)
	}
	return port, nil
}

// firstMail sends a message over SMTP, waits for it in the Maildir, and shows
// it with what the log says.
func firstMail(ctx context.Context, out io.Writer, dir string, port int) error {
	box := filepath.Join(dir, "mail", "you", "Maildir", "new")
	before := newestFile(box)
	text := "From: Posthaste <postmaster@" + tryDomain + ">\r\nTo: <" + tryUser + ">\r\nSubject: Hello\r\n\r\nThis is the first mail.\r\n"
	fmt.Fprintf(out, "sending a first mail to %s\n\n", tryUser)
	if err := smtp.SendMail(fmt.Sprintf("127.0.0.1:%d", port), nil, "postmaster@"+tryDomain, []string{tryUser}, []byte(text)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for newestFile(box) == before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("it did not arrive")
		}
	}
	path := newestFile(box)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "delivered: %s\n\n%s\n", path, quoteLines(string(data)))
	<-tick.C // the log is written behind the delivery
	log, err := os.ReadFile(filepath.Join(dir, "mail.log"))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the log (%s/mail.log):\n\n%s\n", dir, quoteLines(lastLines(string(log), 7)))
	return nil
}

// newestFile is the file of a Maildir that was delivered last, "" for none.
func newestFile(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	newest, at := "", time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().After(at) {
			newest, at = filepath.Join(dir, e.Name()), info.ModTime()
		}
	}
	return newest
}

func quoteLines(text string) string {
	var b strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		b.WriteString("    " + lines.Text() + "\n")
	}
	return b.String()
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func hints(out io.Writer, dir string, port int) {
	self, _ := os.Executable()
	fmt.Fprintf(out, `It runs until Ctrl-C. From another terminal, with %[1]s:

    say HELO yourself          nc 127.0.0.1 %[2]d
    send mail                  posthaste sendmail -C %[3]s -f me@%[4]s %[5]s
    look at the queue          posthaste mailq -C %[3]s
    see it refuse to relay     swaks --server 127.0.0.1:%[2]d --to someone@elsewhere.example
    all settings               posthaste postconf -c %[3]s -n
    change one                 posthaste postconf -c %[3]s -e 'smtpd_banner = hello'
                               posthaste postfix -c %[3]s reload
`, self, port, dir, tryDomain, tryUser)
}
