package smtpproto

import (
	"bytes"
	"io"
	"sync"
)

// largeBuffers holds the buffers of sessions that are not reading content.
var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// Reader reads lines and content from one connection. It holds a small buffer
// while commands are read, and borrows a large one for content.
type Reader struct {
	src   io.Reader
	buf   []byte // small or, while large != nil, large[:]
	r, w  int    // unread bytes are buf[r:w]
	small []byte
	large *[largeBuffer]byte
	err   error  // sticky error of src
	long  []byte // a line that spans buffers
}

// NewReader reads from src.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Reset goes on with another source, as after STARTTLS, and returns how many
// unread bytes of the old one were dropped.
func (r *Reader) Reset(src io.Reader) int {
	n := r.w - r.r
	r.Release()
	r.src, r.r, r.w, r.err = src, 0, 0, nil
	return n
}

// Release gives a borrowed buffer back; unread bytes are lost. Call it at the
// end of a connection.
func (r *Reader) Release() {
	if r.large != nil {
		largeBuffers.Put(r.large)
		r.large, r.buf = nil, nil
	}
	r.r, r.w = 0, 0
}

// Buffered returns the bytes that were received and not read yet; valid until
// the next call.
func (r *Reader) Buffered() []byte { return r.buf[r.r:r.w] }

// shrink returns to the small buffer when nothing is left to read.
func (r *Reader) shrink() {
	if r.r < r.w {
		return
	}
	r.Release()
	if r.small == nil {
		r.small = make([]byte, smallBuffer)
	}
	r.buf = r.small
}

// enlarge moves to the large buffer.
func (r *Reader) enlarge() {
	if r.large != nil {
		return
	}
	r.large = largeBuffers.Get().(*[largeBuffer]byte)
	n := copy(r.large[:], r.buf[r.r:r.w])
	r.buf, r.r, r.w = r.large[:], 0, n
}

// fill reads once, after moving unread bytes to the front. The buffer must
// have room then.
func (r *Reader) fill() error {
	if r.err != nil {
		return r.err
	}
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if err != nil {
			r.err = err
		}
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	r.err = io.ErrNoProgress
	return r.err
}

// Line is one line as received.
type Line struct {
	Text      []byte // without line end; valid until the next call
	BareLF    bool   // ended in LF without CR
	Truncated bool   // longer than the limit: the rest was dropped
}

// ReadLine reads one line of up to limit bytes. A longer one is cut and its
// rest dropped, until ErrEndless. A connection that ends inside a line gives
// io.ErrUnexpectedEOF, one that ends before it io.EOF.
func (r *Reader) ReadLine(limit int) (Line, error) {
	r.shrink()
	r.long = r.long[:0]
	dropped := 0
	for {
		i := bytes.IndexByte(r.buf[r.r:r.w], '\n')
		if i >= 0 {
			part := r.buf[r.r : r.r+i+1]
			r.r += i + 1
			return r.endLine(part, limit, dropped), nil
		}
		if r.w-r.r == len(r.buf) {
			keep := min(max(limit+2-len(r.long), 0), r.w-r.r)
			r.long = append(r.long, r.buf[r.r:r.r+keep]...)
			dropped += r.w - r.r - keep
			r.r = r.w
			if dropped > MaxDiscard {
				r.long = nil
				return Line{}, ErrEndless
			}
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && (r.r < r.w || len(r.long) > 0) {
				err = io.ErrUnexpectedEOF
			}
			return Line{}, err
		}
	}
}

// endLine makes a Line of what was collected and its last part.
func (r *Reader) endLine(part []byte, limit, dropped int) Line {
	text := part
	if len(r.long) > 0 {
		room := min(max(limit+2-len(r.long), 0), len(part))
		r.long = append(r.long, part[:room]...)
		dropped += len(part) - room
		text = r.long
	}
	line := Line{Text: text}
	if dropped == 0 {
		line.Text = text[:len(text)-1]
		line.BareLF = !bytes.HasSuffix(line.Text, []byte{'\r'})
		line.Text = bytes.TrimSuffix(line.Text, []byte{'\r'})
	}
	if len(line.Text) > limit {
		line.Text, line.Truncated = line.Text[:limit], true
	}
	if cap(r.long) > smallBuffer {
		r.long = nil
	}
	return line
}
