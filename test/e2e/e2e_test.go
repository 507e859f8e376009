package e2e

import (
	"bytes"
	"flag"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"posthaste/test/system"
)

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "6") // scripts wait more than they work
	os.Exit(system.Main(m))
}

func TestScripts(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txt"), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Files: []string{script}, WorkdirRoot: system.TempDir(t), Cmds: verbs, RequireExplicitExec: true,
				Setup: func(env *testscript.Env) error { return setup(t, env) },
			})
		})
	}
}

// stageKey finds the stage of a script.
type stageKey struct{}

// stage is what a script has beside its files.
type stage struct {
	server  *system.Server
	clients map[string]*system.Client
	hops    map[string]*system.Hop
	open    int // files of the server when measured
	reloads int
}

func setup(t *testing.T, env *testscript.Env) error {
	more, err := os.ReadFile(filepath.Join(env.WorkDir, "main.more"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	for _, name := range []string{"PORT2", "HOP", "CLOSED"} {
		env.Setenv(name, system.FreePort(t))
	}
	expand := func(name string) string {
		if name == "USER" {
			return me.Username
		}
		return env.Getenv(name)
	}
	s := system.New(t, env.WorkDir, os.Expand(string(more), expand))
	env.Setenv("USER", me.Username)
	env.Setenv("PORT", s.Port)
	env.Setenv("MAIL_CONFIG", env.WorkDir)
	env.Setenv("PATH", system.Bin()+string(os.PathListSeparator)+env.Getenv("PATH"))
	st := &stage{server: s, clients: map[string]*system.Client{}, hops: map[string]*system.Hop{}}
	env.Values[stageKey{}] = st
	env.Defer(func() {
		for _, c := range st.clients {
			c.Close()
		}
		for _, h := range st.hops {
			h.Close()
		}
		if pid := st.pid(); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
			system.Soon(func() bool { return st.pid() == 0 })
		}
	})
	return nil
}

// pid is the server's process, however it was started; 0 if none runs.
func (s *stage) pid() int {
	text, err := os.ReadFile(s.server.Path("queue", "pid", "master.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || syscall.Kill(pid, 0) != nil || zombie(pid) {
		return 0
	}
	return pid
}

// zombie reports a process that has ended but was not waited for.
func zombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}
