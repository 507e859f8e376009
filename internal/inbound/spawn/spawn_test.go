package spawn

import (
	"context"
	"io"
	"net"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/internal/delivery/pipe"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/sys/lifecycle"
	"posthaste/internal/sys/maillog"
)

var users = pipe.Users{
	Owner: "postfix",
	User: func(name string) (*user.User, error) {
		ids := map[string]string{"www": "33", "root": "0", "postfix": "102"}
		if ids[name] == "" {
			return nil, user.UnknownUserError(name)
		}
		return &user.User{Uid: ids[name], Gid: ids[name]}, nil
	},
	Group: func(name string) (*user.Group, error) { return &user.Group{Gid: "50"}, nil },
}

func TestParseSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"user=www argv=/bin/x -o a=b ${sender}", ""},
		{"user=www:staff argv=/bin/x", ""},
		{"argv=/bin/x", "missing user= command-line attribute"},
		{"user=www", "missing argv= command-line attribute"},
		{"user=root argv=/bin/x", "user= command-line attribute specifies root privileges"},
		{"user=postfix argv=/bin/x", "user= command-line attribute specifies mail system owner postfix"},
		{"user=nobody argv=/bin/x", "get_service_attr: unknown username: nobody"},
		{"user=www flags=R argv=/bin/x", "unknown attribute: flags=R"},
	} {
		s, err := ParseSettings(strings.Fields(test.args), users)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want || err == nil && (s.Rights.UID != 33 || s.Argv[0] != "/bin/x") {
			t.Errorf("%s: %+v, %q", test.args, s, got)
		}
	}
}

// local runs commands in this process, whoever it runs as.
type local struct{ worker.Host }

func (l local) Run(ctx context.Context, _ worker.Rights, c worker.Command) (worker.Finished, error) {
	return l.Host.Run(ctx, worker.Rights{}, c)
}

// service serves a socket until the test ends.
func service(t *testing.T, limit int, limitTime time.Duration, line string) (path string, log *maillog.Memory, stop func()) {
	t.Helper()
	path, log = filepath.Join(t.TempDir(), "socket"), &maillog.Memory{}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{TimeLimit: limitTime}, Settings{Argv: []string{"/bin/sh", "-c", line}},
		Deps{Host: local{worker.InProcess()}, Log: maillog.New(log, "postfix/spawn", 1, nil), Limit: limit})
	g := lifecycle.New(context.Background(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	g.Go("serve", func(context.Context) { s.Serve(ctx, g, ln) })
	stop = func() {
		cancel()
		if err := g.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return path, log, stop
}

func dial(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn.(*net.UnixConn)
}

func TestServesConnections(t *testing.T) {
	t.Parallel()
	path, log, stop := service(t, 0, 0, "while read line; do echo \"$line!\"; done")
	for range 3 {
		conn := dial(t, path)
		io.WriteString(conn, "one\ntwo\n")
		conn.CloseWrite()
		answer, err := io.ReadAll(conn)
		if err != nil || string(answer) != "one!\ntwo!\n" {
			t.Errorf("got %q, %v", answer, err)
		}
	}
	stop()
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket is served after the end")
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	path, _, _ := service(t, 1, 0, "echo ready; read line")
	first, second := dial(t, path), dial(t, path)
	buffer := make([]byte, 10)
	if n, err := first.Read(buffer); err != nil || string(buffer[:n]) != "ready\n" {
		t.Fatalf("%q, %v", buffer[:n], err)
	}
	second.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := second.Read(buffer); err == nil {
		t.Fatalf("a second command runs: %q", buffer[:n])
	}
	first.Close()
	second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := second.Read(buffer); err != nil {
		t.Errorf("the next connection is not served: %v", err)
	}
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line, want string
		limit      time.Duration
	}{
		{"exit 3", "postfix/spawn: warning: command /bin/sh exit status 3", 0},
		{"kill -15 $$", "postfix/spawn: warning: command /bin/sh killed by signal 15", 0},
		{"sleep 60", "postfix/spawn: warning: command /bin/sh: time limit of 0 seconds exceeded", 50 * time.Millisecond},
	} {
		path, log, stop := service(t, 0, test.limit, test.line)
		if answer, err := io.ReadAll(dial(t, path)); err != nil || len(answer) > 0 {
			t.Errorf("%s: %q, %v", test.line, answer, err)
		}
		stop()
		if log.String() != test.want {
			t.Errorf("%s: %s", test.line, log)
		}
	}
}
