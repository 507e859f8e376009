package maillog

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)

func fixed() time.Time { return noon }

func TestFileWritesSyslogLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := NewFile(&out, "mail")
	log := New(f, "postfix/smtpd", 42, fixed)
	log.Infof("connect from %s", "a[192.0.2.1]")
	log.With("postfix/qmgr").Warnf("bad\nline\x00 \xff")
	f.Flush()
	want := "Mar  5 12:00:00 mail postfix/smtpd[42]: connect from a[192.0.2.1]\n" +
		"Mar  5 12:00:00 mail postfix/qmgr[42]: warning: bad?line? ?\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
}

func TestFileDropsAndCountsWhenTheDiskIsSlow(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := NewFile(&out, "mail")
	log := New(f, "t", 1, fixed)
	text := strings.Repeat("x", 1<<16)
	for range 2 * maxBacklog / len(text) {
		log.Infof("%s", text)
	}
	f.Flush()
	if out.Len() > maxBacklog+2*len(text) {
		t.Errorf("the backlog grew to %d bytes", out.Len())
	}
	if !strings.Contains(out.String(), "log lines were dropped") {
		t.Error("dropped lines are not counted")
	}
}

func TestFileRunFlushesAtTheEnd(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := NewFile(&out, "mail")
	New(f, "t", 1, fixed).Infof("last words")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Run(ctx)
	if !strings.Contains(out.String(), "last words") {
		t.Error("lines are lost at the end")
	}
}

func TestSyslogDatagram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sink, err := NewSyslog(path, "mail")
	if err != nil {
		t.Fatal(err)
	}
	New(sink, "postfix/master", 7, fixed).Fatalf("no room")
	buf := make([]byte, 1000)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := conn.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(buf[:n]), "<18>Mar  5 12:00:00 postfix/master[7]: fatal: no room"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSyslogWithoutDaemonDoesNotFail(t *testing.T) {
	t.Parallel()
	sink, err := NewSyslog(filepath.Join(t.TempDir(), "none"), "mail")
	if err != nil {
		t.Fatal(err)
	}
	New(sink, "t", 1, fixed).Infof("nobody listens")
	if sink.dropped != 1 {
		t.Errorf("dropped = %d, want 1", sink.dropped)
	}
	if _, err := NewSyslog("x", "nonsense"); err == nil {
		t.Error("an unknown facility is accepted")
	}
}

func TestDatagramRoundTrip(t *testing.T) {
	t.Parallel()
	in := Line{Time: noon, Severity: Warning, Tag: "postfix/sendmail", PID: 9, Text: "warning: a  b "}
	out, ok := ParseDatagram(Datagram(in), noon)
	if !ok || out != in {
		t.Errorf("got %+v %v", out, ok)
	}
}

func FuzzParseDatagram(f *testing.F) {
	f.Add([]byte("1 postfix/x 5 warning: y"))
	f.Add([]byte("9 x 5 y"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, ok := ParseDatagram(data, noon); ok && strings.ContainsAny(l.Text+l.Tag, "\n\x00") {
			t.Errorf("unprintable text passed: %q", l.Text)
		}
	})
}
