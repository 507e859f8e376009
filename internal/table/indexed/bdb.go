package indexed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Berkeley DB 4 to 6, hash and btree, read only. Offsets are of the on-disk
// format as db_page.h of libdb has it.

const (
	bdbHashMagic  = 0x061561
	bdbBtreeMagic = 0x053162

	bdbPageHeader   = 26
	bdbTypeHash     = 13
	bdbTypeHashOld  = 2 // unsorted hash page
	bdbTypeInternal = 3
	bdbTypeLeaf     = 5
	bdbTypeOverflow = 7

	bdbMaxDepth = 64 // of a btree, and of nothing else
)

// bdbFile is what hash and btree have in common.
type bdbFile struct {
	*storage
	order    binary.ByteOrder
	pageSize int
	pages    uint32 // in the file
}

// bdbMagic returns the magic number and byte order of a Berkeley DB file, 0 if
// it is none.
func bdbMagic(s *storage) (uint32, binary.ByteOrder) {
	b, err := s.at(12, 4)
	if err != nil {
		return 0, nil
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if m := order.Uint32(b); m == bdbHashMagic || m == bdbBtreeMagic {
			return m, order
		}
	}
	return 0, nil
}

// openBDB reads the meta page.
func openBDB(s *storage) (reader, error) {
	magic, order := bdbMagic(s)
	meta, err := s.at(0, 512)
	if err != nil || magic == 0 {
		return nil, fmt.Errorf("%w: not a Berkeley DB file", errCorrupt)
	}
	f := bdbFile{storage: s, order: order, pageSize: int(order.Uint32(meta[20:]))}
	if f.pageSize < 512 || f.pageSize > 65536 || f.pageSize&(f.pageSize-1) != 0 {
		return nil, fmt.Errorf("%w: page size %d", errCorrupt, f.pageSize)
	}
	if meta[24] != 0 {
		return nil, fmt.Errorf("encrypted Berkeley DB files are not supported")
	}
	f.pages = uint32(s.size / int64(f.pageSize))
	version := order.Uint32(meta[16:])
	if magic == bdbBtreeMagic {
		if version < 8 || version > 10 {
			return nil, fmt.Errorf("unsupported Berkeley DB btree version %d", version)
		}
		return &bdbBtree{f, order.Uint32(meta[88:])}, nil
	}
	if version < 7 || version > 10 {
		return nil, fmt.Errorf("unsupported Berkeley DB hash version %d", version)
	}
	h := &bdbHash{bdbFile: f, maxBucket: order.Uint32(meta[72:]), highMask: order.Uint32(meta[76:]), lowMask: order.Uint32(meta[80:])}
	for i := range h.spares {
		h.spares[i] = order.Uint32(meta[96+4*i:])
	}
	return h, nil
}

func (f *bdbFile) page(number uint32) ([]byte, error) {
	if number >= f.pages {
		return nil, fmt.Errorf("%w: page %d of %d", errCorrupt, number, f.pages)
	}
	return f.at(int64(number)*int64(f.pageSize), f.pageSize)
}

func (f *bdbFile) next(page []byte) uint32 { return f.order.Uint32(page[16:]) }

// entries is the number of items on a page, checked against the index.
func (f *bdbFile) entries(page []byte) (int, error) {
	n := int(f.order.Uint16(page[20:]))
	if bdbPageHeader+2*n > len(page) {
		return 0, fmt.Errorf("%w: %d items on a page", errCorrupt, n)
	}
	return n, nil
}

// index is the offset of item i.
func (f *bdbFile) index(page []byte, i int) (int, error) {
	at := int(f.order.Uint16(page[bdbPageHeader+2*i:]))
	if at < bdbPageHeader || at+3 > len(page) {
		return 0, fmt.Errorf("%w: item at %d", errCorrupt, at)
	}
	return at, nil
}

// overflow reads an item of n bytes that has pages of its own.
func (f *bdbFile) overflow(number, n uint32) ([]byte, error) {
	if int64(n) > f.size {
		return nil, fmt.Errorf("%w: item of %d bytes", errCorrupt, n)
	}
	item := make([]byte, 0, n)
	for hops := uint32(0); len(item) < int(n); hops++ {
		page, err := f.page(number)
		if err != nil {
			return nil, err
		}
		used := int(f.order.Uint16(page[22:]))
		if page[25] != bdbTypeOverflow || used == 0 || bdbPageHeader+used > len(page) || hops > f.pages {
			return nil, fmt.Errorf("%w: overflow page %d", errCorrupt, number)
		}
		item = append(item, page[bdbPageHeader:bdbPageHeader+used]...)
		number = f.next(page)
	}
	return item[:n], nil
}

