package smtp

import (
	"bufio"
	"errors"
	"io"
)

// sendContent writes a message with lines ended by LF as SMTP wants it: CRLF
// line ends, dots at line starts doubled (RFC 5321 §4.5.2), and lines longer
// than limit bytes broken with CRLF and a blank (postconf(5)
// smtp_line_length_limit; 0 for no limit). It does not send the final dot.
func sendContent(w *bufio.Writer, r io.Reader, limit int) error {
	in := bufio.NewReaderSize(r, writeBuffer)
	column := 0 // bytes of the current line that were sent
	for {
		part, err := in.ReadSlice('\n')
		if len(part) > 0 {
			ended := part[len(part)-1] == '\n'
			if ended {
				part = part[:len(part)-1]
			}
			if column = writeLine(w, part, column, limit); ended {
				w.WriteString("\r\n")
				column = 0
			}
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if column > 0 {
				w.WriteString("\r\n")
			}
			return nil
		default:
			return contentError{err}
		}
	}
}

// contentError is trouble with our own copy of the message.
type contentError struct{ error }

func (e contentError) Unwrap() error { return e.error }

// writeLine writes part of a line that starts at the given column and returns
// the column behind it.
func writeLine(w *bufio.Writer, part []byte, column, limit int) int {
	if column == 0 && len(part) > 0 && part[0] == '.' {
		w.WriteByte('.')
	}
	for limit > 0 && column+len(part) > limit {
		n := limit - column
		w.Write(part[:n])
		w.WriteString("\r\n ")
		part, column = part[n:], 1
	}
	w.Write(part)
	return column + len(part)
}
