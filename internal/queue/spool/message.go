package spool

import (
	"context"
	"io"
	"io/fs"
	"sync/atomic"

	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
)

// message is a handle of an entry.
type message struct {
	s      *Spool
	e      *entry
	closed atomic.Bool
}

// Open implements queue.Store.
func (s *Spool) Open(ctx context.Context, id queue.ID) (queue.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := s.acquire(id)
	if err != nil {
		return nil, err
	}
	return &message{s: s, e: e}, nil
}

func (m *message) ID() queue.ID                 { return m.e.id }
func (m *message) Envelope() *envelope.Envelope { return m.e.env }

// Size is the size of the content records, which Postfix calls the message
// size: about that of the lines ended by CR LF. After the edits of a milter of
// Postfix it is told apart from the room that they take in the file.
func (m *message) Size() int64 { return max(m.e.layout.Size.Data, m.e.layout.Size.Content) }

func (m *message) Meta() queue.Meta {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	return m.e.meta()
}

func (m *message) Rev() queue.Rev {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	return m.e.rev()
}

func (m *message) Content() io.ReadSeeker {
	src := m.e.source()
	if m.closed.Load() || src == nil {
		src = closedSource{}
	}
	return queuefile.NewText(src, m.e.layout.Content)
}

func (m *message) Close() error {
	if m.closed.CompareAndSwap(false, true) {
		m.s.release(m.e)
	}
	return nil
}

type closedSource struct{}

func (closedSource) ReadAt([]byte, int64) (int, error) { return 0, fs.ErrClosed }
