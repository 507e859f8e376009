package indexed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// errBadSize is what LMDB says about a key it cannot store.
var errBadSize = errors.New("MDB_BAD_VALSIZE: Unsupported size of key/DB name/data, or wrong DUPFIXED size")

const (
	lmdbPageSize = 4096
	// lmdbNodeMax is the largest node that stays on its page: two must fit.
	lmdbNodeMax = (lmdbPageSize-lmdbHeader)/2&^1 - 2
	// lmdbMapSize is the least map size that the meta page names, as
	// lmdb_map_size has it.
	lmdbMapSize = 16 << 20
)

// lmdbBuilder lays a tree out bottom up, from sorted pairs.
type lmdbBuilder struct {
	pages                  [][]byte // from page 2 on; an overflow run is one element
	next                   uint64   // number of the next page
	branch, leaf, overflow uint64
}

// lmdbChild is a finished page and its first key.
type lmdbChild struct {
	key    []byte
	number uint64
}

// writeLMDB writes pairs with distinct keys as an LMDB file that Postfix reads.
func writeLMDB(out io.Writer, pairs []pair) error {
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	b := &lmdbBuilder{next: 2}
	root, depth := lmdbNoPage, 0
	if len(pairs) > 0 {
		level, err := b.leaves(pairs)
		if err != nil {
			return err
		}
		for depth = 1; len(level) > 1; depth++ {
			level = b.branches(level)
		}
		root = level[0].number
	}
	w := bufio.NewWriter(out)
	w.Write(b.meta(0, 0, lmdbNoPage, 0, 0))
	w.Write(b.meta(1, 1, root, depth, len(pairs)))
	for _, page := range b.pages {
		w.Write(page)
	}
	return w.Flush()
}

// meta is a meta page. The first one is the empty database's, older by one
// transaction.
func (b *lmdbBuilder) meta(number, txn, root uint64, depth, entries int) []byte {
	page := make([]byte, lmdbPageSize)
	le.PutUint64(page, number)
	le.PutUint16(page[10:], lmdbMeta)
	le.PutUint32(page[16:], lmdbMagic)
	le.PutUint32(page[20:], lmdbVersion)
	size := (b.next*lmdbPageSize/lmdbMapSize + 1) * lmdbMapSize
	le.PutUint64(page[32:], size)
	// The list of free pages: empty. Its flags are MDB_INTEGERKEY
	// and, of the environment, MDB_NOSUBDIR.
	le.PutUint32(page[40:], lmdbPageSize)
	le.PutUint16(page[44:], 0x4008)
	le.PutUint64(page[80:], lmdbNoPage)
	// The main database.
	le.PutUint64(page[128:], root)
	le.PutUint64(page[136:], 1)
	le.PutUint64(page[144:], txn)
	if root != lmdbNoPage {
		le.PutUint16(page[94:], uint16(depth))
		le.PutUint64(page[96:], b.branch)
		le.PutUint64(page[104:], b.leaf)
		le.PutUint64(page[112:], b.overflow)
		le.PutUint64(page[120:], uint64(entries))
		le.PutUint64(page[136:], b.next-1)
	}
	return page
}

// lmdbPageBuilder fills one page: the index grows up, nodes grow down.
type lmdbPageBuilder struct {
	bytes        []byte
	lower, upper int
}

func newLMDBPage(number uint64, flags uint16) *lmdbPageBuilder {
	p := &lmdbPageBuilder{bytes: make([]byte, lmdbPageSize), lower: lmdbHeader, upper: lmdbPageSize}
	le.PutUint64(p.bytes, number)
	le.PutUint16(p.bytes[10:], flags)
	return p
}

func nodeSize(key []byte, data int) int { return (lmdbNodeHeader + len(key) + data + 1) &^ 1 }

func (p *lmdbPageBuilder) fits(size int) bool { return p.upper-p.lower >= size+2 }

// node adds a node of which the three 16-bit words and the data are given.
func (p *lmdbPageBuilder) node(words [3]uint16, key, data []byte) {
	p.upper -= nodeSize(key, len(data))
	le.PutUint16(p.bytes[p.lower:], uint16(p.upper))
	p.lower += 2
	n := p.bytes[p.upper:]
	for i, w := range words {
		le.PutUint16(n[2*i:], w)
	}
	le.PutUint16(n[6:], uint16(len(key)))
	copy(n[lmdbNodeHeader:], key)
	copy(n[lmdbNodeHeader+len(key):], data)
	le.PutUint16(p.bytes[12:], uint16(p.lower))
	le.PutUint16(p.bytes[14:], uint16(p.upper))
}

func (b *lmdbBuilder) leaves(pairs []pair) ([]lmdbChild, error) {
	var level []lmdbChild
	var page *lmdbPageBuilder
	for _, e := range pairs {
		if len(e.key) == 0 || len(e.key) > lmdbMaxKey || uint64(len(e.value)) > 1<<31 {
			return nil, fmt.Errorf("key of %d bytes: %w", len(e.key), errBadSize)
		}
		n, flags, data := len(e.value), uint16(0), e.value
		if lmdbNodeHeader+len(e.key)+n > lmdbNodeMax {
			flags, data = lmdbBig, b.large(e.value)
		}
		if page == nil || !page.fits(nodeSize(e.key, len(data))) {
			page = newLMDBPage(b.next, lmdbLeaf)
			level = append(level, lmdbChild{e.key, b.add(page.bytes, 1)})
			b.leaf++
		}
		page.node([3]uint16{uint16(n), uint16(n >> 16), flags}, e.key, data)
	}
	return level, nil
}

// large puts a value on overflow pages and returns the node's data.
func (b *lmdbBuilder) large(value []byte) []byte {
	count := (lmdbHeader-1+len(value))/lmdbPageSize + 1
	run := make([]byte, count*lmdbPageSize)
	le.PutUint64(run, b.next)
	le.PutUint16(run[10:], lmdbOverflow)
	le.PutUint32(run[12:], uint32(count))
	copy(run[lmdbHeader:], value)
	b.overflow += uint64(count)
	return le.AppendUint64(nil, b.add(run, uint64(count)))
}

func (b *lmdbBuilder) add(page []byte, count uint64) (number uint64) {
	number = b.next
	b.next += count
	b.pages = append(b.pages, page)
	return number
}

// branches makes the level above.
func (b *lmdbBuilder) branches(children []lmdbChild) []lmdbChild {
	var level []lmdbChild
	var page *lmdbPageBuilder
	for _, c := range children {
		key := c.key
		if page == nil || !page.fits(nodeSize(key, 0)) {
			page = newLMDBPage(b.next, lmdbBranch)
			level = append(level, lmdbChild{c.key, b.add(page.bytes, 1)})
			b.branch++
			key = nil // the first key of a branch page is below all
		}
		page.node([3]uint16{uint16(c.number), uint16(c.number >> 16), uint16(c.number >> 32)}, key, nil)
	}
	return level
}
