package showq

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/mail/addr"
	"posthaste/internal/queue"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/vfs"
)

const testdata = "../spool/testdata/"

// The queue was written by Postfix 3.7.11, and listed by its postqueue.
func TestPostfixQueue(t *testing.T) {
	t.Parallel()
	s, err := spool.New(spool.Options{FS: vfs.Dir(copyQueue(t, testdata+"postfix")), Config: spool.Config{HashNames: "deferred defer", HashDepth: 1}, Passive: true})
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Write(t.Context(), &got, s, Config{}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(testdata + "postfix.json")
	if err != nil {
		t.Fatal(err)
	}
	sorted := func(text string) []string {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		slices.Sort(lines)
		return lines
	}
	wantLines := sorted(string(want))
	if diff := cmp.Diff(wantLines, sorted(strings.ReplaceAll(dropOriginal(got.String()), `"orig_address": "", `, ""))); diff != "" {
		t.Error(diff)
	}
	// In Postfix's order the listing is the same.
	var text bytes.Buffer
	if err := Format(&text, bytes.NewReader(want), Style{Long: true, Zone: time.UTC}); err != nil {
		t.Fatal(err)
	}
	wantText, err := os.ReadFile(testdata + "postfix.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(wantText), text.String()); diff != "" {
		t.Error(diff)
	}
}

// copyQueue gives files the mode of queue files, which a checkout does not keep.
func copyQueue(t *testing.T, from string) string {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(path, 0o700))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// dropOriginal takes out what Postfix 3.7 does not list.
func dropOriginal(lines string) string {
	for {
		i := strings.Index(lines, `"orig_address": "l`)
		if i < 0 {
			return lines
		}
		end := i + strings.Index(lines[i:], ", ")
		lines = lines[:i] + lines[end+2:]
	}
}

func TestShortStyle(t *testing.T) {
	t.Parallel()
	lines := `{"queue_name": "active", "queue_id": "A1B2C3D4E5", "arrival_time": 1795378010, "message_size": 1200, "forced_expire": false, "sender": "a@b", "recipients": [{"orig_address": "", "address": "x@y"}]}
{"queue_name": "hold", "queue_id": "A1B2C3D4E6", "arrival_time": 1795378010, "message_size": 900, "forced_expire": true, "sender": "MAILER-DAEMON", "recipients": [{"orig_address": "", "address": "x@y", "delay_reason": "why"}, {"orig_address": "", "address": "z@y", "delay_reason": "why"}, {"orig_address": "", "address": "u@y"}, {"orig_address": "", "address": "v@y"}]}
`
	const want = `-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
A1B2C3D4E5*    1200 Sun Nov 22 20:06:50  a@b
                                         x@y

A1B2C3D4E6!#     900 Sun Nov 22 20:06:50  MAILER-DAEMON
                                                                         (why)
                                         x@y
                                         z@y
                                                          (reason unavailable)
                                         u@y
                                         v@y

-- 2 Kbytes in 2 Requests.
`
	var got bytes.Buffer
	if err := Format(&got, strings.NewReader(lines), Style{Zone: time.UTC}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
	got.Reset()
	if err := Format(&got, strings.NewReader(""), Style{}); err != nil || got.String() != "Mail queue is empty\n" {
		t.Errorf("%q %v", got.String(), err)
	}
	if err := Format(&got, strings.NewReader("rubbish\n"), Style{}); err == nil {
		t.Error("rubbish was accepted")
	}
}

// Whatever stands in an address or a reason, a line is one JSON object.
func FuzzAppendMessage(f *testing.F) {
	f.Add("a\"b\\c@d", "line\nbreak", "r\x00\xff\u2028")
	f.Fuzz(func(t *testing.T, sender, recipient, reason string) {
		s := queue.Summary{ID: "A1B2C3", Queue: "deferred", Recipients: []queue.SummaryRecipient{{Reason: reason, Failed: true}}}
		s.Sender, s.Recipients[0].Address = addr.Address(sender), addr.Address(recipient)
		line := func() []byte { m := (Config{EmptySender: "X"}).message(&s); return appendMessage(nil, &m) }()
		if bytes.Count(line, []byte("\n")) != 1 || !json.Valid(line) {
			t.Fatalf("%q", line)
		}
	})
}
