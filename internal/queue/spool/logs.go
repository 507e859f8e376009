package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/queue"
	"posthaste/internal/queue/bouncelog"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/vfs"
)

// trailerFormat is what stands behind the last record of a file, where Postfix
// does not look: the number of attempts, and whether the delay warning was
// sent when there is no record for that.
const trailerFormat = "\nposthaste attempts=%06d warned=%d\n"

const trailerLen = 36

const maxAttempts = 999999

func (e *entry) readTrailer(src io.ReaderAt) {
	var text [trailerLen]byte
	if n, _ := src.ReadAt(text[:], e.layout.End); n < trailerLen {
		return
	}
	tries, warned := 0, 0
	if n, _ := fmt.Sscanf(string(text[:]), trailerFormat, &tries, &warned); n == 2 {
		e.tries, e.warned = tries, e.warned || warned == 1
	}
}

func (e *entry) writeTrailer(f vfs.File) error {
	warned := 0
	if e.warned {
		warned = 1
	}
	_, err := f.WriteAt(fmt.Appendf(nil, trailerFormat, min(e.tries, maxAttempts), warned), e.layout.End)
	return err
}

// readLogs takes the reasons of delays and the failures that were not
// reported. Trouble with a log is not trouble with the mail.
func (s *Spool) readLogs(e *entry) {
	byOffset := map[int64]int{}
	for i, m := range e.layout.Recipients {
		byOffset[m.Offset] = i
	}
	e.logs.deferred = s.readLog(DeferLog, e.id, func(entry bouncelog.Entry) {
		if i, ok := byOffset[entry.Offset]; ok && e.pending[i] {
			e.setReason(i, entry.Status)
		}
	})
	at := map[int]int{}
	e.logs.bounced = s.readLog(BounceLog, e.id, func(entry bouncelog.Entry) {
		i, ok := byOffset[entry.Offset]
		if !ok || e.pending[i] {
			return // it was not marked any more: it is tried again
		}
		if old, ok := at[i]; ok {
			e.failed[old].Status = entry.Status
			return
		}
		at[i] = len(e.failed)
		e.failed = append(e.failed, queue.Done{Recipient: i, Status: entry.Status})
	})
}

func (e *entry) setReason(i int, s dsn.Status) {
	if e.reasons == nil {
		e.reasons = map[int]dsn.Status{}
	}
	e.reasons[i] = s
}

// readLog reads one log and returns its size, 0 if there is none.
func (s *Spool) readLog(dir string, id queue.ID, fn func(bouncelog.Entry)) int64 {
	path := s.Path(dir, id)
	f, err := s.FS.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warnf("open %s: %v", path, err)
		}
		return 0
	}
	defer f.Close()
	size := int64(1)
	if info, err := f.Stat(); err == nil {
		size = max(1, info.Size)
	}
	err = bouncelog.Read(io.NewSectionReader(f, 0, size), func(e bouncelog.Entry) bool { fn(e); return true })
	if err != nil {
		s.log.Warnf("read %s: %v", path, err)
	}
	return size
}

// writeLog puts text behind the first at bytes of a log, and cuts off what
// was there.
func (s *Spool) writeLog(dir string, id queue.ID, at int64, text []byte, d queue.Durability) error {
	path := s.Path(dir, id)
	f, err := s.FS.OpenWrite(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		f, err = s.create(path, draftMode)
		at = 0
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, at)
	if err == nil && !fresh {
		err = f.Truncate(at + int64(len(text)))
	}
	if err == nil && d == queue.Sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && fresh && d == queue.Sync {
		err = s.dirs.sync(parent(path))
	}
	return err
}

func (e *entry) logEntry(i int, st dsn.Status, action string) bouncelog.Entry {
	return bouncelog.Entry{Recipient: e.env.Recipients[i], Offset: e.layout.Recipients[i].Offset, Status: st, Action: action}
}

// logBounces records failures; the marks that make them final come later.
func (s *Spool) logBounces(e *entry, failed []queue.Done, d queue.Durability) error {
	if len(failed) == 0 {
		return nil
	}
	var text []byte
	for _, f := range failed {
		text = bouncelog.Append(text, e.logEntry(f.Recipient, f.Status, "failed"))
	}
	if err := s.writeLog(BounceLog, e.id, e.logs.bounced, text, d); err != nil {
		return err
	}
	e.logs.bounced += int64(len(text))
	return nil
}

// maxDeferLog is where a log of delays is written anew with the latest
// reasons only.
const maxDeferLog = 64 << 10

// logDelays records the reasons that an update brings. The log is written
// anew when it has grown, or when no older reason would be kept.
func (s *Spool) logDelays(e *entry, delayed []queue.Done, d queue.Durability) error {
	if len(delayed) == 0 {
		return nil
	}
	at := e.logs.deferred
	switch {
	case len(delayed) >= len(e.reasons):
		at = 0 // none of the older reasons is the latest one
	case at > maxDeferLog:
		at = 0
		delayed = nil
		for i, st := range e.reasons {
			delayed = append(delayed, queue.Done{Recipient: i, Status: st})
		}
	}
	// The order of addresses is that in which Postfix hands recipients to an
	// agent, and so that of its listings.
	slices.SortStableFunc(delayed, func(a, b queue.Done) int {
		return cmp.Or(strings.Compare(string(e.env.Recipients[a.Recipient].Address), string(e.env.Recipients[b.Recipient].Address)), cmp.Compare(a.Recipient, b.Recipient))
	})
	var text []byte
	for _, r := range delayed {
		text = bouncelog.Append(text, e.logEntry(r.Recipient, r.Status, "delayed"))
	}
	err := s.writeLog(DeferLog, e.id, at, text, d)
	if err != nil && d == queue.Lazy {
		// A full disk must not keep mail from being put off.
		s.log.Warnf("%s: write reasons: %v", e.id, err)
		return nil
	}
	e.logs.deferred = at + int64(len(text))
	return err
}

// mark writes what an update changes in the file itself, except its times.
func (e *entry) mark(f vfs.File, ch *queue.Change, done []queue.Done) error {
	for _, r := range done {
		if err := e.put(f, []byte{queuefile.Done}, e.layout.Recipients[r.Recipient].Offset); err != nil {
			return err
		}
	}
	if ch.Warned != nil && e.warned && e.layout.Warn > 0 {
		if err := e.put(f, []byte(queuefile.WarnedText()), e.layout.Warn); err != nil {
			return err
		}
	}
	if ch.Traced != nil && e.traced && e.layout.Trace > 0 {
		if err := e.put(f, []byte{queuefile.Killed}, e.layout.Trace); err != nil {
			return err
		}
	}
	if ch.Attempts != nil || ch.Warned != nil && e.layout.Warn == 0 {
		return e.writeTrailer(f)
	}
	return nil
}

// put writes to the file and to its copy in memory.
func (e *entry) put(f vfs.File, text []byte, at int64) error {
	if e.mem != nil {
		if at+int64(len(text)) > int64(len(e.mem)) || bytes.Equal(e.mem[at:at+int64(len(text))], text) {
			return nil // was done before
		}
		copy(e.mem[at:], text)
	}
	_, err := f.WriteAt(text, at)
	return err
}
