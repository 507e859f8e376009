package smtpproto

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"posthaste/internal/mail/envelope"
)

func TestReadLine(t *testing.T) {
	t.Parallel()
	r := NewReader(strings.NewReader("one\r\ntwo\n\r\nth\rree\r\r\n" + strings.Repeat("x", 30) + "\r\nlast\r\npart"))
	want := []Line{
		{Text: []byte("one")}, {Text: []byte("two"), BareLF: true}, {Text: nil}, {Text: []byte("th\rree\r")},
		{Text: []byte(strings.Repeat("x", 20)), Truncated: true}, {Text: []byte("last")},
	}
	for i, w := range want {
		got, err := r.ReadLine(20)
		if err != nil {
			t.Fatal(i, err)
		}
		if string(got.Text) != string(w.Text) || got.BareLF != w.BareLF || got.Truncated != w.Truncated {
			t.Errorf("%d: got %q %v %v, want %q", i, got.Text, got.BareLF, got.Truncated, w.Text)
		}
	}
	if _, err := r.ReadLine(20); err != io.ErrUnexpectedEOF {
		t.Errorf("half a line: %v", err)
	}
	r = NewReader(strings.NewReader(""))
	if _, err := r.ReadLine(20); err != io.EOF {
		t.Errorf("nothing: %v", err)
	}
}

// endless never ends a line.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.n += len(p)
	return len(p), nil
}

func TestEndlessLine(t *testing.T) {
	t.Parallel()
	var e endless
	r := NewReader(&e)
	if _, err := r.ReadLine(2048); !errors.Is(err, ErrEndless) {
		t.Fatal(err)
	}
	if e.n > 2048+MaxDiscard+2*smallBuffer {
		t.Errorf("read %d bytes of an endless line", e.n)
	}
	// A limit above the buffer size works, and is kept to.
	long := strings.Repeat("y", 10000)
	r = NewReader(strings.NewReader(long + "\r\n" + long + "zz\r\nnext\r\n"))
	for i, truncated := range []bool{false, true} {
		line, err := r.ReadLine(10000)
		if err != nil || string(line.Text) != long || line.Truncated != truncated {
			t.Errorf("%d: %d bytes, truncated %v, %v", i, len(line.Text), line.Truncated, err)
		}
	}
	if line, err := r.ReadLine(100); err != nil || string(line.Text) != "next" {
		t.Errorf("after a long line: %q %v", line.Text, err)
	}
}

func readData(src io.Reader, policy Newline) (string, *Data, *Reader, error) {
	r := NewReader(src)
	d := r.Data(policy)
	var b strings.Builder
	for {
		chunk, err := d.Next()
		b.Write(chunk)
		if err != nil {
			return b.String(), d, r, err
		}
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		policy   Newline
		want     string
		rest     string
		bare     int
	}{
		{"plain", "a\r\nb\r\n.\r\nQUIT\r\n", Strict, "a\nb\n", "QUIT\r\n", 0},
		{"empty", ".\r\n", Strict, "", "", 0},
		{"dots", "..one\r\n...two\r\n.x\r\n..\r\n.\r\n", Strict, ".one\n..two\nx\n.\n", "", 0},
		{"bare lf", "one\ntwo\n.\nthree\rfour\r\n.\r\n", Strict, "one\ntwo\nthree\rfour\n", "", 3},
		{"lf dot crlf", "before\n.\r\nafter\r\n.\r\n", Strict, "before\nafter\n", "", 1},
		{"crlf dot lf", "before\r\n.\nafter\r\n.\r\n", Strict, "before\nafter\n", "", 1},
		{"two odd dots", "c\r\n.\n.\r\nd\r\n.\r\n", Strict, "c\nd\n", "", 1},
		{"odd dot, then the real one", "c\n.\r\n.\r\n", Strict, "c\n", "", 1},
		{"stray cr", "a\r\r\nb\r\r\r\n.\r\r\nc\r\n.\r\n", Strict, "a\r\nb\r\r\n\r\nc\n", "", 0},
		{"lenient lf", "one\n.\nnext\r\n", Lenient, "one\n", "next\r\n", 2},
		{"lenient crs", "one\r\r\n.\r\r\nnext", Lenient, "one\n", "next", 0},
		{"nul and 8 bit", "\x00\xff\r\n.\r\n", Strict, "\x00\xff\n", "", 0},
	}
	for _, tt := range tests {
		for _, src := range []io.Reader{
			strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in)), iotest.HalfReader(strings.NewReader(tt.in)),
		} {
			got, d, r, err := readData(src, tt.policy)
			if err != io.EOF || got != tt.want || d.BareLF != tt.bare {
				t.Errorf("%s: %q, %d bare, %v; want %q", tt.name, got, d.BareLF, err, tt.want)
			}
			rest, _ := io.ReadAll(io.MultiReader(bytes.NewReader(bytes.Clone(r.Buffered())), src))
			if string(rest) != tt.rest {
				t.Errorf("%s: left %q, want %q", tt.name, rest, tt.rest)
			}
			if want := int64(len(tt.want) + strings.Count(tt.want, "\n")); d.Size != want {
				t.Errorf("%s: size %d, want %d", tt.name, d.Size, want)
			}
		}
	}
	for _, in := range []string{"", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "."} {
		if _, _, _, err := readData(strings.NewReader(in), Strict); err != io.ErrUnexpectedEOF {
			t.Errorf("cut off at %q: %v", in, err)
		}
	}
}

