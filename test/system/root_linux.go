package system

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// insideVariable is set in the process that has namespaces of its own.
const insideVariable = "POSTHASTE_TEST_NAMESPACE"

// RootMain builds the commands and runs the tests as root, in a network and a
// mount namespace of their own. For an ordinary user it runs them as they are:
// they skip (see NeedRoot).
func RootMain(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	if os.Getenv(insideVariable) != "" {
		return m.Run()
	}
	return prepared(func(dir string) (int, error) {
		os.Setenv(insideVariable, "1")
		return again(dir, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS})
	})
}

// NeedRoot skips a test that was not started by root, and sees to a loopback
// interface.
func NeedRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts the three processes and kills them")
	}
	if os.Getenv(insideVariable) == "" {
		t.Fatal("not in a namespace: TestMain has to call RootMain")
	}
	if output, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Skipf("needs ip(8) for a network namespace: %v: %s", err, output)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
