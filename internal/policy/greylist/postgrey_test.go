package greylist_test

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthaste/internal/policy/greylist"
	"posthaste/internal/sys/maillog"
)

// clock is a clock that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// settings reads the options of a recorded server.
func settings(t *testing.T, words string) greylist.Settings {
	t.Helper()
	s := greylist.Settings{Hostname: "h.example"}
	for _, word := range strings.Split(strings.ReplaceAll(words, "'--", "--"), " --") {
		name, value, _ := strings.Cut(strings.Trim(strings.TrimPrefix(word, "--"), "'"), "=")
		n, _ := strconv.Atoi(value)
		seconds := time.Duration(n) * time.Second
		switch strings.Trim(name, "' -") {
		case "":
		case "auto-whitelist-clients":
			if s.AutoWhitelist = n; n == 0 {
				s.AutoWhitelist = -1
			}
		case "delay":
			s.Delay = seconds
		case "lookup-by-host":
			s.LookupByHost = true
		case "greylist-text":
			s.Text = value
		case "greylist-action":
			s.Action = value
		case "privacy":
			s.Privacy = true
		case "retry-window":
			s.RetryWindow = time.Hour
		case "max-age":
			s.MaxAge = time.Duration(n) * 24 * time.Hour
		case "x-greylist-header":
			s.Header = value
		case "ipv4cidr":
			s.IPv4Bits = n
		case "ipv6cidr":
			s.IPv6Bits = n
		default:
			t.Fatalf("option %q", name)
		}
	}
	return s
}

// TestAsPostgrey asks what postgrey was asked, and expects its answers and log.
func TestAsPostgrey(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/postgrey.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var (
		g          *greylist.Greylist
		log        *maillog.Memory
		white      *greylist.Whitelist
		now        clock
		ask        string
		want       []string
		asked, bad int
	)
	check := func() {
		if ask == "" {
			return
		}
		f := strings.Split(ask, "|")
		at, _ := strconv.Atoi(f[0])
		now.now = newYear.Add(time.Duration(at) * time.Second)
		before := len(log.Lines())
		d := g.Check(t.Context(), greylist.Request{ClientName: f[1], ClientAddress: f[2], Sender: f[3], Recipient: f[4], Instance: f[5]})
		got := []string{d.Action}
		for _, line := range log.Lines()[before:] {
			got = append(got, "log "+strings.TrimPrefix(line, "postgrey: "))
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("%s\n got %s\nwant %s", ask, g, w)
			bad++
		}
		asked++
		ask, want = "", nil
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		word, rest, _ := strings.Cut(line, " ")
		if word != "" {
			check()
		}
		var add func(string) error
		switch word {
		case "server":
			log, white = &maillog.Memory{}, &greylist.Whitelist{}
			g = greylist.New(settings(t, rest), greylist.Deps{Store: greylist.NewMemory(), Now: now.Now, Log: maillog.New(log, "postgrey", 1, now.Now)})
			g.SetWhitelist(white)
		case "client":
			add = white.AddClient
		case "recipient":
			add = white.AddRecipient
		case "ask":
			ask = rest
		case "":
			if rest = strings.TrimPrefix(rest, " "); rest != "" {
				want = append(want, strings.ReplaceAll(rest, "%%", "%"))
			}
		}
		if add != nil && rest != "" {
			text := strings.TrimSpace(strings.SplitN(rest, " #", 2)[0])
			if text != "" && text[0] != '#' {
				if err := add(text); err != nil {
					t.Error(err)
				}
			}
		}
	}
	check()
	if asked < 180 {
		t.Errorf("only %d requests found", asked)
	}
}