// A line of CRs alone must not stop the reader, however long.
func TestManyCRs(t *testing.T) {
	t.Parallel()
	in := strings.Repeat("\r", 300000)
	got, _, _, err := readData(strings.NewReader(in+"\n.\r\n"), Strict)
	if err != io.EOF || got != in[1:]+"\n" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		chunks []string
		want   string
		bare   int
		size   int64
	}{
		{[]string{"Subject: one\r\n\r\nhi\r\n\r\n"}, "Subject: one\n\nhi\n\n", 0, 22},
		{[]string{"Subject: two\r\n", "\r\n.dot\r\n"}, "Subject: two\n\n.dot\n", 0, 22},
		{[]string{"Subject: x\r\n\r\nend"}, "Subject: x\n\nend\n", 0, 19},
		{[]string{"a\r", "\nb\r", "c\r"}, "a\nb\rc\r\n", 0, 9},
		{[]string{"a\n\r", "\n"}, "a\n\n", 1, 5},
		{[]string{}, "", 0, 0},
	}
	for i, tt := range tests {
		for _, one := range []bool{false, true} {
			var src io.Reader = strings.NewReader(strings.Join(tt.chunks, ""))
			if one {
				src = iotest.OneByteReader(src)
			}
			c := NewReader(src).Chunks()
			var b strings.Builder
			for _, chunk := range tt.chunks {
				c.Begin(int64(len(chunk)))
				for {
					p, err := c.Next()
					b.Write(p)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			b.Write(c.Finish())
			if b.String() != tt.want || c.BareLF != tt.bare || c.Size != tt.size {
				t.Errorf("%d: %q, %d bare, %d bytes; want %q, %d, %d", i, b.String(), c.BareLF, c.Size, tt.want, tt.bare, tt.size)
			}
		}
	}
	c := NewReader(strings.NewReader("abc")).Chunks()
	c.Begin(5)
	_, _ = c.Next()
	if _, err := c.Next(); err != io.ErrUnexpectedEOF {
		t.Errorf("cut off: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"", ""},
		{"  NOOP  x ", "NOOP|x"},
		{"MAIL FROM:<a@b> SIZE=1", "MAIL|FROM:|<a@b>|SIZE=1"},
		{"MAIL FROM: <a@b>", "MAIL|FROM:|<a@b>"},
		{"MAIL FROM :<a@b>", "MAIL|FROM|:<a@b>"},
		{`rcpt to:"a b"@c NOTIFY=NEVER`, `rcpt|to:|"a b"@c|NOTIFY=NEVER`},
		{`RCPT TO:al\ ice@x`, `RCPT|TO:|al\ ice@x`},
		{"MAIL FROM:<A B <a@b>>", "MAIL|FROM:|<A B <a@b>>"},
		{"MAIL FROM:<a@b", "MAIL|FROM:|<a@b!"},
		{`MAIL FROM:<"a>b"@c>`, `MAIL|FROM:|<"a>b"@c>`},
		{"Subject: x", "Subject:|x"},
	}
	for _, tt := range tests {
		var got []string
		for _, tok := range Tokens(tt.in) {
			if tok.Bad {
				tok.Text += "!"
			}
			got = append(got, tok.Text)
		}
		if g := strings.Join(got, "|"); g != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, g, tt.want)
		}
	}
}

