package queuefile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
)

// The files in testdata were written by Postfix 3.7.11 of Debian 12.
func TestReadPostfix(t *testing.T) {
	t.Parallel()
	names, _ := filepath.Glob("testdata/*.postcat")
	if len(names) < 7 {
		t.Fatal("no test data")
	}
	for _, name := range names {
		data, err := os.ReadFile(strings.TrimSuffix(name, ".postcat"))
		if err != nil {
			t.Fatal(err)
		}
		env, layout, err := Read(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if layout.End != int64(len(data)) {
			t.Errorf("%s: end at %d of %d", name, layout.End, len(data))
		}
		if len(env.Recipients) != int(layout.Size.Recipients) {
			t.Errorf("%s: %d recipients, not %d", name, len(env.Recipients), layout.Size.Recipients)
		}
		checkRewrite(t, name, data, env, layout)
	}
}

// checkRewrite writes the same message and expects the same bytes, except for
// what the envelope does not keep.
func checkRewrite(t *testing.T, name string, data []byte, env *envelope.Envelope, layout *Layout) {
	text, err := io.ReadAll(NewText(bytes.NewReader(data), layout.Content))
	if err != nil {
		t.Fatal(err)
	}
	var c Content
	content := c.Finish(c.Append(nil, text))
	if int64(len(content)) != layout.Size.Data {
		t.Errorf("%s: %d bytes of content, not %d", name, len(content), layout.Size.Data)
	}
	h := Header{ID: filepath.Base(strings.TrimSuffix(name, ".postcat")), Base: SizeRecordLen, Created: env.Arrival}
	if layout.Warn > 0 {
		h.Warn = env.Arrival.Add(time.Hour)
	}
	records, place := AppendEnvelope(nil, env, h)
	got := layout.Size.Append(nil)
	got = append(got, records...)
	for i, m := range layout.Recipients {
		if m.Done {
			got[place.Recipients[i].Offset] = Done
		}
	}
	got = Append(got, Message, "")
	got = AppendExtra(append(got, content...), env)
	want := data
	if layout.Traced { // not kept any more
		want = cutRecord(want, Killed)
	}
	want = cutExtraEncoding(want)
	if diff := cmp.Diff(recordsOf(t, want), recordsOf(t, got)); diff != "" {
		t.Errorf("%s (-postfix +ours):\n%s", name, diff)
	}
}

func recordsOf(t *testing.T, data []byte) (lines []string) {
	r := NewReader(bytes.NewReader(data), 0)
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.Type != Size { // offsets move with what is cut out
			lines = append(lines, string(rec.Type)+" "+string(rec.Data))
		}
	}
}

func cutRecord(data []byte, typ byte) []byte {
	r := NewReader(bytes.NewReader(data), 0)
	for {
		rec, err := r.Next()
		if err != nil {
			return data
		}
		if rec.Type == typ {
			return append(append([]byte(nil), data[:rec.Offset]...), data[r.Offset():]...)
		}
	}
}

func cutExtraEncoding(data []byte) []byte {
	tail := Append(Append(nil, Attr, "encoding=8bit"), End, "")
	if head, ok := bytes.CutSuffix(data, tail); ok {
		return Append(append([]byte(nil), head...), End, "")
	}
	return data
}

func write(env *envelope.Envelope, text string) []byte {
	var c Content
	records, _ := AppendEnvelope(nil, env, Header{ID: "5058436", Base: SizeRecordLen})
	content := c.Finish(c.Append(nil, []byte(text)))
	size := SizeRecord{Data: int64(len(content)), DataOffset: SizeRecordLen + int64(len(records)) + 2, Recipients: int64(len(env.Recipients))}
	b := append(size.Append(nil), records...)
	return AppendExtra(append(Append(b, Message, ""), content...), env)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.OneOf(rapid.StringMatching(`[a-z.\n]{0,5}`), rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat("x", rapid.IntRange(2040, 5000).Draw(t, "long"))
		}))).Draw(t, "parts"), "")
		var c Content
		var b []byte
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			b = c.Append(b, []byte(rest[:n]))
			rest = rest[n:]
		}
		b = Append(c.Finish(b), Extra, "")
		r := NewText(bytes.NewReader(b), 0)
		if err := iotest.TestReader(NewText(bytes.NewReader(b), 0), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Seek(int64(len(text)/2), io.SeekStart); err != nil || n != int64(len(text)/2) {
			t.Fatal(n, err)
		}
		half, err := io.ReadAll(r)
		if err != nil || string(half) != text[len(text)/2:] {
			t.Fatalf("%q %v", half, err)
		}
		var all bytes.Buffer
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := r.WriteTo(&all); err != nil || all.String() != text {
			t.Fatalf("%q %v", all.String(), err)
		}
	})
}

