package smtpproto

import (
	"bytes"
	"io"
)

// Data reads the stream that follows DATA, up to the final dot.
type Data struct {
	Lines  int   // complete lines so far
	BareLF int   // of these, ended in LF without CR
	Size   int64 // bytes so far, lines counted as ended by CRLF

	r        *Reader
	policy   Newline
	midLine  bool
	prevBare bool
	done     bool
}

// Data starts reading message content after a DATA command was answered.
func (r *Reader) Data(policy Newline) *Data {
	if r.buf == nil {
		r.shrink()
	}
	r.enlarge()
	return &Data{r: r, policy: policy}
}

// Next returns more content, lines ended by LF and dots removed, valid until
// the next call; a chunk may end inside a line. After the final dot it returns
// io.EOF. A connection that ends before gives io.ErrUnexpectedEOF.
func (d *Data) Next() ([]byte, error) {
	for !d.done {
		if d.r.r == d.r.w || d.undecided() {
			if err := d.r.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		if chunk := d.convert(); len(chunk) > 0 {
			return chunk, nil
		}
	}
	return nil, io.EOF
}

// undecided tells whether the unread bytes are too few to go on with: a dot
// or CRs whose meaning depends on what follows.
func (d *Data) undecided() bool {
	b := d.r.buf[d.r.r:d.r.w]
	if !d.midLine && b[0] == '.' {
		b = b[1:]
	}
	return len(b) <= maxHeldCR && len(trimCR(b, maxHeldCR+1)) == 0
}

// convert rewrites the unread bytes in place, as far as they are decided.
func (d *Data) convert() []byte {
	r := d.r
	start, out := r.r, r.r
	for r.r < r.w && !d.done {
		if d.undecided() {
			break
		}
		pos := r.r
		dot := !d.midLine && r.buf[pos] == '.'
		if dot {
			pos++
		}
		i := bytes.IndexByte(r.buf[pos:r.w], '\n')
		if i < 0 {
			text := trimCR(r.buf[pos:r.w], maxHeldCR)
			out += copy(r.buf[out:], text)
			r.r = pos + len(text)
			d.Size += int64(len(text))
			d.midLine = true
			break
		}
		text, bare := d.trim(r.buf[pos : pos+i])
		r.r = pos + i + 1
		d.Lines++
		if bare {
			d.BareLF++
		}
		odd := d.policy == Strict && (bare || d.prevBare)
		d.prevBare = bare
		if dot && len(text) == 0 {
			d.done = !odd
			continue
		}
		out += copy(r.buf[out:], text)
		r.buf[out] = '\n'
		out++
		d.Size += int64(len(text)) + 2
		d.midLine = false
	}
	return r.buf[start:out]
}

// trim removes the CR of a line end: one, or all of them when lenient.
func (d *Data) trim(line []byte) (text []byte, bare bool) {
	bare = !bytes.HasSuffix(line, []byte{'\r'})
	if d.policy == Lenient {
		return bytes.TrimRight(line, "\r"), bare
	}
	return bytes.TrimSuffix(line, []byte{'\r'}), bare
}

// trimCR removes up to most CRs from the end.
func trimCR(b []byte, most int) []byte {
	for n := 0; n < most && len(b) > 0 && b[len(b)-1] == '\r'; n++ {
		b = b[:len(b)-1]
	}
	return b
}

// Chunks converts the content of BDAT chunks (RFC 3030). Lines may span
// chunks; no dots are removed.
type Chunks struct {
	BareLF int   // lines that ended in LF without CR
	Size   int64 // bytes so far, lines counted as ended by CRLF

	r       *Reader
	left    int64
	midLine bool
	cr      bool // a CR at the end of the last chunk is held back
}

// Chunks starts reading the chunks of one message.
func (r *Reader) Chunks() *Chunks { return &Chunks{r: r} }

// Begin starts a chunk of n bytes; Next returns its content.
func (c *Chunks) Begin(n int64) {
	c.left = n
	if n > 0 {
		if c.r.buf == nil {
			c.r.shrink()
		}
		c.r.enlarge()
	}
}

// MidLine reports whether the content so far ends inside a line.
func (c *Chunks) MidLine() bool { return c.midLine || c.cr }

// Next returns more content of the current chunk, lines ended by LF, valid
// until the next call; io.EOF at the end of the chunk.
func (c *Chunks) Next() ([]byte, error) {
	r := c.r
	for c.left > 0 {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		n := int(min(c.left, int64(r.w-r.r)))
		raw := r.buf[r.r : r.r+n]
		r.r += n
		c.left -= int64(n)
		if chunk := c.convert(raw); len(chunk) > 0 {
			return chunk, nil
		}
	}
	return nil, io.EOF
}

// Finish ends an incomplete last line; the bytes belong to the content.
func (c *Chunks) Finish() []byte {
	if !c.MidLine() {
		return nil
	}
	end := "\n"
	if c.cr {
		end = "\r\n"
	}
	c.Size += int64(len(end)) + 1
	c.midLine, c.cr = false, false
	return []byte(end)
}

// convert rewrites raw in place; a CR held back may need one byte more.
func (c *Chunks) convert(raw []byte) []byte {
	if c.cr {
		c.cr = false
		if raw[0] != '\n' {
			raw = append([]byte{'\r'}, raw...)
		} else {
			c.BareLF-- // counted below although its CR was there
		}
	}
	out := 0
	for pos := 0; pos < len(raw); {
		i := bytes.IndexByte(raw[pos:], '\n')
		if i < 0 {
			text := raw[pos:]
			if text[len(text)-1] == '\r' {
				text, c.cr = text[:len(text)-1], true
			}
			out += copy(raw[out:], text)
			c.Size += int64(len(text))
			c.midLine = c.midLine || len(text) > 0
			break
		}
		text := raw[pos : pos+i]
		if bytes.HasSuffix(text, []byte{'\r'}) {
			text = text[:i-1]
		} else {
			c.BareLF++
		}
		out += copy(raw[out:], text)
		raw[out] = '\n'
		out++
		c.Size += int64(len(text)) + 2
		c.midLine = false
		pos += i + 1
	}
	return raw[:out]
}
