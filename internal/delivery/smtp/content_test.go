package smtp

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

func send(t testing.TB, text string, limit int) string {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	if err := sendContent(w, strings.NewReader(text), limit); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	return out.String()
}

func TestSendContent(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                 "",
		"a\nb\n":           "a\r\nb\r\n",
		".\n..\n.a":        "..\r\n...\r\n..a\r\n",
		"no newline":       "no newline\r\n",
		"\n\n":             "\r\n\r\n",
		"12345678901\nx\n": "1234567890\r\n 1\r\nx\r\n",
		"1234567890\n":     "1234567890\r\n",
	} {
		if got := send(t, in, 10); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	long := strings.Repeat("x", 3*writeBuffer)
	if got := send(t, "."+long+"\ny\n", 0); got != ".."+long+"\r\ny\r\n" {
		t.Error("a long line without limit is changed")
	}
}

func FuzzSendContent(f *testing.F) {
	f.Add("a\n.\nb", 5)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = min(max(limit, 2), 100)
		out := send(t, text, limit)
		for i, line := range strings.Split(strings.TrimSuffix(out, "\r\n"), "\r\n") {
			if line == "." {
				t.Fatalf("line %d ends the message early: %q", i, out)
			}
			if len(line) > limit+1 {
				t.Fatalf("line %d has %d bytes, limit %d", i, len(line), limit)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add("250-a\r\n250 b\r\n")
	f.Add("250 \xff\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := &conn{in: bufio.NewReader(strings.NewReader(text)), out: bufio.NewWriter(io.Discard)}
		r, err := c.receive()
		if err == nil && (r.code < 200 || r.code > 599 || len(r.lines) == 0) {
			t.Errorf("accepted as reply: %+v", r)
		}
		if err == nil {
			parseFeatures(r.lines, "")
			r.status()
		}
	})
}

func BenchmarkSendContent(b *testing.B) {
	text := strings.Repeat(strings.Repeat("x", 70)+"\n", 60)
	b.SetBytes(int64(len(text)))
	w := bufio.NewWriterSize(io.Discard, writeBuffer)
	for b.Loop() {
		sendContent(w, strings.NewReader(text), 998)
	}
}