func TestEnvelopeRoundTrip(t *testing.T) {
	t.Parallel()
	want := &envelope.Envelope{
		Sender: "a b@example.com", FullName: "Full Name", Return: envelope.ReturnHeaders, EnvID: "x=y", Encoding: envelope.Encoding8bit,
		Verp: "+=", Arrival: time.Unix(1795378010, 861968000), RewriteContext: "remote", Trace: envelope.TraceVerify,
		Filter: "smtp:[1.2.3.4]", Redirect: "r@example.com", Inject: "smtpd",
		Client: envelope.Client{Name: "c.example", ReverseName: "r.example", Address: "2001:db8::1", Port: "25", Helo: "h", Protocol: "ESMTP", ServerAddress: "::1", ServerPort: "25"},
		Login:  envelope.Login{Method: "PLAIN", Username: "u", Sender: "s"},
		Recipients: []envelope.Recipient{{Address: "one@example.com", Original: "1@example.com", ORCPT: "rfc822;1", Notify: envelope.NotifyDelay | envelope.NotifyFailure},
			{Address: "", Notify: envelope.NotifyNever}, {Address: addr.Address(strings.Repeat("x", 300))}},
	}
	want.Origin = envelope.Origin{Client: want.Client, QueueID: "5058436"}
	want.Origin.ServerAddress, want.Origin.ServerPort, want.Origin.ReverseName = "", "", ""
	data := write(want, "hello\n")
	got, layout, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for i, m := range layout.Recipients {
		if data[m.Offset] != Rcpt || m.Done {
			t.Errorf("recipient %d is not at %d", i, m.Offset)
		}
	}
	if string(data[layout.Trace:][:1]) != "A" || !bytes.HasPrefix(data[layout.Trace+2:], []byte("trace_flags=512")) {
		t.Errorf("trace attribute is not at %d", layout.Trace)
	}
}

// A file that is cut anywhere, or has any byte changed, is damaged or is read;
// it never panics and never gives a sender with a line break.
func TestDamage(t *testing.T) {
	t.Parallel()
	data := write(&envelope.Envelope{Sender: "s", Recipients: []envelope.Recipient{{Address: "r"}}, Filter: "f"}, "hello\nworld")
	for n := range data {
		if _, _, err := Read(bytes.NewReader(data[:n])); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for n := range data {
		for _, c := range []byte{0, '\n', 0x7f, 0x80, 0xff, 'E', 'p', 'M', 'R'} {
			other := bytes.Clone(data)
			other[n] = c
			checkReadable(t, other)
		}
	}
}

func checkReadable(t *testing.T, data []byte) {
	env, layout, err := Read(bytes.NewReader(data))
	if err != nil {
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("unexpected error %v", err)
		}
		return
	}
	if strings.ContainsAny(string(env.Sender), "\r\n\x00") {
		t.Fatalf("sender %q", env.Sender)
	}
	if len(layout.Recipients) != len(env.Recipients) {
		t.Fatal("marks do not match recipients")
	}
	if _, err := io.CopyN(io.Discard, NewText(bytes.NewReader(data), layout.Content), 1<<24); err != nil && err != io.EOF && !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
}

func FuzzRead(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.postcat")
	for _, name := range names {
		data, _ := os.ReadFile(strings.TrimSuffix(name, ".postcat"))
		f.Add(data)
	}
	f.Fuzz(checkReadable)
}

