package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/queue"
	"posthaste/internal/queue/bouncelog"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/vfs"
)

// listOrder is the order in which Postfix lists its queues.
var listOrder = []queue.Name{Maildrop, queue.Active, queue.Incoming, queue.Deferred, queue.Hold}

// Scan implements queue.Store. Without Filter.Recipients only names and inodes
// are read: Size is that of the file, Arrival is known for long queue ids, and
// Sender is empty. Mail that pickup has not seen is listed with queue
// "maildrop", when asked for or when all queues are.
func (s *Spool) Scan(ctx context.Context, f queue.Filter, fn func(queue.Summary) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	names := f.Queues
	if len(names) == 0 {
		names = listOrder
	}
	for _, name := range names {
		err := s.Walk(string(name), func(found Found) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			sum, err := s.summary(name, found, f.Recipients)
			if err != nil {
				return nil // gone, not committed, or damaged: the rest goes on
			}
			return fn(sum)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) summary(name queue.Name, f Found, recipients bool) (queue.Summary, error) {
	info, err := s.FS.Lstat(f.Path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warnf("%s: %v", f.Path, err)
		}
		return queue.Summary{}, err
	}
	if !Ready(info) {
		return queue.Summary{}, fs.ErrNotExist
	}
	sum := queue.Summary{ID: f.ID, Queue: name, NextAttempt: info.ModTime.Truncate(time.Second), Size: info.Size, ForceExpire: info.Mode&ExpireMode != 0}
	sum.Arrival, _ = f.ID.Time()
	if !recipients {
		return sum, nil
	}
	return sum, s.describe(&sum, f, info)
}

// describe fills in what stands in the file and in its logs.
func (s *Spool) describe(sum *queue.Summary, f Found, info vfs.Info) error {
	file, err := s.FS.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	src := io.ReaderAt(file)
	if info.Size <= smallFile {
		data := make([]byte, info.Size)
		n, err := file.ReadAt(data, 0)
		if err != nil && err != io.EOF {
			return err
		}
		src = bytes.NewReader(data[:n])
	}
	if sum.Queue == Maildrop {
		return describeDrop(sum, src, info)
	}
	env, layout, err := queuefile.Read(src)
	if errors.Is(err, queuefile.ErrFormat) {
		return s.corrupt(f.Path, f.ID, err)
	}
	if err != nil {
		return err
	}
	sum.Arrival, sum.Size, sum.Sender = env.Arrival, layout.Size.Data, env.Sender
	listed := map[addr.Address]bool{}
	s.listLog(sum, DeferLog, listed)
	s.listLog(sum, BounceLog, listed)
	for i, r := range env.Recipients {
		if !layout.Recipients[i].Done && !listed[r.Address] {
			sum.Recipients = append(sum.Recipients, queue.SummaryRecipient{Address: r.Address, Original: original(r.Original, r.Address)})
		}
	}
	return nil
}

// listLog lists the recipients of a log, as Postfix does before those of the
// queue file that are in none.
func (s *Spool) listLog(sum *queue.Summary, dir string, listed map[addr.Address]bool) {
	s.readLog(dir, sum.ID, func(e bouncelog.Entry) {
		listed[e.Address] = true
		sum.Recipients = append(sum.Recipients, queue.SummaryRecipient{
			Address: e.Address, Original: original(e.Original, e.Address), Reason: e.Status.Text(), Failed: dir == BounceLog,
		})
	})
}

// original is the address before alias expansion, "" if it is the same.
func original(o, a addr.Address) addr.Address {
	if strings.EqualFold(string(o), string(a)) {
		return ""
	}
	return o
}

func describeDrop(sum *queue.Summary, src io.ReaderAt, info vfs.Info) error {
	env, err := queuefile.ReadDrop(src)
	if err != nil {
		return err
	}
	sum.Arrival, sum.Sender = env.Arrival, env.Sender
	if sum.Arrival.IsZero() {
		sum.Arrival = info.ModTime
	}
	for _, r := range env.Recipients {
		sum.Recipients = append(sum.Recipients, queue.SummaryRecipient{Address: r.Address})
	}
	return nil
}
