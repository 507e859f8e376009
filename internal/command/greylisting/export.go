package greylisting

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"posthaste/internal/policy/greylist"
)

// exportBerkeley writes the triplets as the database of postgrey, for programs
// that read it (postgreyreport).
func exportBerkeley(ctx context.Context, dir string, from greylist.Obeyer) error {
	var pairs [][2]string
	err := pages(ctx, from, greylist.Order{Op: "list", Kind: greylist.Triplets}, func(r greylist.Reply) error {
		for _, item := range r.Items {
			pairs = append(pairs, [2]string{item.Key, fmt.Sprintf("%d,%d", item.First, item.Last)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	file, err := buildBtree(pairs)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "postgrey.db")
	if err := os.WriteFile(path+".new", file, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// The on-disk format of Berkeley DB's btree, as db_page.h of libdb has it.
const (
	bdbPage     = 4096
	bdbHeader   = 26
	bdbLeaf     = 5
	bdbInternal = 3
	bdbMeta     = 9
	bdbMagic    = 0x053162
	bdbVersion  = 9
	bdbMaxItem  = bdbPage / 4 // what is longer would need pages of its own
)

// bdbNode is a page of one level and the first key below it.
type bdbNode struct {
	number uint32
	first  string
	pairs  int
}

// btree collects the pages of a file.
type btree struct {
	pages [][]byte
	free  int // of the last page, from its header on
	used  int
}

// buildBtree makes a btree of pairs that are in the order of their keys.
func buildBtree(pairs [][2]string) ([]byte, error) {
	t := &btree{pages: [][]byte{make([]byte, bdbPage)}}
	level := []bdbNode{}
	if len(pairs) == 0 {
		level = append(level, t.page(bdbLeaf, 1))
	}
	for _, p := range pairs {
		if len(p[0]) > bdbMaxItem || len(p[1]) > bdbMaxItem {
			return nil, errors.New("a key is too long for this format: " + p[0])
		}
		need := leafSize(p[0]) + leafSize(p[1])
		if len(level) == 0 || !t.fits(need) {
			node := t.page(bdbLeaf, 1)
			node.first = p[0]
			t.chain(level, node)
			level = append(level, node)
		}
		t.leafItem(p[0])
		t.leafItem(p[1])
		level[len(level)-1].pairs++
	}
	for height := byte(2); len(level) > 1; height++ {
		level = t.above(level, height)
	}
	return t.finish(level[0].number), nil
}

// page begins a page.
func (t *btree) page(kind, height byte) bdbNode {
	p := make([]byte, bdbPage)
	number := uint32(len(t.pages))
	binary.LittleEndian.PutUint32(p[8:], number)
	p[24], p[25] = height, kind
	t.pages = append(t.pages, p)
	t.free, t.used = bdbPage, bdbHeader
	t.seal()
	return bdbNode{number: number}
}

// chain links a leaf to the one before it.
func (t *btree) chain(level []bdbNode, node bdbNode) {
	if len(level) == 0 {
		return
	}
	last := level[len(level)-1].number
	binary.LittleEndian.PutUint32(t.pages[last][16:], node.number)
	binary.LittleEndian.PutUint32(t.pages[node.number][12:], last)
}

// above makes the level of pages that lead to those of a level.
func (t *btree) above(level []bdbNode, height byte) []bdbNode {
	var upper []bdbNode
	for _, child := range level {
		if len(upper) == 0 || !t.fits(internalSize(child.first)) {
			node := t.page(bdbInternal, height)
			node.first = child.first
			upper = append(upper, node)
		}
		item := make([]byte, 12+len(child.first))
		binary.LittleEndian.PutUint16(item, uint16(len(child.first)))
		item[2] = 1
		binary.LittleEndian.PutUint32(item[4:], child.number)
		binary.LittleEndian.PutUint32(item[8:], uint32(child.pairs))
		copy(item[12:], child.first)
		t.put(item)
		upper[len(upper)-1].pairs += child.pairs
	}
	return upper
}

// Items begin at multiples of four, and each has two bytes in the index.
func leafSize(text string) int     { return aligned(3+len(text)) + 2 }
func internalSize(text string) int { return aligned(12+len(text)) + 2 }
func aligned(n int) int            { return (n + 3) &^ 3 }

func (t *btree) fits(size int) bool { return t.free-t.used >= size }

func (t *btree) leafItem(text string) {
	item := make([]byte, 3+len(text))
	binary.LittleEndian.PutUint16(item, uint16(len(text)))
	item[2] = 1
	copy(item[3:], text)
	t.put(item)
}

func (t *btree) put(item []byte) {
	p := t.pages[len(t.pages)-1]
	t.free -= aligned(len(item))
	copy(p[t.free:], item)
	binary.LittleEndian.PutUint16(p[t.used:], uint16(t.free))
	t.used += 2
	t.seal()
}

// seal notes in the header how full the last page is.
func (t *btree) seal() {
	p := t.pages[len(t.pages)-1]
	binary.LittleEndian.PutUint16(p[20:], uint16((t.used-bdbHeader)/2))
	binary.LittleEndian.PutUint16(p[22:], uint16(t.free))
}

// finish writes the meta page and returns the file.
func (t *btree) finish(root uint32) []byte {
	meta := t.pages[0]
	put := func(at int, value uint32) { binary.LittleEndian.PutUint32(meta[at:], value) }
	put(12, bdbMagic)
	put(16, bdbVersion)
	put(20, bdbPage)
	meta[25] = bdbMeta
	put(32, uint32(len(t.pages)-1)) // last page
	const minKey = 2
	put(76, minKey)
	put(84, ' ') // of fixed-length records, which there are none of
	put(88, root)
	copy(meta[52:72], fmt.Sprintf("%020d", os.Getpid())) // identifies the file in a cache
	file := make([]byte, 0, len(t.pages)*bdbPage)
	for _, p := range t.pages {
		file = append(file, p...)
	}
	return file
}
