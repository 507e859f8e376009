package queuefile

import (
	"bytes"
	"errors"
	"io"
)

// MaxLine is where content lines are cut into L records, in bytes
// (postconf(5) line_length_limit).
const MaxLine = 2048

// Content turns a stream of lines ended by LF into content records. The zero
// value is ready for use.
type Content struct {
	line []byte // an unfinished line
	size int64  // bytes written
}

// Append adds the records of p to b. The end of p need not be that of a line.
func (c *Content) Append(b, p []byte) []byte {
	c.size += int64(len(p))
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p)
		}
		piece := p[:end]
		for len(c.line)+len(piece) > MaxLine {
			n := MaxLine - len(c.line)
			b = c.flush(b, Cont, piece[:n])
			piece = piece[n:]
		}
		if end == len(p) {
			c.line = append(c.line, piece...)
			return b
		}
		b = c.flush(b, Norm, piece)
		p = p[end+1:]
	}
	return b
}

func (c *Content) flush(b []byte, typ byte, piece []byte) []byte {
	b = appendHeader(b, typ, len(c.line)+len(piece))
	b = append(append(b, c.line...), piece...)
	c.line = c.line[:0]
	return b
}

// Finish adds what is left: a last line without LF.
func (c *Content) Finish(b []byte) []byte {
	if len(c.line) > 0 {
		b = c.flush(b, Cont, nil)
	}
	return b
}

// Size is the number of bytes appended so far.
func (c *Content) Size() int64 { return c.size }

// Text reads the content of a queue file as lines ended by LF. It implements
// io.ReadSeeker and io.WriterTo; it is not safe for concurrent use.
type Text struct {
	src   io.ReaderAt
	begin int64 // offset of the first content record
	r     *Reader
	rest  []byte // of the current record
	eol   bool   // LF is due behind rest
	pos   int64
	err   error
}

// NewText reads the content records of src that begin at offset begin.
func NewText(src io.ReaderAt, begin int64) *Text {
	return &Text{src: src, begin: begin, r: NewReader(src, begin)}
}

var lf = []byte{'\n'}

// fill makes rest non-empty or sets err.
func (t *Text) fill() {
	for t.err == nil && len(t.rest) == 0 {
		if t.eol {
			t.rest, t.eol = lf, false
			return
		}
		rec, err := t.r.Next()
		switch {
		case err == io.EOF:
			t.err = damaged(t.r.Offset(), "content is cut off")
		case err != nil:
			t.err = err
		case rec.Type == Norm:
			t.rest, t.eol = rec.Data, true
		case rec.Type == Cont:
			t.rest = rec.Data
		case rec.Type == Extra:
			t.err = io.EOF
		case rec.Type != Padding:
			t.err = damaged(rec.Offset, "record %q in the content", rec.Type)
		}
		if t.err != nil {
			t.r.Close()
		}
	}
}

// Read implements io.Reader.
func (t *Text) Read(p []byte) (n int, err error) {
	for n < len(p) {
		t.fill()
		if t.err != nil {
			break
		}
		m := copy(p[n:], t.rest)
		t.rest = t.rest[m:]
		n += m
	}
	t.pos += int64(n)
	if n == 0 && len(p) > 0 {
		return 0, t.err
	}
	return n, nil
}

// WriteTo implements io.WriterTo: a line at a time, without another copy.
func (t *Text) WriteTo(w io.Writer) (total int64, err error) {
	for {
		t.fill()
		if t.err == io.EOF {
			return total, nil
		}
		if t.err != nil {
			return total, t.err
		}
		n, err := w.Write(t.rest)
		total, t.pos, t.rest = total+int64(n), t.pos+int64(n), t.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// Seek implements io.Seeker. Going back reads again from the beginning, and
// io.SeekEnd reads all of it.
func (t *Text) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += t.pos
	case io.SeekEnd:
		if err := t.skip(1 << 62); err != io.EOF {
			return t.pos, err
		}
		offset += t.pos
	}
	if offset < 0 {
		return t.pos, errors.New("queuefile: negative position")
	}
	if offset < t.pos || offset == 0 {
		t.r.Close()
		*t = Text{src: t.src, begin: t.begin, r: NewReader(t.src, t.begin)}
	}
	if err := t.skip(offset); err != nil && err != io.EOF {
		return t.pos, err
	}
	return t.pos, nil
}

// skip moves forward to a position, or to the end and returns io.EOF.
func (t *Text) skip(to int64) error {
	for t.pos < to {
		t.fill()
		if t.err != nil {
			return t.err
		}
		n := min(to-t.pos, int64(len(t.rest)))
		t.rest, t.pos = t.rest[n:], t.pos+n
	}
	return nil
}

// Close gives the buffer back early; a reader that came to the end has done so.
func (t *Text) Close() error {
	t.r.Close()
	if t.err == nil {
		t.err = io.ErrClosedPipe
	}
	return nil
}