// bdbHash is a linear hash table.
type bdbHash struct {
	bdbFile
	maxBucket, highMask, lowMask uint32
	spares                       [32]uint32
}

// fnv is libdb's default hash function.
func fnv(key []byte) uint32 {
	var h uint32
	for _, c := range key {
		h = h*16777619 ^ uint32(c)
	}
	return h
}

func (h *bdbHash) bucketPage(bucket uint32) uint32 {
	return bucket + h.spares[bits.Len32(bucket)&31]
}

func (h *bdbHash) get(key []byte) ([]byte, bool, error) {
	bucket := fnv(key) & h.highMask
	if bucket > h.maxBucket {
		bucket &= h.lowMask
	}
	var value []byte
	found := false
	err := h.bucket(bucket, func(page []byte, i int) (bool, error) {
		k, err := h.item(page, i)
		if err != nil || !bytes.Equal(k, key) {
			return false, err
		}
		found = true
		value, err = h.item(page, i+1)
		return true, err
	})
	return value, found && err == nil, err
}

// bucket calls visit with the place of every key of a bucket.
func (h *bdbHash) bucket(bucket uint32, visit func(page []byte, i int) (done bool, err error)) error {
	number := h.bucketPage(bucket)
	for hops := uint32(0); ; hops++ {
		page, err := h.page(number)
		if err != nil {
			return err
		}
		kind := page[25]
		if (kind != bdbTypeHash && kind != bdbTypeHashOld && kind != 0) || hops > h.pages {
			return fmt.Errorf("%w: hash page %d", errCorrupt, number)
		}
		n, err := h.entries(page)
		if err != nil {
			return err
		}
		if kind == 0 { // never used
			n = 0
		}
		for i := 0; i+1 < n; i += 2 {
			if done, err := visit(page, i); done || err != nil {
				return err
			}
		}
		if number = h.next(page); number == 0 || kind == 0 {
			return nil
		}
	}
}

// item reads item i of a hash page: it ends where the one before it begins.
func (h *bdbHash) item(page []byte, i int) ([]byte, error) {
	start, err := h.index(page, i)
	if err != nil {
		return nil, err
	}
	end := len(page)
	if i > 0 {
		if end, err = h.index(page, i-1); err != nil {
			return nil, err
		}
	}
	if start >= end {
		return nil, fmt.Errorf("%w: item of %d bytes", errCorrupt, end-start)
	}
	switch page[start] {
	case 1:
		return page[start+1 : end], nil
	case 3:
		if end-start < 12 {
			return nil, fmt.Errorf("%w: short item", errCorrupt)
		}
		return h.overflow(h.order.Uint32(page[start+4:]), h.order.Uint32(page[start+8:]))
	}
	return nil, fmt.Errorf("unsupported Berkeley DB item type %d", page[start])
}

