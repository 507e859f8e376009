//go:build !linux

package worker

import "os"

// protect has nothing to do: the kernel does not let a process be traced that
// changed its rights.
func protect() error { return nil }

// ownBinary is this program.
func ownBinary() (string, error) { return os.Executable() }
