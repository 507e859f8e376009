package greylist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"time"

	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// The library believes what is in its file: a page that claims to go on for
// billions of pages makes it use up all memory. So the structure is checked
// before it sees the file. Offsets are those of bbolt's page.go and meta.go;
// numbers are in the order of the machine.
const (
	boltMagic      = 0xED0CDAED
	boltHeader     = 16 // id, flags, count, overflow
	boltElement    = 16 // of branch and leaf pages
	boltBranch     = 0x01
	boltLeaf       = 0x02
	boltFreelist   = 0x10
	boltSubBucket  = 0x01 // flag of a leaf element
	boltMaxDepth   = 64
	boltMaxOverrun = 1 << 16 // pages that one page may go on for
	boltManyFree   = 0xFFFF  // the number of free pages is the first of them
	boltNoFreelist = 1<<64 - 1
)

// checkFile looks through a database that nobody else has open. A file that is
// not there or empty is none yet; what has no valid meta page is left to the
// library to refuse.
func checkFile(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := lockFile(file); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	c := &boltFile{file: file, size: uint64(info.Size())}
	if !c.meta() {
		return nil
	}
	if c.pages == 0 || c.pages > c.size/c.pageSize {
		return fmt.Errorf("%w: %d pages in %d bytes", ErrDamaged, c.pages, c.size)
	}
	c.seen = make([]uint64, c.pages/64+1)
	if err := c.freelist(); err != nil {
		return err
	}
	return c.tree(c.root, 0)
}

// lockFile waits a moment for whoever has the file open.
func lockFile(file *os.File) error {
	for deadline := time.Now().Add(lockWait); ; {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil // locked, or a file system without locks
		}
		if time.Now().After(deadline) {
			return berrors.ErrTimeout
		}
		<-time.After(20 * time.Millisecond)
	}
}

// boltFile is a file as its newest valid meta page describes it.
type boltFile struct {
	file        *os.File
	size        uint64
	pageSize    uint64
	root, free  uint64
	pages       uint64
	transaction uint64
	seen        []uint64 // a bit for each page of the tree
}

// meta finds the newest valid meta page.
func (c *boltFile) meta() bool {
	c.metaAt(0)
	for size := int64(1024); size <= 1<<16; size *= 2 {
		c.metaAt(size)
	}
	return c.pageSize != 0
}

func (c *boltFile) metaAt(offset int64) {
	const length, sumAt = 64, 56
	b := make([]byte, boltHeader+length)
	if _, err := c.file.ReadAt(b, offset); err != nil {
		return
	}
	b = b[boltHeader:]
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	sum := fnv.New64a()
	sum.Write(b[:sumAt])
	size := uint64(binary.NativeEndian.Uint32(b[8:]))
	if binary.NativeEndian.Uint32(b) != boltMagic || sum.Sum64() != u64(sumAt) || size < 512 || size > 1<<16 || offset != 0 && uint64(offset) != size {
		return
	}
	if transaction := u64(48); c.pageSize == 0 || transaction > c.transaction {
		c.pageSize, c.root, c.free, c.pages, c.transaction = size, u64(16), u64(32), u64(40), transaction
	}
}

// boltPage is a page with those that it goes on for.
type boltPage struct {
	id    uint64
	flags uint16
	count int
	data  []byte
}

