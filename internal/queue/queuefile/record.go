// Package queuefile reads and writes Postfix's queue file format, so that a
// site can take over a spool of Postfix in place, and give it back.
//
// A file is a sequence of records: a type letter, a length in seven-bit groups
// (least significant first) and that many bytes. The envelope comes first,
// then M and the content (one N record a line without its line end, L for a
// piece of a line that goes on), then X and what was found in the headers,
// then E. The first record, C, has a fixed width and tells sizes. R records
// are recipients; one that was answered for is turned into D in place. A p
// record continues the reading elsewhere in the file: milters of Postfix use
// it for edits, this package for an envelope that is written behind a large
// content.
//
// The same format travels from sendmail(1) to postdrop(1) and lies in the
// maildrop directory. Readers accept any bytes without panic, with bounded
// memory, and end.
//
// Callers: spool, the maildrop, postcat.
package queuefile

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Record types (rec_type(3h) of Postfix).
const (
	Size        = 'C' // sizes and offsets, first
	Time        = 'T' // arrival: seconds and microseconds
	CreateTime  = 'c'
	FullName    = 'F'
	Inspector   = 'I' // content filter of Postfix 1
	Filter      = 'L' // content filter, outside the content
	From        = 'S'
	Done        = 'D' // recipient that was answered for
	Rcpt        = 'R'
	OrigRcpt    = 'O'
	Cancelled   = '/' // recipient removed by a milter
	Warn        = 'W' // when to send the delay warning; 0: was sent
	Attr        = 'A' // name=value
	Killed      = 'K' // attribute that no longer counts
	Redirect    = '>'
	Flags       = 'f'
	Delay       = 'd'
	Message     = 'M' // content begins
	Cont        = 'L' // piece of a line, inside the content
	Norm        = 'N' // line, or its last piece
	Padding     = 'w'
	Extra       = 'X' // content ends
	ReturnRcpt  = 'r'
	ErrorsTo    = 'e'
	Priority    = 'P'
	Pointer     = 'p'
	Verp        = 'V'
	DSNRet      = '<'
	DSNEnvID    = 'i'
	DSNOrcpt    = 'o'
	DSNNotify   = 'n'
	MilterCount = 'm'
	End         = 'E'
)

// Record is one record.
type Record struct {
	Type   byte
	Data   []byte // valid until the next call of Next
	Offset int64  // of the type letter
}

// MaxRecord is the largest record that is accepted, in bytes. Postfix cuts
// content lines at line_length_limit (2048); attributes may be longer.
const MaxRecord = 1 << 20

// maxJumps bounds the pointer records of one pass.
const maxJumps = 5000

// ErrFormat is what every damaged record gives.
var ErrFormat = errors.New("queuefile: damaged")

func damaged(off int64, format string, args ...any) error {
	return fmt.Errorf("%w at offset %d: %s", ErrFormat, off, fmt.Sprintf(format, args...))
}

const windowSize = 16 << 10

// windows are the read buffers of Readers that were closed.
var windows = sync.Pool{New: func() any { return new([windowSize]byte) }}

// Stream makes a source of what can only be read once, for one Reader that
// goes forward.
func Stream(r io.Reader) io.ReaderAt { return &stream{r: r} }

type stream struct {
	r   io.Reader
	pos int64
}

func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	if off != s.pos {
		return 0, errors.New("queuefile: a stream cannot go back")
	}
	n, err := s.r.Read(p)
	s.pos += int64(n)
	return n, err
}

// Reader gives the records of a file one by one.
type Reader struct {
	src    io.ReaderAt
	window *[windowSize]byte
	start  int64 // file offset of window[0]
	have   int   // bytes in window
	pos    int64 // file offset of what is read next
	high   int64 // the farthest that was read
	big    []byte
	jumps  map[int64]bool // pointers that were followed
	// Raw makes Next return pointer records and not follow them.
	Raw bool
}

// NewReader reads src from offset off. Close gives its buffer back.
func NewReader(src io.ReaderAt, off int64) *Reader {
	return &Reader{src: src, pos: off}
}

// Close ends the use of the reader and of the last record.
func (r *Reader) Close() {
	if r.window != nil {
		windows.Put(r.window)
		r.window = nil
	}
}

// Offset is where the next record begins.
func (r *Reader) Offset() int64 { return r.pos }

// Goto makes the record at off the next one.
func (r *Reader) Goto(off int64) { r.pos = off }

