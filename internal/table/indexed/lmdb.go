package indexed

import (
	"bytes"
	"fmt"
)

// LMDB, data version 1, as a 64-bit little-endian machine writes it. Offsets
// are of struct MDB_page, MDB_meta, MDB_db and MDB_node in mdb.c of OpenLDAP.

const (
	lmdbMagic      = 0xBEEFC0DE
	lmdbVersion    = 1
	lmdbHeader     = 16
	lmdbBranch     = 0x01
	lmdbLeaf       = 0x02
	lmdbOverflow   = 0x04
	lmdbMeta       = 0x08
	lmdbNodeHeader = 8
	lmdbBig        = 0x01 // node flag: the data is on overflow pages
	lmdbNoPage     = ^uint64(0)
	lmdbMaxDepth   = 32
	lmdbMaxKey     = 511
)

type lmdbFile struct {
	*storage
	pageSize int
	root     uint64
}

// isLMDB looks at the first meta page.
func isLMDB(s *storage) bool {
	b, err := s.at(lmdbHeader, 4)
	return err == nil && le.Uint32(b) == lmdbMagic
}

// openLMDB takes the newer of the two meta pages that is whole.
func openLMDB(s *storage) (reader, error) {
	first, err := s.at(0, lmdbHeader+136)
	if err != nil {
		return nil, err
	}
	f := &lmdbFile{storage: s, pageSize: int(le.Uint32(first[40:]))}
	if !isLMDB(s) || f.pageSize < 512 || f.pageSize > 65536 || f.pageSize&(f.pageSize-1) != 0 {
		return nil, fmt.Errorf("%w: not an LMDB file", errCorrupt)
	}
	newest, known := uint64(0), false
	for _, at := range []int64{0, int64(f.pageSize)} {
		meta, err := s.at(at, lmdbHeader+136)
		if err != nil || le.Uint32(meta[16:]) != lmdbMagic || le.Uint32(meta[20:]) != lmdbVersion {
			continue
		}
		if txn := le.Uint64(meta[144:]); !known || txn >= newest {
			newest, known = txn, true
			f.root = le.Uint64(meta[128:])
		}
	}
	if !known {
		return nil, fmt.Errorf("%w: no LMDB meta page of version %d", errCorrupt, lmdbVersion)
	}
	return f, nil
}

// lmdbPage is a page with its checked number of nodes.
type lmdbPage struct {
	bytes []byte
	nodes int
	leaf  bool
}

func (f *lmdbFile) page(number uint64) (lmdbPage, error) {
	if number > uint64(f.size)/uint64(f.pageSize) {
		return lmdbPage{}, fmt.Errorf("%w: page %d", errCorrupt, number)
	}
	b, err := f.at(int64(number)*int64(f.pageSize), f.pageSize)
	if err != nil {
		return lmdbPage{}, err
	}
	flags, lower := le.Uint16(b[10:]), int(le.Uint16(b[12:]))
	p := lmdbPage{bytes: b, nodes: (lower - lmdbHeader) / 2, leaf: flags&lmdbLeaf != 0}
	if lower < lmdbHeader || lower > len(b) || flags&(lmdbLeaf|lmdbBranch) == 0 {
		return lmdbPage{}, fmt.Errorf("%w: page %d", errCorrupt, number)
	}
	return p, nil
}

// node returns node i: its header and all bytes behind it, and its key.
func (p lmdbPage) node(i int) (node, key []byte, err error) {
	at := int(le.Uint16(p.bytes[lmdbHeader+2*i:]))
	if at < lmdbHeader || at+lmdbNodeHeader > len(p.bytes) {
		return nil, nil, fmt.Errorf("%w: node at %d", errCorrupt, at)
	}
	node = p.bytes[at:]
	n := int(le.Uint16(node[6:]))
	if lmdbNodeHeader+n > len(node) {
		return nil, nil, fmt.Errorf("%w: key of %d bytes", errCorrupt, n)
	}
	return node, node[lmdbNodeHeader : lmdbNodeHeader+n], nil
}

// child is the page number in a branch node.
func child(node []byte) uint64 {
	return uint64(le.Uint16(node)) | uint64(le.Uint16(node[2:]))<<16 | uint64(le.Uint16(node[4:]))<<32
}

// data is the value in a leaf node.
func (f *lmdbFile) data(node, key []byte) ([]byte, error) {
	n := int(le.Uint16(node)) | int(le.Uint16(node[2:]))<<16
	rest := node[lmdbNodeHeader+len(key):]
	switch le.Uint16(node[4:]) {
	case 0:
		if n > len(rest) {
			return nil, fmt.Errorf("%w: value of %d bytes", errCorrupt, n)
		}
		return rest[:n], nil
	case lmdbBig:
		if len(rest) < 8 || le.Uint64(rest) > uint64(f.size)/uint64(f.pageSize) {
			return nil, fmt.Errorf("%w: overflow page", errCorrupt)
		}
		return f.at(int64(le.Uint64(rest))*int64(f.pageSize)+lmdbHeader, n)
	}
	return nil, fmt.Errorf("unsupported LMDB node flags %#x", le.Uint16(node[4:]))
}

func (f *lmdbFile) get(key []byte) ([]byte, bool, error) {
	if f.root == lmdbNoPage {
		return nil, false, nil
	}
	number := f.root
	for depth := 0; depth < lmdbMaxDepth; depth++ {
		p, err := f.page(number)
		if err != nil {
			return nil, false, err
		}
		node, k, err := p.search(key)
		if err != nil {
			return nil, false, err
		}
		if p.leaf {
			if node == nil || !bytes.Equal(k, key) {
				return nil, false, nil
			}
			value, err := f.data(node, k)
			return value, err == nil, err
		}
		if node == nil {
			return nil, false, fmt.Errorf("%w: empty branch page", errCorrupt)
		}
		number = child(node)
	}
	return nil, false, fmt.Errorf("%w: tree is too deep", errCorrupt)
}

// search finds the last node whose key is not above key; in a branch page the
// first node has no key and is below all. nil when there is none.
func (p lmdbPage) search(key []byte) (node, k []byte, err error) {
	low, high := 0, p.nodes
	if !p.leaf {
		low = min(1, p.nodes)
	}
	for low < high {
		middle := (low + high) / 2
		_, k, err := p.node(middle)
		if err != nil {
			return nil, nil, err
		}
		if bytes.Compare(k, key) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return nil, nil, nil
	}
	return p.node(low - 1)
}

func (f *lmdbFile) each(yield func(key, value []byte) error) error {
	if f.root == lmdbNoPage {
		return nil
	}
	budget := f.size / int64(f.pageSize)
	return f.walk(f.root, 0, &budget, yield)
}

// walk visits a subtree. budget bounds the pages that a corrupt tree may name.
func (f *lmdbFile) walk(number uint64, depth int, budget *int64, yield func(key, value []byte) error) error {
	if *budget--; *budget < 0 || depth > lmdbMaxDepth {
		return fmt.Errorf("%w: pages form a circle", errCorrupt)
	}
	p, err := f.page(number)
	if err != nil {
		return err
	}
	for i := 0; i < p.nodes; i++ {
		node, key, err := p.node(i)
		if err != nil {
			return err
		}
		if !p.leaf {
			if err := f.walk(child(node), depth+1, budget, yield); err != nil {
				return err
			}
			continue
		}
		value, err := f.data(node, key)
		if err != nil {
			return err
		}
		if err := yield(key, value); err != nil {
			return err
		}
	}
	return nil
}