// page reads a page, once.
func (c *boltFile) page(id uint64) (boltPage, error) {
	damaged := func(what string) (boltPage, error) {
		return boltPage{}, fmt.Errorf("%w: page %d %s", ErrDamaged, id, what)
	}
	if id < 2 || id >= c.pages {
		return damaged("is not in the file")
	}
	if c.seen[id/64]&(1<<(id%64)) != 0 {
		return damaged("has two places")
	}
	c.seen[id/64] |= 1 << (id % 64)
	b := make([]byte, c.pageSize)
	if _, err := c.file.ReadAt(b, int64(id*c.pageSize)); err != nil {
		return boltPage{}, err
	}
	more := uint64(binary.NativeEndian.Uint32(b[12:]))
	if binary.NativeEndian.Uint64(b) != id || more > boltMaxOverrun || id+more >= c.pages {
		return damaged("has a bad header")
	}
	p := boltPage{id: id, flags: binary.NativeEndian.Uint16(b[8:]), count: int(binary.NativeEndian.Uint16(b[10:]))}
	if more > 0 {
		b = make([]byte, c.pageSize*(more+1))
		if _, err := c.file.ReadAt(b, int64(id*c.pageSize)); err != nil {
			return boltPage{}, err
		}
	}
	p.data = b
	return p, nil
}

// freelist checks the list of free pages.
func (c *boltFile) freelist() error {
	if c.free == boltNoFreelist {
		// To find the free pages, the library would go through all of them in a
		// goroutine of its own, where damage ends the process.
		return fmt.Errorf("%w: no list of free pages", ErrDamaged)
	}
	p, err := c.page(c.free)
	if err != nil {
		return err
	}
	count, ids := uint64(p.count), p.data[boltHeader:]
	if count == boltManyFree {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if p.flags != boltFreelist || count > uint64(len(ids))/8 {
		return fmt.Errorf("%w: list of %d free pages", ErrDamaged, count)
	}
	last := uint64(1)
	for i := range count {
		id := binary.NativeEndian.Uint64(ids[8*i:])
		if id <= last || id >= c.pages {
			return fmt.Errorf("%w: free page %d", ErrDamaged, id)
		}
		last = id
	}
	return nil
}

// tree checks a page of a tree and all below it.
func (c *boltFile) tree(id uint64, depth int) error {
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if depth > boltMaxDepth || p.flags != boltBranch && p.flags != boltLeaf || boltHeader+p.count*boltElement > len(p.data) || p.flags == boltBranch && p.count == 0 {
		return fmt.Errorf("%w: page %d is none of a tree", ErrDamaged, id)
	}
	return c.elements(p, depth)
}

func (c *boltFile) elements(p boltPage, depth int) error {
	for i := range p.count {
		at := boltHeader + i*boltElement
		e := p.data[at:]
		if p.flags == boltBranch {
			start, size := uint64(binary.NativeEndian.Uint32(e)), uint64(binary.NativeEndian.Uint32(e[4:]))
			if start+size > uint64(len(e)) {
				return fmt.Errorf("%w: key %d of page %d", ErrDamaged, i, p.id)
			}
			if err := c.tree(binary.NativeEndian.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
			continue
		}
		flags, start := binary.NativeEndian.Uint32(e), uint64(binary.NativeEndian.Uint32(e[4:]))
		key, value := uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
		if start+key+value > uint64(len(e)) || flags > boltSubBucket {
			return fmt.Errorf("%w: entry %d of page %d", ErrDamaged, i, p.id)
		}
		if flags == boltSubBucket {
			if err := c.bucket(e[start+key:start+key+value], depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks a bucket: its tree, or the page that is in its entry.
func (c *boltFile) bucket(value []byte, depth int) error {
	const header = 16 // root page, sequence
	if len(value) < header || depth > boltMaxDepth {
		return fmt.Errorf("%w: bucket of %d bytes", ErrDamaged, len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, depth+1)
	}
	inline := value[header:]
	if len(inline) < boltHeader {
		return fmt.Errorf("%w: bucket of %d bytes", ErrDamaged, len(value))
	}
	p := boltPage{flags: binary.NativeEndian.Uint16(inline[8:]), count: int(binary.NativeEndian.Uint16(inline[10:])), data: inline}
	if p.flags != boltLeaf || boltHeader+p.count*boltElement > len(inline) || binary.NativeEndian.Uint32(inline[12:]) != 0 {
		return fmt.Errorf("%w: small bucket", ErrDamaged)
	}
	return c.elements(p, depth+1)
}