// peek makes n bytes at pos available, fewer at the end of the file. A source
// may give less than was asked for, as a pipe does.
func (r *Reader) peek(n int) ([]byte, error) {
	if r.window == nil {
		r.window, r.have = windows.Get().(*[windowSize]byte), 0
	}
	if r.pos < r.start || r.pos+int64(n) > r.start+int64(r.have) {
		at := 0
		if r.pos >= r.start && r.pos < r.start+int64(r.have) {
			at = copy(r.window[:], r.window[r.pos-r.start:r.have])
		}
		r.start, r.have = r.pos, at
		for r.have < n {
			got, err := r.src.ReadAt(r.window[r.have:], r.pos+int64(r.have))
			r.have += max(got, 0)
			if err == io.EOF || got <= 0 && err == nil {
				break
			}
			if err != nil {
				return nil, err
			}
		}
	}
	from := int(r.pos - r.start)
	return r.window[from:min(from+n, r.have)], nil
}

// Next returns the next record and follows pointers. io.EOF means that the
// file ends before a record; ErrFormat that it is damaged; other errors are
// those of the source.
func (r *Reader) Next() (Record, error) {
	for {
		rec, err := r.raw()
		if err != nil || rec.Type != Pointer || r.Raw {
			return rec, err
		}
		target, ok := number(rec.Data)
		if !ok {
			return Record{}, damaged(rec.Offset, "pointer %q", clip(rec.Data))
		}
		if target == 0 {
			continue // room for a later edit
		}
		if r.jumps[rec.Offset] || len(r.jumps) == maxJumps {
			return Record{}, damaged(rec.Offset, "pointers go in circles")
		}
		if r.jumps == nil {
			r.jumps = map[int64]bool{}
		}
		r.jumps[rec.Offset] = true
		r.pos = target
	}
}

func (r *Reader) raw() (Record, error) {
	rec := Record{Offset: r.pos}
	length, err := r.header(&rec)
	if err != nil {
		return Record{}, err
	}
	if length <= windowSize {
		rec.Data, err = r.peek(length)
	} else {
		rec.Data, err = r.large(length)
	}
	if err == nil && len(rec.Data) < length {
		err = damaged(rec.Offset, "record of %d bytes is cut off", length)
	}
	if err != nil {
		return Record{}, err
	}
	r.pos += int64(length)
	r.high = max(r.high, r.pos)
	return rec, nil
}

// header reads the type and the length: two bytes, and more if they say so, as
// a stream may pause behind the last record.
func (r *Reader) header(rec *Record) (int, error) {
	head, err := r.peek(2)
	for n := 3; n <= 6 && err == nil && len(head) == n-1 && head[n-2]&0x80 != 0; n++ {
		head, err = r.peek(n)
	}
	if err != nil {
		return 0, err
	}
	if len(head) == 0 {
		return 0, io.EOF
	}
	rec.Type = head[0]
	if rec.Type < '/' || rec.Type > 'z' {
		return 0, damaged(r.pos, "record type %d", rec.Type)
	}
	length := 0
	for i, b := range head[1:] {
		length |= int(b&0x7f) << (7 * i)
		if b&0x80 != 0 {
			continue
		}
		if length > MaxRecord {
			return 0, damaged(r.pos, "record of %d bytes", length)
		}
		r.pos += int64(i) + 2
		return length, nil
	}
	return 0, damaged(r.pos, "length of a record")
}

// large reads data that does not fit into the window. What the window has is
// not read again, so that a source may be a stream.
func (r *Reader) large(length int) ([]byte, error) {
	if cap(r.big) < length {
		r.big = make([]byte, length)
	}
	n := 0
	if r.window != nil && r.pos >= r.start && r.pos < r.start+int64(r.have) {
		n = copy(r.big[:length], r.window[r.pos-r.start:r.have])
	}
	for n < length {
		got, err := r.src.ReadAt(r.big[n:length], r.pos+int64(n))
		n += max(got, 0)
		if err == io.EOF || got <= 0 && err == nil {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return r.big[:n], nil
}

// Append adds one record to b.
func Append[T string | []byte](b []byte, typ byte, data T) []byte {
	b = appendHeader(b, typ, len(data))
	return append(b, data...)
}

func appendHeader(b []byte, typ byte, length int) []byte {
	b = append(b, typ)
	for length >= 0x80 {
		b = append(b, byte(length)|0x80)
		length >>= 7
	}
	return append(b, byte(length))
}

// headerSize is the number of bytes before the data of a record.
func headerSize(length int) int64 {
	n := int64(2)
	for ; length >= 0x80; length >>= 7 {
		n++
	}
	return n
}

// number reads a decimal number with blanks before it.
func number(text []byte) (n int64, ok bool) {
	for len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 15 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// clip shortens text for a message.
func clip(text []byte) []byte { return text[:min(len(text), 100)] }