func (h *bdbHash) each(yield func(key, value []byte) error) error {
	if h.maxBucket >= h.pages {
		return fmt.Errorf("%w: %d buckets", errCorrupt, h.maxBucket)
	}
	for bucket := uint32(0); bucket <= h.maxBucket; bucket++ {
		err := h.bucket(bucket, func(page []byte, i int) (bool, error) {
			key, err := h.item(page, i)
			if err != nil {
				return true, err
			}
			value, err := h.item(page, i+1)
			if err != nil {
				return true, err
			}
			return false, yield(key, value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// bdbBtree is a B+tree in the order of bytes.
type bdbBtree struct {
	bdbFile
	root uint32
}

func (t *bdbBtree) get(key []byte) ([]byte, bool, error) {
	number := t.root
	for depth := 0; depth < bdbMaxDepth; depth++ {
		page, err := t.page(number)
		if err != nil {
			return nil, false, err
		}
		switch page[25] {
		case bdbTypeLeaf:
			return t.search(page, key)
		case bdbTypeInternal:
			if number, err = t.child(page, key); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, fmt.Errorf("%w: btree page %d", errCorrupt, number)
		}
	}
	return nil, false, fmt.Errorf("%w: btree is too deep", errCorrupt)
}

// child picks the last child whose first key is not above key.
func (t *bdbBtree) child(page, key []byte) (uint32, error) {
	n, err := t.entries(page)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, fmt.Errorf("%w: empty btree page", errCorrupt)
	}
	low, high := 0, n // entries below low are not above key
	for low = 1; low < high; {
		middle := (low + high) / 2
		at, err := t.index(page, middle)
		if err != nil {
			return 0, err
		}
		if at+12 > len(page) {
			return 0, errCorrupt
		}
		k, err := t.item(page, at, 12)
		if err != nil {
			return 0, err
		}
		if bytes.Compare(k, key) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	at, err := t.index(page, low-1)
	if err != nil || at+12 > len(page) {
		return 0, errCorrupt
	}
	return t.order.Uint32(page[at+4:]), nil
}

// item reads the key or value at an offset. data is how far its bytes are off.
func (t *bdbBtree) item(page []byte, at, data int) ([]byte, error) {
	n := int(t.order.Uint16(page[at:]))
	switch page[at+2] &^ 0x80 {
	case 1:
		if at+data+n > len(page) {
			return nil, fmt.Errorf("%w: item of %d bytes", errCorrupt, n)
		}
		return page[at+data : at+data+n], nil
	case 3:
		if data != 3 { // an internal page has the reference where the key would be
			at += data
		}
		if at+12 > len(page) {
			return nil, errCorrupt
		}
		return t.overflow(t.order.Uint32(page[at+4:]), t.order.Uint32(page[at+8:]))
	}
	return nil, fmt.Errorf("unsupported Berkeley DB item type %d", page[at+2])
}

func (t *bdbBtree) search(page, key []byte) ([]byte, bool, error) {
	n, err := t.entries(page)
	if err != nil {
		return nil, false, err
	}
	low, high := 0, n/2
	for low < high {
		middle := (low + high) / 2
		k, err := t.leafItem(page, 2*middle)
		if err != nil {
			return nil, false, err
		}
		switch c := bytes.Compare(k, key); {
		case c == 0:
			return t.value(page, middle)
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return nil, false, nil
}

func (t *bdbBtree) value(page []byte, entry int) ([]byte, bool, error) {
	deleted, err := t.deleted(page, entry)
	if err != nil || deleted {
		return nil, false, err
	}
	value, err := t.leafItem(page, 2*entry+1)
	return value, err == nil, err
}

func (t *bdbBtree) leafItem(page []byte, i int) ([]byte, error) {
	at, err := t.index(page, i)
	if err != nil {
		return nil, err
	}
	return t.item(page, at, 3)
}

// deleted: a pair that waits for its page to be tidied.
func (t *bdbBtree) deleted(page []byte, entry int) (bool, error) {
	at, err := t.index(page, 2*entry+1)
	if err != nil {
		return false, err
	}
	return page[at+2]&0x80 != 0, nil
}

func (t *bdbBtree) each(yield func(key, value []byte) error) error {
	number := t.root
	for depth := 0; ; depth++ {
		page, err := t.page(number)
		if err != nil {
			return err
		}
		if page[25] == bdbTypeLeaf {
			break
		}
		at, err := t.index(page, 0)
		if err != nil || page[25] != bdbTypeInternal || at+12 > len(page) || depth > bdbMaxDepth {
			return fmt.Errorf("%w: btree page %d", errCorrupt, number)
		}
		number = t.order.Uint32(page[at+4:])
	}
	for hops := uint32(0); ; hops++ {
		page, err := t.page(number)
		if err != nil {
			return err
		}
		if page[25] != bdbTypeLeaf || hops > t.pages {
			return fmt.Errorf("%w: btree page %d", errCorrupt, number)
		}
		if err := t.leaf(page, yield); err != nil {
			return err
		}
		if number = t.next(page); number == 0 {
			return nil
		}
	}
}

func (t *bdbBtree) leaf(page []byte, yield func(key, value []byte) error) error {
	n, err := t.entries(page)
	if err != nil {
		return err
	}
	for entry := 0; entry < n/2; entry++ {
		value, found, err := t.value(page, entry)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		key, err := t.leafItem(page, 2*entry)
		if err != nil {
			return err
		}
		if err := yield(key, value); err != nil {
			return err
		}
	}
	return nil
}