func TestPointers(t *testing.T) {
	t.Parallel()
	env := &envelope.Envelope{Sender: "s", Recipients: []envelope.Recipient{{Address: "r"}}}
	var c Content
	content := c.Finish(c.Append(nil, []byte("hello\n")))
	begin := int64(SizeRecordLen + PointerLen + 2)
	extra := AppendExtra(nil, env)
	envAt := begin + int64(len(content)+len(extra))
	b := SizeRecord{Data: int64(len(content)), DataOffset: begin}.Append(nil)
	b = Append(AppendPointer(b, envAt), Message, "")
	b = append(append(b, content...), extra...)
	records, _ := AppendEnvelope(nil, env, Header{ID: "5058436", Base: envAt})
	b = AppendPointer(append(b, records...), begin-2)
	got, layout, err := Read(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if got.Sender != "s" || len(got.Recipients) != 1 || layout.End != int64(len(b)) {
		t.Errorf("%+v %+v", got, layout)
	}
	text, err := io.ReadAll(NewText(bytes.NewReader(b), layout.Content))
	if err != nil || string(text) != "hello\n" {
		t.Errorf("%q %v", text, err)
	}
	circle := AppendPointer(AppendPointer(nil, PointerLen), 0)
	circle = AppendPointer(circle[:PointerLen], 0)
	copy(circle[PointerLen:], AppendPointer(nil, PointerLen))
	if _, err := NewReader(bytes.NewReader(circle), 0).Next(); !errors.Is(err, ErrFormat) {
		t.Errorf("circle: %v", err)
	}
}

func TestDump(t *testing.T) {
	t.Parallel()
	names, _ := filepath.Glob("testdata/*.postcat")
	for _, name := range names {
		data, err := os.ReadFile(strings.TrimSuffix(name, ".postcat"))
		want, err2 := os.ReadFile(name)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		title, _, _ := strings.Cut(strings.TrimPrefix(string(want), "*** ENVELOPE RECORDS "), " ***")
		var got bytes.Buffer
		if err := Dump(&got, bytes.NewReader(data), DumpOptions{Name: title, Show: ShowEnvelope | ShowHeader | ShowBody | ShowOffset | ShowLabels, Zone: time.UTC}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDumpParts(t *testing.T) {
	t.Parallel()
	data := write(&envelope.Envelope{Sender: "s"}, "A: b\n c\n\nbody\nend")
	for show, want := range map[Show]string{
		ShowHeader:            "A: b\n c\n",
		ShowBody:              "\nbody\nend",
		ShowHeader | ShowBody: "A: b\n c\n\nbody\nend",
		ShowBody | ShowType:   " 78 \n 78 body\n 76 end",
	} {
		var got bytes.Buffer
		if err := Dump(&got, bytes.NewReader(data), DumpOptions{Show: show}); err != nil || got.String() != want {
			t.Errorf("%d: %q %v", show, got.String(), err)
		}
	}
	if err := Dump(io.Discard, strings.NewReader("hello"), DumpOptions{Show: ShowBody}); !errors.Is(err, ErrNotQueueFile) {
		t.Error(err)
	}
}

// Postfix 3.7.11 wrote this file, and a milter changed sender, recipients,
// header and body: it is full of pointers.
func TestMilterEdits(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/milter/A83AA36")
	want, err2 := os.ReadFile("testdata/milter/A83AA36.txt")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	env, layout, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for i, r := range env.Recipients {
		list = append(list, string(r.Address))
		if at := layout.Recipients[i].Offset; data[at] != Rcpt || string(data[at+2:][:len(r.Address)]) != string(r.Address) {
			t.Errorf("%s is not at %d", r.Address, at)
		}
	}
	if diff := cmp.Diff([]string{"u@refused.example", "added@refused.example", "added2@refused.example"}, list); diff != "" {
		t.Error(diff)
	}
	if env.Sender != "newsender-that-is-longer@mail.example.com" {
		t.Error(env.Sender)
	}
	text, err := io.ReadAll(NewText(bytes.NewReader(data), layout.Content))
	if err != nil {
		t.Fatal(err)
	}
	_, content, _ := strings.Cut(string(want), "MESSAGE CONTENTS deferred/A/A83AA36 ***\n")
	content, _, _ = strings.Cut(content, "*** HEADER EXTRACTED")
	if diff := cmp.Diff(content, string(text)); diff != "" {
		t.Error(diff)
	}
	var got bytes.Buffer
	if err := Dump(&got, bytes.NewReader(data), DumpOptions{Name: "deferred/A/A83AA36", Show: ShowEnvelope | ShowHeader | ShowBody, Zone: time.UTC}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}
