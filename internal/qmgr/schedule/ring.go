package schedule

import (
	"container/heap"
	"time"
)

// ring is a first-in first-out queue in reused memory.
type ring[T any] struct {
	items []T
	head  int
	n     int
}

func (r *ring[T]) len() int { return r.n }

func (r *ring[T]) push(v T) {
	if r.n == len(r.items) {
		bigger := make([]T, max(4, 2*r.n))
		for i := range r.n {
			bigger[i] = r.items[(r.head+i)%len(r.items)]
		}
		r.items, r.head = bigger, 0
	}
	r.items[(r.head+r.n)%len(r.items)] = v
	r.n++
}

func (r *ring[T]) pop() (v T, ok bool) {
	if r.n == 0 {
		return v, false
	}
	var zero T
	v = r.items[r.head]
	r.items[r.head] = zero
	r.head = (r.head + 1) % len(r.items)
	r.n--
	return v, true
}

// sleepers are destinations to be looked at again, earliest first.
type sleepers struct{ heap sleepHeap }

type sleeper struct {
	at   time.Time
	dest *destination
}

func (s *sleepers) add(d *destination, at time.Time) { heap.Push(&s.heap, sleeper{at, d}) }

func (s *sleepers) first() (time.Time, bool) {
	if len(s.heap) == 0 {
		return time.Time{}, false
	}
	return s.heap[0].at, true
}

func (s *sleepers) due(now time.Time) (*destination, bool) {
	if len(s.heap) == 0 || s.heap[0].at.After(now) {
		return nil, false
	}
	return heap.Pop(&s.heap).(sleeper).dest, true
}

type sleepHeap []sleeper

func (h sleepHeap) Len() int           { return len(h) }
func (h sleepHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h sleepHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *sleepHeap) Push(v any)        { *h = append(*h, v.(sleeper)) }
func (h *sleepHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
