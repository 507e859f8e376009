package rate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"posthaste/internal/sys/maillog"
)

func TestCounter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := New(time.Minute, func() time.Time { return now })
	for i := 1; i <= 3; i++ {
		if open, rate := c.Connected("smtp", "a"); open != i || rate != i {
			t.Errorf("connection %d: %d open, rate %d", i, open, rate)
		}
	}
	c.Disconnected("smtp", "a")
	if open, rate := c.Connected("smtp", "a"); open != 3 || rate != 4 {
		t.Errorf("%d open, rate %d", open, rate)
	}
	if open, rate := c.Connected("submission", "a"); open != 1 || rate != 1 {
		t.Errorf("other service: %d open, rate %d", open, rate)
	}
	if n := c.Add("smtp", "a", Message); n != 1 || c.Rate("smtp", "a", Message) != 1 || c.Rate("smtp", "a", Auth) != 0 {
		t.Errorf("messages: %d", n)
	}
	now = now.Add(61 * time.Second)
	if n := c.Rate("smtp", "a", Message); n != 0 {
		t.Errorf("rate of the last minute: %d", n)
	}
	if open, rate := c.Connected("smtp", "a"); open != 4 || rate != 1 {
		t.Errorf("a minute later: %d open, rate %d", open, rate)
	}
	c.Disconnected("smtp", "nobody")
	var lines maillog.Memory
	c.Log(maillog.New(&lines, "postfix/anvil", 1, nil))
	want := "statistics: max connection rate 4/60s for (smtp:a) at Jan  2 03:04:05"
	if !strings.Contains(lines.String(), want) || !strings.Contains(lines.String(), "max connection count 4 for (smtp:a)") {
		t.Errorf("%s", lines.String())
	}
	if n := len(lines.Lines()); n != 4 {
		t.Errorf("%d lines:\n%s", n, lines.String())
	}
	c.Log(maillog.New(&lines, "postfix/anvil", 1, nil))
	if n := len(lines.Lines()); n != 4 {
		t.Errorf("logged again: %s", lines.String())
	}
}

// Clients that are gone are forgotten.
func TestBoundedMemory(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	c := New(time.Minute, func() time.Time { return now })
	for i := range 10000 {
		client := fmt.Sprint(i)
		c.Connected("smtp", client)
		if i%2 == 0 {
			c.Disconnected("smtp", client)
		}
		now = now.Add(time.Second)
	}
	if n := len(c.clients); n < 5000 || n > 5100 {
		t.Errorf("%d clients kept, 5000 are connected", n)
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8::1234:5678:9abc:def0": "2001:db8::1234:5000:0:0/84", "unknown": "unknown",
	} {
		if got := Client(in, 32, 84); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := Client("192.0.2.77", 24, 128); got != "192.0.2.0/24" {
		t.Error(got)
	}
}
