package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Environment that a test process passes on when it runs itself again.
const (
	binVariable = "POSTHASTE_TEST_BIN" // directory of the commands
	tmpVariable = "TMPDIR"
)

// commands are the names that the binary gets, as "make build" does.
var commands = []string{"postfix", "postconf", "postmap", "postalias", "postqueue", "postsuper", "postcat", "postdrop",
	"postlog", "postkick", "sendmail", "mailq"}

// Bin is the directory of the built commands.
func Bin() string { return os.Getenv(binVariable) }

// Main builds the commands, becomes an ordinary user, and runs the tests; the
// result is for os.Exit.
func Main(m *testing.M) int {
	if Bin() != "" {
		return m.Run()
	}
	return prepared(func(dir string) (int, error) {
		if os.Geteuid() != 0 {
			return m.Run(), nil
		}
		nobody, err := lookup("nobody")
		if err != nil {
			return 1, err
		}
		if err := os.Chown(dir, nobody.UID, nobody.GID); err != nil {
			return 1, err
		}
		if err := copyTree("testdata", filepath.Join(dir, "testdata")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return 1, err
		}
		credential := &syscall.Credential{Uid: uint32(nobody.UID), Gid: uint32(nobody.GID), Groups: []uint32{uint32(nobody.GID)}}
		return again(dir, &syscall.SysProcAttr{Credential: credential})
	})
}

// prepared makes a directory with the commands, calls run, and removes it.
func prepared(run func(dir string) (int, error)) int {
	dir, err := os.MkdirTemp("", "ph")
	if err == nil {
		defer os.RemoveAll(dir)
		os.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second
		os.Setenv(binVariable, filepath.Join(dir, "bin"))
		os.Setenv(tmpVariable, dir) // so that names of sockets stay short
		err = errors.Join(os.Chmod(dir, 0o755), build(Bin()))
	}
	status := 1
	if err == nil {
		status, err = run(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare end-to-end tests:", err)
	}
	return status
}

func build(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-o", filepath.Join(dir, "posthaste")}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "posthaste/cmd/posthaste")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	for _, name := range commands {
		if err := os.Symlink("posthaste", filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// again runs this test program once more from dir, in other circumstances.
// Files that go test wants are for this process to write, not for that one.
func again(dir string, how *syscall.SysProcAttr) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	program := filepath.Join(dir, "tests")
	if err := copyFile(self, program, 0o755); err != nil {
		return 1, err
	}
	cmd := exec.Command(program)
	for _, arg := range os.Args[1:] {
		if !strings.HasPrefix(arg, "-test.testlogfile=") {
			cmd.Args = append(cmd.Args, arg)
		}
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, os.Stdout, os.Stderr, how
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	return 0, err
}

// identity is a pair of ids.
type identity struct{ UID, GID int }

func lookup(name string) (identity, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return identity{}, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return identity{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return identity{uid, gid}, err
}

func copyTree(from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}
