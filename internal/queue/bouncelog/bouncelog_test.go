package bouncelog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
)

// The logs were written by Postfix 3.7.11: reading and writing them gives the
// same bytes.
func TestPostfixLogs(t *testing.T) {
	t.Parallel()
	names, _ := filepath.Glob("../spool/testdata/postfix/defer/*/*")
	if len(names) < 6 {
		t.Fatal("no test data")
	}
	for _, name := range names {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		n := 0
		if err := Read(bytes.NewReader(want), func(e Entry) bool {
			got = Append(got, e)
			n++
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	entries := []Entry{
		{Recipient: envelope.Recipient{Address: "a b@x.example", Original: "o@x.example", ORCPT: "rfc822;o", Notify: envelope.NotifyDelay}, Offset: 12,
			Status: dsn.New(550, "5.1.1", "no such user").WithRemote(dsn.Remote{MTA: "mx", DiagType: "smtp", Diag: "550 no"}), Action: "failed"},
		{Recipient: envelope.Recipient{Address: "c@x.example"}, Status: dsn.New(450, "4.4.1", "connect: refused"), Action: "delayed"},
	}
	var b []byte
	for _, e := range entries {
		b = Append(b, e)
	}
	var got []Entry
	_ = Read(bytes.NewReader(b), func(e Entry) bool { got = append(got, e); return true })
	if len(got) != 2 || got[0] != entries[0] || got[1] != entries[1] {
		t.Errorf("%+v", got)
	}
}

// Text from a remote server cannot forge a line of the log.
func TestNoForgery(t *testing.T) {
	t.Parallel()
	b := Append(nil, Entry{Recipient: envelope.Recipient{Address: addr.Address("a\nrecipient=b@x"), ORCPT: "x\n\n<c>: d"},
		Status: dsn.New(450, "4.0.0", "text\nrecipient=evil\n\n<evil>: x")})
	n := 0
	_ = Read(bytes.NewReader(b), func(e Entry) bool {
		n++
		if strings.Contains(string(e.Address), "evil") {
			t.Errorf("recipient %q", e.Address)
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d entries", n)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\n<a@b>: text\nrecipient=a@b\nstatus=4.4.1\naction=delayed\nreason=text\n\n"))
	f.Add([]byte("<>: \noffset=99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		var first []Entry
		_ = Read(bytes.NewReader(data), func(e Entry) bool {
			first, again = append(first, e), Append(again, e)
			return len(first) < 100
		})
		n := 0
		_ = Read(bytes.NewReader(again), func(Entry) bool { n++; return true })
		if n != len(first) {
			t.Fatalf("%d entries, then %d", len(first), n)
		}
	})
}
