package smtpproto

import (
	"bufio"
	"bytes"
)

// DataWriter turns content with LF line ends into the stream that follows a
// DATA command: CRLF line ends, doubled dots, and the final dot on Close. What
// it writes holds no CR or LF but in CRLF, whatever it is given: a stray CR
// becomes a blank.
type DataWriter struct {
	out     *bufio.Writer
	maxLine int
	column  int  // bytes of the current line
	cr      bool // a CR was seen and not decided
}

// NewDataWriter writes to out; flushing it is the caller's business. Lines are
// broken after maxLine bytes with CRLF and a blank (postconf(5)
// smtp_line_length_limit); 0 for no limit.
func NewDataWriter(out *bufio.Writer, maxLine int) *DataWriter {
	return &DataWriter{out: out, maxLine: maxLine}
}

// Write takes more content; lines may span calls.
func (w *DataWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			return n, w.text(p)
		}
		if err := w.text(p[:i]); err != nil {
			return 0, err
		}
		if err := w.endLine(); err != nil {
			return 0, err
		}
		p = p[i+1:]
	}
	return n, nil
}

// endLine writes CRLF; a CR just before the LF was part of the line end.
func (w *DataWriter) endLine() error {
	w.cr, w.column = false, 0
	_, err := w.out.WriteString("\r\n")
	return err
}

// text writes part of a line.
func (w *DataWriter) text(p []byte) error {
	for len(p) > 0 {
		part := p
		if i := bytes.IndexByte(p, '\r'); i >= 0 {
			part = p[:i]
		}
		if w.cr {
			w.cr = false
			if err := w.plain([]byte{' '}); err != nil {
				return err
			}
		}
		if err := w.plain(part); err != nil {
			return err
		}
		p = p[len(part):]
		if len(p) > 0 {
			w.cr = true
			p = p[1:]
		}
	}
	return nil
}

// plain writes part of a line without CR or LF.
func (w *DataWriter) plain(p []byte) error {
	for len(p) > 0 {
		if w.column == 0 && p[0] == '.' {
			if err := w.out.WriteByte('.'); err != nil {
				return err
			}
		}
		part := p
		if w.maxLine > 0 && w.column+len(part) > w.maxLine {
			part = part[:max(w.maxLine-w.column, 0)]
		}
		if _, err := w.out.Write(part); err != nil {
			return err
		}
		w.column += len(part)
		if p = p[len(part):]; len(p) > 0 {
			if _, err := w.out.WriteString("\r\n "); err != nil {
				return err
			}
			w.column = 1
		}
	}
	return nil
}

// Close ends an incomplete last line and writes the final dot.
func (w *DataWriter) Close() error {
	if w.cr {
		w.cr = false
		if err := w.plain([]byte{' '}); err != nil {
			return err
		}
	}
	if w.column > 0 {
		if err := w.endLine(); err != nil {
			return err
		}
	}
	_, err := w.out.WriteString(".\r\n")
	return err
}
