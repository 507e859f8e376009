package maillog

import (
	"strings"
	"sync"
)

// Memory is a Sink that keeps lines as "tag: text", for tests.
type Memory struct {
	mu    sync.Mutex
	lines []string
}

// Write implements Sink.
func (m *Memory) Write(l Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, l.Tag+": "+l.Text)
}

// Lines returns what was logged so far.
func (m *Memory) Lines() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.lines...)
}

// String joins the lines.
func (m *Memory) String() string { return strings.Join(m.Lines(), "\n") }
