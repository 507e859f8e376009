package indexed

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A CDB file is 256 pointers (position and length of a hash table), the
// records (lengths of key and value, key, value), and the hash tables (hash
// and position of a record). See cr.yp.to/cdb/cdb.txt. Ours have a mark behind
// the last hash table, where no reader of CDB looks, that names the type.

const (
	cdbHeader = 256 * 8
	cdbMark   = "posthaste:"
)

var le = binary.LittleEndian

func cdbHash(key []byte) uint32 {
	h := uint32(5381)
	for _, c := range key {
		h = (h * 33) ^ uint32(c)
	}
	return h
}

type cdbFile struct {
	*storage
	records int64  // where the records end
	header  []byte // the 256 pointers
}

// openCDB checks that all pointers lie inside the file.
func openCDB(s *storage) (*cdbFile, error) {
	header, err := s.at(0, cdbHeader)
	if err != nil {
		return nil, err
	}
	c := &cdbFile{storage: s, header: bytes.Clone(header), records: s.size}
	for i := 0; i < 256; i++ {
		position, slots := c.table(i)
		if position < cdbHeader || position+slots*8 > s.size {
			return nil, fmt.Errorf("%w: not a CDB file", errCorrupt)
		}
		c.records = min(c.records, position)
	}
	return c, nil
}

func (c *cdbFile) table(i int) (position, slots int64) {
	return int64(le.Uint32(c.header[i*8:])), int64(le.Uint32(c.header[i*8+4:]))
}

// mark is the type that our own writer noted behind the hash tables, or "".
func (c *cdbFile) mark() string {
	end := int64(cdbHeader)
	for i := 0; i < 256; i++ {
		position, slots := c.table(i)
		end = max(end, position+slots*8)
	}
	b, err := c.at(end, int(min(c.size-end, 32)))
	if err != nil || !bytes.HasPrefix(b, []byte(cdbMark)) {
		return ""
	}
	return string(bytes.TrimSpace(b[len(cdbMark):]))
}

func (c *cdbFile) get(key []byte) ([]byte, bool, error) {
	hash := cdbHash(key)
	position, slots := c.table(int(hash & 255))
	for i := int64(0); i < slots; i++ {
		slot, err := c.at(position+(int64(hash>>8)+i)%slots*8, 8)
		if err != nil {
			return nil, false, err
		}
		at := int64(le.Uint32(slot[4:]))
		if at == 0 {
			return nil, false, nil
		}
		if le.Uint32(slot) != hash {
			continue
		}
		k, v, _, err := c.record(at)
		if err != nil {
			return nil, false, err
		}
		if bytes.Equal(k, key) {
			return v, true, nil
		}
	}
	return nil, false, nil
}

func (c *cdbFile) record(at int64) (key, value []byte, next int64, err error) {
	lengths, err := c.at(at, 8)
	if err != nil {
		return nil, nil, 0, err
	}
	k, v := int64(le.Uint32(lengths)), int64(le.Uint32(lengths[4:]))
	if at < cdbHeader || k > c.size || v > c.size {
		return nil, nil, 0, errCorrupt
	}
	body, err := c.at(at+8, int(k+v))
	if err != nil {
		return nil, nil, 0, err
	}
	return body[:k], body[k:], at + 8 + k + v, nil
}

func (c *cdbFile) each(yield func(key, value []byte) error) error {
	for at := int64(cdbHeader); at < c.records; {
		key, value, next, err := c.record(at)
		if err != nil {
			return err
		}
		if err := yield(key, value); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// pair is a key with its value, as they are stored.
type pair struct{ key, value []byte }

// writeCDB writes pairs with distinct keys. kind is noted for our reader.
func writeCDB(out io.Writer, kind string, pairs []pair) error {
	type slot struct{ hash, at uint32 }
	var tables [256][]slot
	at := uint64(cdbHeader)
	for _, p := range pairs {
		h := cdbHash(p.key)
		tables[h&255] = append(tables[h&255], slot{h, uint32(at)})
		at += 8 + uint64(len(p.key)) + uint64(len(p.value))
		if at+uint64(len(pairs))*16 > 1<<32-1 {
			return errors.New("table is too large: a CDB file ends at 4 GB")
		}
	}
	w := bufio.NewWriter(out)
	var word [8]byte
	two := func(a, b uint32) {
		le.PutUint32(word[:], a)
		le.PutUint32(word[4:], b)
		w.Write(word[:])
	}
	start := uint32(at)
	for _, t := range tables {
		two(start, uint32(2*len(t)))
		start += uint32(16 * len(t))
	}
	for _, p := range pairs {
		two(uint32(len(p.key)), uint32(len(p.value)))
		w.Write(p.key)
		w.Write(p.value)
	}
	for _, t := range tables {
		slots := make([]slot, 2*len(t))
		for _, s := range t {
			i := int(s.hash>>8) % len(slots)
			for slots[i].at != 0 {
				i = (i + 1) % len(slots)
			}
			slots[i] = s
		}
		for _, s := range slots {
			two(s.hash, s.at)
		}
	}
	if kind != "" {
		fmt.Fprintf(w, "%s%s\n", cdbMark, kind)
	}
	return w.Flush()
}
