package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"posthaste/internal/mail/envelope"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/vfs"
)

// largeBegin is where the content of a large file begins.
const largeBegin = queuefile.SizeRecordLen + queuefile.PointerLen + 2

// draft implements queue.Draft. Mail up to Options.DraftBytes is written with
// its envelope in front, in one go, at Commit; of larger mail the content goes
// to the file as it comes, and the envelope is written behind it, with a
// pointer record to it. Like a file, it is used by one caller at a
// time; mu is for Abort by Close.
type draft struct {
	s       *Spool
	id      queue.ID
	mu      sync.Mutex
	content queuefile.Content
	buf     []byte   // content records not yet written
	file    vfs.File // nil until there is too much for memory
	written int64    // content bytes in the file
	err     error    // the first failure, or why it ended
}

var errEnded = errors.New("queue: draft was committed or aborted")

// reserve is what must be free beyond the size that Begin was told, for
// envelope and records.
const reserve = 64 << 10

// Begin implements queue.Store. Nothing is written yet.
func (s *Spool) Begin(ctx context.Context, h queue.Hint) (queue.Draft, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	free, err := s.FS.Free()
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if free < s.config.Load().MinFree || free < h.Size+reserve {
		return nil, fmt.Errorf("%w: %d bytes free", queue.ErrFull, free)
	}
	form := queue.Short
	if s.config.Load().LongIDs {
		form = queue.Long
	}
	d := &draft{s: s, id: s.ids.New(form, s.now(), s.o.PID)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	s.drafts[d] = struct{}{}
	return d, nil
}

func (d *draft) ID() queue.ID { return d.id }
func (d *draft) Size() int64  { return d.content.Size() }

// Write implements io.Writer.
func (d *draft) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return 0, d.err
	}
	most := d.s.o.DraftBytes
	if d.buf == nil {
		d.buf = make([]byte, 0, min(max(len(p)+len(p)/8+256, 4096), most))
	}
	for rest := p; len(rest) > 0; {
		piece := rest[:min(len(rest), most/4)]
		rest = rest[len(piece):]
		d.buf = d.content.Append(d.buf, piece)
		if len(d.buf) < most {
			continue
		}
		if err := d.spill(); err != nil {
			return 0, d.fail(err)
		}
	}
	return len(p), nil
}

// fail ends the draft: what is in the file is of no use any more.
func (d *draft) fail(err error) error {
	err = fmt.Errorf("queue: %w", full(err))
	_ = d.end(err)
	return err
}

// spill writes the buffered content to the file.
func (d *draft) spill() error {
	if d.file == nil {
		f, err := d.s.create(d.path(queue.Incoming), draftMode)
		if err != nil {
			return err
		}
		d.file = f
		head := queuefile.SizeRecord{}.Append(make([]byte, 0, largeBegin))
		head = queuefile.AppendPointer(head, 0)
		if _, err := f.Write(queuefile.Append(head, queuefile.Message, "")); err != nil {
			return err
		}
	}
	n, err := d.file.Write(d.buf)
	d.written += int64(n)
	d.buf = d.buf[:0]
	return err
}

func (d *draft) path(name queue.Name) string { return d.s.Path(string(name), d.id) }

// Commit implements queue.Draft.
func (d *draft) Commit(ctx context.Context, env *envelope.Envelope, to queue.Name) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if err := ctx.Err(); err != nil {
		return d.fail(err)
	}
	if to != queue.Incoming && to != queue.Hold && to != queue.Deferred {
		return d.fail(fmt.Errorf("cannot commit to %q", to))
	}
	kept := *env
	kept.Recipients = append([]envelope.Recipient(nil), env.Recipients...)
	w := &commit{d: d, env: &kept, to: to, header: queuefile.Header{ID: string(d.id), Created: d.s.now()}}
	if d.s.config.Load().WarnAfter > 0 {
		w.header.Warn = env.Arrival.Add(d.s.config.Load().WarnAfter)
	}
	var err error
	if d.buf = d.content.Finish(d.buf); d.file == nil {
		err = w.small()
	} else {
		err = w.large()
	}
	if err != nil {
		return d.fail(err)
	}
	d.s.committed(w)
	return d.end(errEnded)
}

// Abort implements queue.Draft.
func (d *draft) Abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		_ = d.end(errEnded)
	}
}

// end closes the draft for ever and removes an uncommitted file.
func (d *draft) end(why error) error {
	d.err = why
	d.buf = nil
	d.s.mu.Lock()
	delete(d.s.drafts, d)
	d.s.mu.Unlock()
	if d.file == nil {
		return nil
	}
	d.file.Close()
	d.file = nil
	if err := d.s.FS.Remove(d.path(queue.Incoming)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.s.log.Warnf("remove %s: %v", d.path(queue.Incoming), err)
	}
	return nil
}

