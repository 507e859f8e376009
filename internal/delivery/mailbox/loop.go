package mailbox

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"posthaste/internal/mail/addr"
)

// maxDelivered bounds the Delivered-To headers that are remembered.
const maxDelivered = 1000

// Delivered are the addresses that a message was delivered to before, by its
// Delivered-To headers.
type Delivered map[string]bool

// ReadDelivered reads the header of a message. Reading trouble is an error:
// a loop that is not seen goes on.
func ReadDelivered(content io.Reader) (Delivered, error) {
	in := bufio.NewReaderSize(content, maxLine)
	seen := Delivered{}
	value, collecting := "", false
	keep := func() {
		if collecting && len(seen) < maxDelivered {
			seen[addr.Fold(strings.TrimSpace(value))] = true
		}
		collecting = false
	}
	for first := true; ; first = false {
		line, err := readLine(in)
		if len(line) == 0 || (!isHeader(line) && !isContinuation(line) && !(first && bytes.HasPrefix(line, []byte("From ")))) {
			keep()
			if err == io.EOF {
				err = nil
			}
			return seen, err
		}
		if isContinuation(line) {
			if collecting && len(value) < maxLine {
				value += " " + string(line)
			}
		} else {
			keep()
			name, body, _ := bytes.Cut(line, []byte(":"))
			collecting = strings.EqualFold(string(bytes.TrimRight(name, " \t")), "Delivered-To")
			value = string(body)
		}
		if err != nil {
			keep()
			if err == io.EOF {
				err = nil
			}
			return seen, err
		}
	}
}

// readLine reads a line without its end; of a very long one, the beginning.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		line = bytes.Clone(line)
		for err == bufio.ErrBufferFull {
			_, err = in.ReadSlice('\n')
		}
	}
	return bytes.TrimSuffix(line, []byte("\n")), err
}

func isContinuation(line []byte) bool { return line[0] == ' ' || line[0] == '\t' }

// isHeader reports a field name followed by a colon (RFC 5322 §2.2, and white
// space before the colon as in old mail).
func isHeader(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	if !ok || len(name) == 0 {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// Has reports whether the message was delivered to the address before.
func (d Delivered) Has(a addr.Address) bool { return d[addr.Fold(a.External())] }
