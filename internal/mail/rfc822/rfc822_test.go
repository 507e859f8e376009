package rfc822

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected results in testdata")

// recorder writes events as text and puts the message together again.
type recorder struct {
	log     strings.Builder
	message bytes.Buffer
	body    bytes.Buffer
	lines   bool
}

func (r *recorder) flushBody() {
	if r.body.Len() > 0 && !r.lines {
		fmt.Fprintf(&r.log, "body %q\n", r.body.String())
	}
	r.body.Reset()
}

func (r *recorder) Header(class Class, field Known, text []byte) {
	r.flushBody()
	fmt.Fprintf(&r.log, "%s %s %q\n", [...]string{"header", "part", "nested"}[class], field.Name(), text)
	r.message.Write(text)
	r.message.WriteByte('\n')
}

func (r *recorder) EndOfHeader(bad []byte) {
	r.flushBody()
	fmt.Fprintf(&r.log, "end of header %q\n", bad)
}

func (r *recorder) Body(text []byte, offset int) {
	if r.lines {
		fmt.Fprintf(&r.log, "body %d %q\n", offset, text)
	}
	r.body.Write(text)
	r.message.Write(text)
}

func (r *recorder) Defect(p Problem, text []byte) {
	r.flushBody()
	fmt.Fprintf(&r.log, "defect %d %q\n", p, text)
}

func walk(o Options, message string, piece int) *recorder {
	r := &recorder{lines: o.Lines}
	w := NewWalker(o, r)
	for len(message) > piece {
		w.Write([]byte(message[:piece]))
		message = message[piece:]
	}
	w.Write([]byte(message))
	w.Close()
	r.flushBody()
	return r
}

func testOptions(mode string) Options {
	o := Options{LineLimit: 40, HeaderLimit: 100, MaxBoundary: 10, Nesting: 3, Parts: true}
	if mode == "strict" {
		o.Report = ^Problem(0)
	}
	o.Lines = mode == "lines"
	o.NoMIME = mode == "nomime"
	return o
}

// TestWalk runs testdata/walk/MODE-NAME.txt: a message, "----", its events.
func TestWalk(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/walk/*.txt")
	if len(files) < 5 {
		t.Fatalf("%d scripts", len(files))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		message, want, _ := strings.Cut(string(data), "----\n")
		mode, _, _ := strings.Cut(filepath.Base(file), "-")
		got := walk(testOptions(mode), message, 1<<20).log.String()
		if *update {
			if err := os.WriteFile(file, []byte(message+"----\n"+got), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if got != want {
			t.Errorf("%s:\n got\n%s\nwant\n%s", file, got, want)
		}
		for _, piece := range []int{1, 2, 7, 41} {
			if again := walk(testOptions(mode), message, piece).log.String(); again != got {
				t.Errorf("%s in pieces of %d:\n%s\nas a whole:\n%s", file, piece, again, got)
			}
		}
	}
}

func FuzzWalk(f *testing.F) {
	files, _ := filepath.Glob("testdata/walk/*.txt")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		message, _, _ := strings.Cut(string(data), "----\n")
		f.Add(message, uint8(3), uint8(0))
	}
	f.Fuzz(func(t *testing.T, message string, piece, mode uint8) {
		o := testOptions([]string{"plain", "strict", "lines", "nomime"}[mode%4])
		o.HeaderLimit = 1 << 20
		whole := walk(o, message, 1<<20)
		if parts := walk(o, message, int(piece)+1); parts.log.String() != whole.log.String() {
			t.Fatalf("pieces of %d\n%s\nwhole\n%s", int(piece)+1, parts.log.String(), whole.log.String())
		}
		// Nothing is lost: apart from white space in front of colons, of
		// blank lines and at the end, all text comes back.
		squeeze := strings.NewReplacer(" ", "", "\t", "", "\n", "")
		if a, b := squeeze.Replace(message), squeeze.Replace(whole.message.String()); a != b {
			t.Fatalf("%q became %q", a, b)
		}
	})
}

func BenchmarkWalkMultipart(b *testing.B) {
	part := "--bound\nContent-Type: text/plain\n\n" + strings.Repeat("Some text that goes on for a while until it stops.\n", 2000)
	message := []byte("Content-Type: multipart/mixed; boundary=bound\n\n" + strings.Repeat(part, 5) + "--bound--\n")
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		w := NewWalker(Options{LineLimit: 2048, HeaderLimit: 100000, MaxBoundary: 2048, Nesting: 100, Parts: true}, &discard{})
		w.Write(message)
		w.Close()
	}
}

type discard struct{}

func (discard) Header(Class, Known, []byte) {}
func (discard) EndOfHeader([]byte)          {}
func (discard) Body([]byte, int)            {}
func (discard) Defect(Problem, []byte)      {}

func TestFieldName(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"Subject: x": 7, "Subject : x": 7, "a:": 1, ":x": 0, " a: b": 0, "a b: c": 0, "a": 0, "": 0, "é: x": 0, "a\x01: x": 0, "a \t:": 1,
	} {
		if got, _ := FieldName([]byte(line)); got != want {
			t.Errorf("FieldName(%q) = %d, want %d", line, got, want)
		}
	}
	for name, want := range map[string]Known{"message-ID": MessageID, "TO": To, "Tx": None, "": None, "Content-Length": ContentLength, "\x14o": None} {
		if got := Lookup([]byte(name)); got != want {
			t.Errorf("Lookup(%q) = %v", name, got)
		}
	}
	if got := string(Value([]byte("Message-Id:\n <a@b> \t"))); got != "<a@b>" {
		t.Errorf("Value = %q", got)
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 5, 9, 8, 7, 0, time.FixedZone("EST", -5*3600))
	if got := FormatDate(at); got != "Thu, 05 Mar 2026 09:08:07 -0500 (EST)" {
		t.Error(got)
	}
	if got := FormatDate(at.In(time.FixedZone("", 5400))); got != "Thu, 05 Mar 2026 15:38:07 +0130" {
		t.Error(got)
	}
	if got := Ctime(at); got != "Thu Mar  5 09:08:07 2026" {
		t.Error(got)
	}
	if got := NewMessageID(at, "A1B2", "mail.example.com", false); got != "20260305140807.A1B2@mail.example.com" {
		t.Error(got)
	}
}

func TestFoldList(t *testing.T) {
	t.Parallel()
	got := string(FoldList("To", []string{"a very long name <aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.com>,",
		"another very long name <bbbbbbbbbbbbbbbbbbbbbbbbbbbbb@example.com>,", "c@example.com,", "d@example.com,", "e@example.com"}))
	want := "To: a very long name <aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.com>,\n" +
		"\tanother very long name <bbbbbbbbbbbbbbbbbbbbbbbbbbbbb@example.com>,\n\tc@example.com, d@example.com, e@example.com"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
