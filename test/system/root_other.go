//go:build !linux

package system

import "testing"

// RootMain runs the tests, which skip: namespaces are Linux's.
func RootMain(m *testing.M) int { return m.Run() }

// NeedRoot skips.
func NeedRoot(t *testing.T) {
	t.Helper()
	t.Skip("needs Linux's namespaces")
}
