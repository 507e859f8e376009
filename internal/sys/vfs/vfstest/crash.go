package vfstest

import "math/rand/v2"

// Crash gives a new tree: what a power cut would leave now. A nil rng loses
// all that was not synced; with one, each unsynced change is kept or lost by
// its dice.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := New(m.space)
	c.now, c.uid = m.now, m.uid
	copyOf := map[*node]*node{}
	clone := func(n *node) *node {
		if copyOf[n] == nil {
			copyOf[n] = n.afterCrash(rng)
		}
		return copyOf[n]
	}
	for dir, entries := range m.kept {
		c.dirs[dir] = map[string]*node{}
		for name, n := range entries {
			c.dirs[dir][name] = clone(n)
		}
	}
	lost := make([]bool, len(m.log))
	for i, op := range m.log {
		lost[i] = rng == nil || rng.IntN(2) == 0
		for j := 0; j < i; j++ {
			lost[i] = lost[i] || lost[j] && op.dependsOn(m.log[j])
		}
		if !lost[i] {
			if op.n != nil {
				op.n = clone(op.n)
			}
			op.run(c.dirs)
		}
	}
	c.keepAll()
	return c
}

// Kill gives a new tree: what the death of all processes would leave now,
// with the system staying up.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := New(m.space)
	c.now, c.uid = m.now, m.uid
	copyOf := map[*node]*node{}
	for dir, entries := range m.dirs {
		c.dirs[dir] = map[string]*node{}
		for name, n := range entries {
			if copyOf[n] == nil {
				copyOf[n] = &node{data: clip(n.data), perm: n.perm, mtime: n.mtime, isDir: n.isDir, uid: n.uid, links: n.links}
			}
			c.dirs[dir][name] = copyOf[n]
		}
	}
	c.keepAll()
	return c
}

func (m *Mem) keepAll() {
	m.log = nil
	for dir, entries := range m.dirs {
		m.kept[dir] = map[string]*node{}
		for name, n := range entries {
			n.keep()
			m.kept[dir][name] = n
		}
	}
}

func (n *node) keep() {
	n.kept, n.keptPerm, n.keptTime, n.pending = clip(n.data), n.perm, n.mtime, nil
}

func clip(p []byte) []byte { return append([]byte(nil), p...) }

func (n *node) afterCrash(rng *rand.Rand) *node {
	c := &node{data: clip(n.kept), perm: n.keptPerm, mtime: n.keptTime, isDir: n.isDir, uid: n.uid, links: n.links}
	if rng == nil {
		return c
	}
	if rng.IntN(2) == 0 {
		c.perm, c.mtime = n.perm, n.mtime
	}
	for _, w := range n.pending {
		switch rng.IntN(4) {
		case 0: // lost
		case 1: // torn
			w.data = w.data[:rng.IntN(len(w.data)+1)]
			fallthrough
		default:
			c.data = w.apply(c.data)
		}
	}
	return c
}
