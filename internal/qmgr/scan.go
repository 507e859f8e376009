package qmgr

import (
	"context"
	"slices"
	"strings"
	"time"

	"posthaste/internal/queue"
)

// candidate is a message that may be taken up.
type candidate struct {
	id    queue.ID
	flush bool // whatever the time, and over defer_transports
}

// backlog holds candidates until there is room in the active queue. Fresh
// mail and scanned mail take turns, so that neither starves.
type backlog struct {
	fresh   []candidate
	old     []candidate
	waiting map[queue.ID]bool
	turn    bool
}

// backlogLimit bounds the backlog; scans wait for room, hints are dropped.
const backlogLimit = 4096

func (b *backlog) full() bool { return len(b.fresh)+len(b.old) >= backlogLimit }

func (b *backlog) addFresh(id queue.ID) {
	if !b.waiting[id] {
		b.waiting[id] = true
		b.fresh = append(b.fresh, candidate{id: id})
	}
}

func (b *backlog) add(batch []candidate) {
	for _, c := range batch {
		switch {
		case !b.waiting[c.id]:
			b.waiting[c.id] = true
			b.old = append(b.old, c)
		case c.flush:
			for _, list := range [2][]candidate{b.fresh, b.old} {
				if i := slices.IndexFunc(list, func(o candidate) bool { return o.id == c.id }); i >= 0 {
					list[i].flush = true
				}
			}
		}
	}
}

func (b *backlog) next() (c candidate, ok bool) {
	b.turn = !b.turn
	list := &b.fresh
	if len(b.fresh) == 0 || b.turn && len(b.old) > 0 {
		list = &b.old
	}
	if len(*list) == 0 {
		return candidate{}, false
	}
	c, *list = (*list)[0], (*list)[1:]
	delete(b.waiting, c.id)
	return c, true
}

// scanKind is one of the periodic scans.
type scanKind uint8

const (
	scanIncoming scanKind = iota
	scanDeferred
	scanKinds
)

// scans is what is to be scanned for, and when.
type scans struct {
	wanted [scanKinds]bool
	next   time.Time // of both
	flush  bool      // all deferred mail
	sites  []string  // deferred mail for these domains
	busy   bool      // one runs
}

func (s *scans) want(kinds ...scanKind) {
	for _, k := range kinds {
		s.wanted[k] = true
	}
}

// scanDue starts a scan if one is wanted, and returns when the next is due.
func (l *Loop) scanDue(now time.Time) time.Time {
	s := &l.scans
	if !now.Before(s.next) {
		s.want(scanIncoming, scanDeferred)
		s.next = now.Add(max(l.current.QueueRunDelay, time.Second))
	}
	if !s.busy && (s.wanted != [scanKinds]bool{} || s.flush || len(s.sites) > 0) {
		l.scan(now)
	}
	return s.next
}

// scan looks through the queues for what was asked for. What a crash left in
// the active queue is taken up like incoming mail.
func (l *Loop) scan(now time.Time) {
	todo := l.scans
	l.scans = scans{next: todo.next, busy: true}
	var filter queue.Filter
	if todo.wanted[scanIncoming] {
		filter.Queues = append(filter.Queues, queue.Incoming, queue.Active)
	}
	if todo.wanted[scanDeferred] || todo.flush || len(todo.sites) > 0 {
		filter.Queues = append(filter.Queues, queue.Deferred)
	}
	filter.Recipients = len(todo.sites) > 0
	l.work("qmgr scan", func(ctx context.Context) func() {
		err := l.safely("queue scan", func() error {
			return l.feed(ctx, filter, func(m queue.Summary) (candidate, bool) { return todo.choose(m, now) })
		})
		return func() {
			l.scans.busy = false
			if err != nil && !l.stopping {
				l.deps.Log.Warnf("queue scan: %v", err)
			}
		}
	})
}

func (s *scans) choose(m queue.Summary, now time.Time) (candidate, bool) {
	switch {
	case m.Queue != queue.Deferred:
		return candidate{id: m.ID}, true
	case s.flush || m.ForceExpire || s.forSite(m):
		return candidate{id: m.ID, flush: s.flush || s.forSite(m)}, true
	}
	return candidate{id: m.ID}, s.wanted[scanDeferred] && !m.NextAttempt.After(now)
}

func (s *scans) forSite(m queue.Summary) bool {
	for _, site := range s.sites {
		for _, r := range m.Recipients {
			if strings.EqualFold(r.Address.Domain(), site) {
				return true
			}
		}
	}
	return false
}

// scanBatch is how many messages a scan hands over at once.
const scanBatch = 128

// feed scans and hands over what is selected, as fast as the loop takes it.
func (l *Loop) feed(ctx context.Context, filter queue.Filter, choose func(queue.Summary) (candidate, bool)) error {
	var batch []candidate
	hand := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case l.due <- batch:
			batch = nil
			return nil
		case <-l.group.Stopping():
			return ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := l.deps.Store.Scan(ctx, filter, func(m queue.Summary) error {
		if c, ok := choose(m); ok {
			batch = append(batch, c)
		}
		if len(batch) >= scanBatch {
			return hand()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return hand()
}
