package layout

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRunning is returned by Lock when another supervisor holds the lock.
var ErrRunning = errors.New("the Postfix mail system is already running")

// PIDFile is the lock of the running system below a queue directory, where
// postfix(1) has it.
func PIDFile(queueDirectory string) string {
	return filepath.Join(queueDirectory, "pid", "master.pid")
}

// Lock takes the system's lock and writes our process id into it. The lock
// lasts until the file is closed.
func Lock(queueDirectory string) (*os.File, error) {
	file, err := os.OpenFile(PIDFile(queueDirectory), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock file %s: %w", PIDFile(queueDirectory), err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, ErrRunning
	}
	text := fmt.Sprintf("%10d\n", os.Getpid())
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt([]byte(text), 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("write lock file %s: %w", PIDFile(queueDirectory), err)
	}
	return file, nil
}

// Running returns the process id of the running supervisor, 0 if there is none.
func Running(queueDirectory string) (int, error) {
	file, err := os.OpenFile(PIDFile(queueDirectory), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return 0, nil // nobody holds it
	}
	data, err := io.ReadAll(io.LimitReader(file, 64))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s does not hold a process id", file.Name())
	}
	return pid, nil
}