func TestIsHeader(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"Subject:": true, "X-A:b": true, "GET": false, ":": false, "a\x01b:": false, "": false} {
		if IsHeader(in) != want {
			t.Errorf("%q: %v", in, !want)
		}
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, want string
		strict   bool
		bad      bool
	}{
		{"<>", "", true, false},
		{"< >", "", true, false},
		{"<a@b.example>", "a@b.example", true, false},
		{"a@b.example", "a@b.example", false, false},
		{"a@b.example>", "a@b.example", false, false},
		{"<a@b.example>x", "", false, true},
		{"<a b@c.example>", "", false, true},
		{"<a,b@c.example>", "", false, true},
		{"<a@c.example;b>", "", false, true},
		{"<foo:a@foo.example;>", "a@foo.example", false, false},
		{"<<a@c.example>>", "a@c.example", true, false},
		{"<A B <a@c.example>>", "a@c.example", false, false},
		{"<@a.example,@b.example:u@c.example>", "u@c.example", true, false},
		{"<@x:>", "", true, false},
		{"<@x>", "@x", true, false},
		{`<"u@far.example"@example.com>`, "u@far.example@example.com", true, false},
		{`<"al ice"@example.com>`, "al ice@example.com", true, false},
		{`<al\ ice@example.com>`, "al ice@example.com", true, false},
		{`<"quo\"ted@x"@c.example>`, `quo"ted@x@c.example`, true, false},
		{`<"a"b@foo.com>`, "", false, true},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]", true, false},
		{"<a@b.example (comment)>", "a@b.example", false, false},
		{"<a@b@c>", "a@b@c", true, false},
		{`<""@example.com>`, "@example.com", true, false},
		{"alice foo", "", false, true},
	}
	for _, tt := range tests {
		p, err := ParsePath(tt.in)
		if (err != nil) != tt.bad || (!tt.bad && (string(p.Address) != tt.want || p.Strict != tt.strict)) {
			t.Errorf("%s: %q strict %v, %v; want %q strict %v bad %v", tt.in, p.Address, p.Strict, err, tt.want, tt.strict, tt.bad)
		}
	}
}

func TestXtext(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"env+2Bid": "env+id", "plain": "plain", "": "", "+c3+a9": "é"} {
		if got, err := DecodeXtext(in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	for _, in := range []string{"a+zz", "a+", "a+2", "a+00", "+00"} {
		if got, err := DecodeXtext(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := EncodeXtext("a b+c=é"); got != "a+20b+2Bc+3D+C3+A9" {
		t.Error(got)
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"NEVER", "SUCCESS", "SUCCESS,FAILURE,DELAY"} {
		set, err := ParseNotify(strings.ToLower(in))
		if err != nil || FormatNotify(set) != in {
			t.Errorf("%q: %v %v", in, set, err)
		}
	}
	for _, in := range []string{"", "NEVER,SUCCESS", "WHENEVER", "SUCCESS,", ",DELAY"} {
		if set, err := ParseNotify(in); err == nil {
			t.Errorf("%q: %v", in, set)
		}
	}
	if r, err := ParseReturn("hdrs"); err != nil || r != envelope.ReturnHeaders || FormatReturn(r) != "HDRS" {
		t.Error(r, err)
	}
	if _, err := ParseReturn("NEITHER"); err == nil {
		t.Error("RET=NEITHER")
	}
}

func TestReply(t *testing.T) {
	t.Parallel()
	r := NewReader(strings.NewReader("250-mail.example\r\n250-SIZE 1\r\n250 DSN\r\n550-5.7.1 first\r\n550 5.7.1 last\r\n220\r\nnonsense\r\n"))
	first, err := ReadReply(r, 100)
	if err != nil || first.Code != 250 || strings.Join(first.Lines, "|") != "mail.example|SIZE 1|DSN" {
		t.Errorf("%+v %v", first, err)
	}
	second, err := ReadReply(r, 100)
	if err != nil || second.Enhanced != "5.7.1" || second.String() != "550 5.7.1 first 5.7.1 last" || second.Status().Reply() != "550 5.7.1 first 5.7.1 last" {
		t.Errorf("%+v %v %v", second, second.Status(), err)
	}
	if third, err := ReadReply(r, 100); err != nil || third.Code != 220 || third.Enhanced != "" {
		t.Errorf("%+v %v", third, err)
	}
	if _, err := ReadReply(r, 100); !errors.Is(err, ErrSyntax) {
		t.Error(err)
	}
	flood := NewReader(strings.NewReader(strings.Repeat("250-x\r\n", 2000)))
	if _, err := ReadReply(flood, 100); !errors.Is(err, ErrEndless) {
		t.Error(err)
	}
	if got := string(AppendReply(nil, "250", []string{"a\r\n550 no", "b"})); got != "250-a??550 no\r\n250 b\r\n" {
		t.Errorf("%q", got)
	}
}

func writeData(text string, step, maxLine int) string {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	w := NewDataWriter(out, maxLine)
	for i := 0; i < len(text); i += step {
		_, _ = w.Write([]byte(text[i:min(i+step, len(text))]))
	}
	_ = w.Close()
	_ = out.Flush()
	return b.String()
}

func TestDataWriter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in      string
		maxLine int
		want    string
	}{
		{"a\n.b\n..\n", 0, "a\r\n..b\r\n...\r\n.\r\n"},
		{"no end", 0, "no end\r\n.\r\n"},
		{"", 0, ".\r\n"},
		{"a\rb\r\nc\r", 0, "a b\r\nc \r\n.\r\n"},
		{"\r.\r\n", 0, " .\r\n.\r\n"},
		{"abcdefghij\n", 4, "abcd\r\n efg\r\n hij\r\n.\r\n"},
		{"abcd\n", 4, "abcd\r\n.\r\n"},
	}
	for _, tt := range tests {
		for step := 1; step < 4; step++ {
			if got := writeData(tt.in, step, tt.maxLine); got != tt.want {
				t.Errorf("%q by %d: %q, want %q", tt.in, step, got, tt.want)
			}
		}
	}
}

// What is written is read back as one message, whatever it was.
func FuzzDataRoundTrip(f *testing.F) {
	for _, s := range []string{"", ".", "a\n.\nb", "\r\n.\r\n", "a\r", "\n.\r\nMAIL FROM:<>\r\n", "..\n.\r\r\n"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, step int) {
		if step <= 0 {
			step = 1
		}
		wire := writeData(text, step, 0)
		if i := strings.Index(wire, "\r\n.\r\n"); i >= 0 && i != len(wire)-5 {
			t.Fatalf("%q: ends early in %q", text, wire)
		}
		if bare := strings.ReplaceAll(wire, "\r\n", ""); strings.ContainsAny(bare, "\r\n") {
			t.Fatalf("%q: bare CR or LF in %q", text, wire)
		}
		var got [2]string
		for i, policy := range []Newline{Strict, Lenient} {
			var d *Data
			var r *Reader
			var err error
			got[i], d, r, err = readData(iotest.HalfReader(strings.NewReader(wire)), policy)
			if err != io.EOF || len(r.Buffered()) > 0 || d.BareLF > 0 {
				t.Fatalf("%q: %v, %d left, %d bare", text, err, len(r.Buffered()), d.BareLF)
			}
		}
		if got[0] != got[1] {
			t.Fatalf("%q: strict %q, lenient %q", text, got[0], got[1])
		}
	})
}

