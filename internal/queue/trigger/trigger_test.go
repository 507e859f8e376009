package trigger

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/internal/queue"
)

func listen(t *testing.T) (net.Listener, string) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, path
}

func TestSend(t *testing.T) {
	t.Parallel()
	ln, path := listen(t)
	got := make(chan string)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			close(got)
			return
		}
		got <- Receive(conn)
	}()
	if err := Send(t.Context(), path, FlushAll); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "FADI" {
		t.Errorf("received %q", text)
	}
	ln.Close()
	if err := Send(t.Context(), path, FlushAll); err == nil {
		t.Error("nobody listens")
	}
}

func TestFlush(t *testing.T) {
	t.Parallel()
	ln, path := listen(t)
	var seen []Flush
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = Serve(conn, func(f Flush) Answer {
				seen = append(seen, f)
				if f.Site == "other.example" {
					return Deny
				}
				return OK
			})
		}
	}()
	for f, want := range map[Flush]Answer{
		{Kind: SendSite, Site: "site.example"}:      OK,
		{Kind: SendSite, Site: "other.example"}:     Deny,
		{Kind: SendFile, ID: "ABCDEF1"}:             OK,
		{Kind: SendFile, ID: "../x"}:                OK,
		{Kind: SendSite}:                            Invalid,
		{Kind: "shoot", ID: queue.ID("0123456789")}: Invalid,
	} {
		got, err := Ask(t.Context(), path, f)
		if err != nil || got != want {
			t.Errorf("%+v: %v, %v", f, got, err)
		}
	}
	if len(seen) != 3 {
		t.Errorf("asked for %v", seen)
	}
}

func FuzzReadAttributes(f *testing.F) {
	f.Add("request\x00send_file\x00queue_id\x00D28FD4A\x00\x00")
	f.Fuzz(func(t *testing.T, text string) {
		attr, _ := readAttributes(bufio.NewReader(strings.NewReader(text)))
		if len(attr) > maxAttributes {
			t.Fatal(attr)
		}
	})
}
