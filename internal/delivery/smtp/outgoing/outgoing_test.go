package outgoing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/internal/mail/addr"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

var limits = Config{LineLimit: 2048, HeaderSize: 102400, HeaderTokens: 10240, Boundary: 2048, Nesting: 100}

func rewriter(t *testing.T, change func(*Config)) (*Rewriter, *maillog.Memory) {
	t.Helper()
	c, log := limits, &maillog.Memory{}
	if change != nil {
		change(&c)
	}
	r := Open(c, "smtp", table.NewOpener(table.Setup{Log: maillog.New(log, "postfix/smtp", 1, nil), Types: all.Types()}), nil)
	t.Cleanup(func() { r.Close() })
	return r, log
}

func pass1(t *testing.T, r *Rewriter, limit Limit, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Copy(context.Background(), "QID", limit, &out, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestConversion(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 45)
	for _, test := range []struct{ name, in, want string }{
		{"plain", "Subject: x\n\nbody\n", "Subject: x\n\nbody\n"},
		{"8bit", "A: 1\nContent-Transfer-Encoding: 8bit\nB: 2\n\ncaf\xc3\xa9 = x \n\t\n",
			"A: 1\nB: 2\nContent-Transfer-Encoding: quoted-printable\n\ncaf=C3=A9 =3D x=20\n=09\n"},
		{"base64 stays", "Content-Transfer-Encoding: base64\n\n\xc3\xa9\n", "Content-Transfer-Encoding: base64\n\n\xc3\xa9\n"},
		{"long", "Content-Transfer-Encoding: 8bit\n\n" + long + "\n", "Content-Transfer-Encoding: quoted-printable\n\n" +
			strings.Repeat("=C3=A9", 12) + "=C3=\n" + strings.Repeat("=A9=C3", 12) + "=A9=\n" + strings.Repeat("=C3=A9", 20)[:6*20] + "\n"},
		{"no line end", "Content-Transfer-Encoding: binary\n\n\xe9", "Content-Transfer-Encoding: quoted-printable\n\n=E9\n"},
		{"header only", "Content-Transfer-Encoding: 8bit\n", "Content-Transfer-Encoding: quoted-printable\n"},
		{"multipart", "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\npre\n--b\nContent-Transfer-Encoding: 8bit\n\n\xe9\n--b\n\nplain=\n--b--\nafter\n",
			"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\n\npre\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=E9\n--b\n\nplain=\n--b--\nafter\n"},
		{"message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nContent-Transfer-Encoding: 8bit\n\n\xe9\n",
			"Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nContent-Transfer-Encoding: quoted-printable\n\n=E9\n"},
	} {
		r, _ := rewriter(t, nil)
		got := pass1(t, r, SevenBit, test.in)
		if test.name == "long" {
			// RFC 2045 §6.7 (5): no more than 76 characters, and nothing lost.
			_, body, _ := strings.Cut(got, "\n\n")
			for _, line := range strings.Split(body, "\n") {
				if len(line) > 76 {
					t.Errorf("a line of %d characters", len(line))
				}
			}
			decoded, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
			if err != nil || string(decoded) != long+"\n" {
				t.Errorf("decoded %q, %v", decoded, err)
			}
			continue
		}
		if got != test.want {
			t.Errorf("%s:\n%q\nwant\n%q", test.name, got, test.want)
		}
		if same := pass1(t, r, EightBit, test.in); same != test.in {
			t.Errorf("%s: changed for a server that takes it: %q", test.name, same)
		}
	}
	off, _ := rewriter(t, func(c *Config) { c.NoConversion = true })
	if in := "Content-Transfer-Encoding: 8bit\n\n\xe9\n"; pass1(t, off, SevenBit, in) != in {
		t.Error("disable_mime_output_conversion does not")
	}
}

func TestGeneric(t *testing.T) {
	t.Parallel()
	r, log := rewriter(t, func(c *Config) {
		c.Generic = "inline:{ {a@in.example = x@out.example}, {@host.example = @out.example}, {two@in.example = p@o.example, q@o.example} }"
		c.Propagate, c.Delimiters = "generic", "+"
	})
	for in, want := range map[string]string{
		"a@in.example": "x@out.example", "a+e@in.example": "x+e@out.example", "u@host.example": "u@out.example",
		"other@in.example": "other@in.example", "": "", "two@in.example": "p@o.example",
	} {
		in, want := addrOf(in), addrOf(want)
		if got, err := r.Address(context.Background(), in); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	if !strings.Contains(log.String(), "multi-valued smtp_generic_maps entry for two@in.example") {
		t.Errorf("log: %s", log)
	}
	text := "From: A <a@in.example>\nTo: b@in.example,\n  c@in.example\nSubject: a@in.example\n\na@in.example\n"
	if got, want := pass1(t, r, EightBit, text), strings.Replace(text, "<a@in.example>", "<x@out.example>", 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	broken, _ := rewriter(t, func(c *Config) { c.Generic = "fail:x" })
	var source SourceError
	if err := broken.Copy(context.Background(), "Q", EightBit, io.Discard, strings.NewReader(text)); !errors.As(err, &source) {
		t.Errorf("a table that fails gives %v", err)
	}
	if _, err := broken.Address(context.Background(), "a@b"); err == nil {
		t.Error("a table that fails has an answer")
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	checks := filepath.Join(t.TempDir(), "checks")
	rules := "/^X-Gone/ IGNORE\n/^X-Strip/ STRIP why\n/^Received/ PREPEND X-Out: yes\n/^X-Old/ REPLACE X-New: 2\n/^X-Warn/ WARN\n/^X-Bad/ REJECT no\n/^X-Wrong/ REPLACE nothing\n"
	if err := os.WriteFile(checks, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	r, log := rewriter(t, func(c *Config) {
		c.Header = "regexp:" + checks
		c.Body = "inline:{ {secret = REPLACE ***}, {gone = IGNORE} }"
	})
	got := pass1(t, r, EightBit, "Received: a\nX-Gone: 1\nX-Strip: 1\nX-Old: 1\nX-Warn: 1\nX-Bad: 1\nX-Wrong: 1\n\nsecret\ngone\nrest\n")
	want := "X-Out: yes\nReceived: a\nX-New: 2\nX-Warn: 1\nX-Bad: 1\nX-Wrong: 1\n\n***\nrest\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	wantLog := `postfix/smtp: QID: prepend: header Received: a: X-Out: yes
postfix/smtp: QID: strip: header X-Strip: 1: why
postfix/smtp: QID: replace: header X-Old: 1: X-New: 2
postfix/smtp: QID: warning: header X-Warn: 1
postfix/smtp: warning: unsupported command in smtp_header_checks map: REJECT no
postfix/smtp: warning: bad REPLACE header text "nothing" in smtp_header_checks map -- need "headername: headervalue"
postfix/smtp: QID: replace: body secret: ***`
	if log.String() != wantLog {
		t.Errorf("log:\n%s\nwant:\n%s", log, wantLog)
	}
}

// errReader fails in the middle.
type errReader struct{ io.Reader }

func (r errReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	r, _ := rewriter(t, nil)
	text := "Content-Transfer-Encoding: 8bit\n\n" + strings.Repeat("\xe9\n", 20000)
	for _, limit := range []Limit{EightBit, SevenBit} {
		var source SourceError
		err := r.Copy(context.Background(), "Q", limit, io.Discard, errReader{strings.NewReader(text)})
		if !errors.As(err, &source) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("limit %d: a damaged message gives %v", limit, err)
		}
		err = r.Copy(context.Background(), "Q", limit, fullWriter{}, strings.NewReader(text))
		if errors.As(err, &source) || !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("limit %d: a lost connection gives %v", limit, err)
		}
	}
}

// FuzzConversion: what comes out is seven bits wide wherever a part said that
// it is not, and in pieces the same as at once.
func FuzzConversion(f *testing.F) {
	f.Add("Content-Transfer-Encoding: 8bit\n\n\xe9 \n", 3)
	f.Add("Content-Type: multipart/x; boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n\n\xe9\n--b--\n", 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		r := Open(limits, "smtp", nil, nil)
		var whole, pieces bytes.Buffer
		if err := r.Copy(context.Background(), "Q", SevenBit, &whole, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if err := r.Copy(context.Background(), "Q", SevenBit, &pieces, chunks{strings.NewReader(text), max(1, size%7)}); err != nil {
			t.Fatal(err)
		}
		if whole.String() != pieces.String() {
			t.Errorf("at once %q, in pieces %q", whole.String(), pieces.String())
		}
	})
}

// chunks reads in small pieces.
type chunks struct {
	io.Reader
	size int
}

func (c chunks) Read(p []byte) (int, error) { return c.Reader.Read(p[:min(len(p), c.size)]) }

func addrOf(s string) addr.Address { return addr.Address(s) }
