// Package indexed is the tables that postmap(1) makes: hash:, btree:, cdb: and
// lmdb:. It reads the files of Postfix (Berkeley DB 4-6 hash and btree, CDB,
// LMDB) and its own, and replaces files atomically when it writes.
//
// Readers trust nothing in a file: every offset is checked, every walk is
// bounded, and a file that makes no sense is an error, never "not found".
// Files are read, not mapped: another program may truncate one under us.
//
// Daemons open tables through package table; the commands write with Update.
// docs/decisions/0001-indexed-tables.md has the formats and why.
package indexed

import (
	"errors"
	"fmt"
	"io"
)

// reader is an open file of one of the formats.
type reader interface {
	// get finds a key as it is stored.
	get(key []byte) (value []byte, found bool, err error)
	// each calls yield for all pairs in the order of the file.
	each(yield func(key, value []byte) error) error
}

// errCorrupt is a file that contradicts itself.
var errCorrupt = errors.New("file is corrupt")

// storage is a file's bytes: in memory when it is small, else read where needed.
type storage struct {
	memory []byte
	file   io.ReaderAt
	size   int64
}

// smallFile is what is read into memory whole.
const smallFile = 4 << 20

func newStorage(file io.ReaderAt, size int64) (*storage, error) {
	s := &storage{file: file, size: size}
	if size > smallFile {
		return s, nil
	}
	memory := make([]byte, size)
	if n, err := file.ReadAt(memory, 0); err != nil && (n < len(memory) || !errors.Is(err, io.EOF)) {
		return nil, err
	}
	s.memory = memory
	return s, nil
}

// at returns n bytes at an offset. They must not be changed.
func (s *storage) at(offset int64, n int) ([]byte, error) {
	if offset < 0 || n < 0 || offset > s.size || int64(n) > s.size-offset {
		return nil, fmt.Errorf("%w: %d bytes at %d of %d", errCorrupt, n, offset, s.size)
	}
	if s.memory != nil || n == 0 {
		if n == 0 {
			return nil, nil
		}
		return s.memory[offset : offset+int64(n)], nil
	}
	b := make([]byte, n)
	if _, err := s.file.ReadAt(b, offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it became shorter", errCorrupt)
		}
		return nil, err
	}
	return b, nil
}