// Reading gives the same however the bytes arrive.
func FuzzData(f *testing.F) {
	for _, s := range []string{".\r\n", "a\r\n.\r\nb", "\r\r\n.\r\r\n", "x\n.\n", "..\r\n.\n.\r\n", "\r", ".\r"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, wire string, strict bool) {
		policy := Lenient
		if strict {
			policy = Strict
		}
		a, da, _, errA := readData(strings.NewReader(wire), policy)
		b, db, _, errB := readData(iotest.OneByteReader(strings.NewReader(wire)), policy)
		if errA != errB {
			t.Fatalf("%q: %v and %v", wire, errA, errB)
		}
		if errA == io.EOF && (a != b || da.Size != db.Size || da.BareLF != db.BareLF) {
			t.Fatalf("%q: %q %d and %q %d", wire, a, da.Size, b, db.Size)
		}
	})
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a@b> SIZE=1", `RCPT TO:"a\`, "<<>", "[(\"", "MAIL FROM:<@a,@b:c@d>", "a:b;c,<d>(e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		tokens := Tokens(line)
		for _, tok := range tokens {
			if tok.Text == "" {
				t.Fatalf("%q: empty word in %v", line, tokens)
			}
			_, _ = ParsePath(tok.Text)
			_ = IsHeader(tok.Text)
			_, _ = ParseNotify(tok.Text)
			if text, err := DecodeXtext(tok.Text); err == nil {
				if again, err := DecodeXtext(EncodeXtext(text)); err != nil || again != text {
					t.Fatalf("%q: xtext %q becomes %q, %v", line, text, again, err)
				}
			}
		}
		_ = JoinTokens(tokens)
	})
}

func FuzzReply(f *testing.F) {
	f.Add("250-a\r\n250 b\r\n")
	f.Add("999 x\n250")
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader(iotest.OneByteReader(strings.NewReader(text)))
		reply, err := ReadReply(r, 512)
		if err == nil && (reply.Code < 200 || reply.Code > 599) {
			t.Fatalf("%q: %+v", text, reply)
		}
		_ = reply.Status().Reply()
	})
}

func BenchmarkData(b *testing.B) {
	line := strings.Repeat("The quick brown fox jumps over the dog. ", 2) + "\r\n"
	message := strings.Repeat(line, 1<<20/len(line)) + ".\r\n"
	b.SetBytes(int64(len(message)))
	src := strings.NewReader(message)
	r := NewReader(src)
	for b.Loop() {
		src.Reset(message)
		r.Reset(src)
		d := r.Data(Strict)
		for {
			if _, err := d.Next(); err != nil {
				break
			}
		}
	}
}