// commit is one Commit under way.
type commit struct {
	d      *draft
	env    *envelope.Envelope
	to     queue.Name
	header queuefile.Header
	layout queuefile.Layout
	image  []byte // the whole file, if it is small
	mtime  time.Time
}

// small writes a whole file at once.
func (w *commit) small() error {
	d := w.d
	w.header.Base = queuefile.SizeRecordLen
	records, place := queuefile.AppendEnvelope(make([]byte, 0, 1024), w.env, w.header)
	w.layout.Place = place
	w.setSize(int64(len(d.buf)), queuefile.SizeRecordLen+int64(len(records))+2)
	b := make([]byte, 0, int(w.layout.Content)+len(d.buf)+256)
	b = append(w.layout.Size.Append(b), records...)
	b = queuefile.Append(b, queuefile.Message, "")
	b = queuefile.AppendExtra(append(b, d.buf...), w.env)
	w.layout.End = int64(len(b))
	w.image = b
	if d.s.tooLarge(w.layout.End) {
		return queue.ErrTooLarge
	}
	path := d.path(w.to)
	f, err := d.s.create(path, draftMode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return w.seal(f, path, err)
}

func (w *commit) setSize(content, offset int64) {
	w.layout.Content = offset
	w.layout.Size = queuefile.SizeRecord{Data: content, DataOffset: offset, Recipients: int64(len(w.env.Recipients)), Content: content}
	if w.env.SMTPUTF8 {
		w.layout.Size.Options = 1
	}
}

// large completes a file whose content is there already.
func (w *commit) large() error {
	d := w.d
	if err := d.spill(); err != nil {
		return err
	}
	w.setSize(d.written, largeBegin)
	tail := queuefile.AppendExtra(nil, w.env)
	w.header.Base = largeBegin + d.written + int64(len(tail))
	records, place := queuefile.AppendEnvelope(nil, w.env, w.header)
	w.layout.Place = place
	tail = append(tail, records...)
	tail = queuefile.AppendPointer(tail, largeBegin-2)
	w.layout.End = largeBegin + d.written + int64(len(tail))
	if d.s.tooLarge(w.layout.End) {
		return queue.ErrTooLarge
	}
	if _, err := d.file.Write(tail); err != nil {
		return err
	}
	// Without its first record the file is none. That record comes when all
	// the rest is on stable storage, so that no power cut leaves a message
	// with a hole; a small file is one write, of which a part is no message.
	if err := d.file.Sync(); err != nil {
		return err
	}
	head := queuefile.AppendPointer(w.layout.Size.Append(nil), w.header.Base)
	if _, err := d.file.WriteAt(head, 0); err != nil {
		return err
	}
	f, path := d.file, d.path(queue.Incoming)
	d.file = nil // from here on seal is responsible
	return w.seal(f, path, nil)
}

// tooLarge applies message_size_limit, which counts the envelope and what the
// file format adds to each line.
func (s *Spool) tooLarge(size int64) bool {
	return s.config.Load().MaxSize > 0 && size > s.config.Load().MaxSize
}

// seal makes a written file a message: mode, sync, place, directory. After an
// error it makes sure that there is no such message; where that is not sure,
// the error is queue.ErrUnknown.
func (w *commit) seal(f vfs.File, path string, err error) error {
	s, final := w.d.s, w.d.path(w.to)
	if err == nil {
		err = f.Chmod(readyMode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		var info vfs.Info
		info, err = f.Stat()
		w.mtime = info.ModTime
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && path != final {
		if err = s.Move(path, final); err == nil {
			path = final
		}
	}
	if err == nil && (s.o.SyncDirs || w.to != queue.Incoming) {
		err = s.dirs.sync(parent(final))
	}
	if err == nil {
		return nil
	}
	if rerr := s.FS.Remove(path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w, %w", queue.ErrUnknown, err, rerr)
	}
	if rerr := s.dirs.sync(parent(path)); rerr != nil {
		return fmt.Errorf("%w: %w, %w", queue.ErrUnknown, err, rerr)
	}
	return err
}

// committed makes a message known, and keeps a small one in memory.
func (s *Spool) committed(w *commit) {
	e := &entry{id: w.d.id, env: w.env, layout: &w.layout, mem: w.image, queue: w.to, next: w.mtime.Truncate(time.Second)}
	e.setPending(make([]queuefile.Mark, len(w.env.Recipients)))
	if w.env.Origin.QueueID == "" && w.env.Client.Name != "" {
		w.env.Origin.QueueID = string(w.d.id)
	}
	if w.to == queue.Incoming && w.image != nil {
		s.mu.Lock()
		if !s.closed {
			s.entries[e.id] = e
			for _, old := range s.cache.add(e) {
				if old.refs == 0 && s.entries[old.id] == old {
					delete(s.entries, old.id)
				}
			}
		}
		s.mu.Unlock()
	}
	if w.to == queue.Incoming {
		select {
		case s.arrivals <- e.id:
		default: // the queue manager scans incoming anyway
		}
	}
}
