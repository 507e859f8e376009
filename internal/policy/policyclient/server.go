package policyclient

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/table"
)

// Settings are those of one server.
type Settings struct {
	DefaultAction string
	Context       string // policy_context
	Timeout       time.Duration
	MaxIdle       time.Duration
	MaxTTL        time.Duration
	RetryDelay    time.Duration
	RequestLimit  int // requests per connection; 0 for no limit
	TryLimit      int
}

// Server is a policy server as check_policy_service names it.
type Server struct {
	Text     string // as written, without settings: "inet:127.0.0.1:10023"
	Settings Settings

	network, address string
}

// Name is the server as the log names it: without its type.
func (s Server) Name() string {
	if _, name, ok := strings.Cut(s.Text, ":"); ok {
		return name
	}
	return s.Text
}

// Parse reads "inet:host:port", "unix:path", or a list in braces of one of
// these and settings: "{ inet:host:port, timeout=10s, default_action=DUNNO }".
// A setting with white space in its value has its own braces, "{ name = a b }".
func Parse(text string, defaults Settings) (Server, error) {
	s := Server{Text: text, Settings: defaults}
	if strings.HasPrefix(text, "{") {
		inner, ok := braced(text)
		if !ok {
			return Server{}, fmt.Errorf("policy service syntax error: missing '}' in \"%s\"", text)
		}
		items := table.SplitList(inner)
		if len(items) == 0 {
			return Server{}, fmt.Errorf("empty policy service: \"%s\"", text)
		}
		s.Text = items[0]
		for _, item := range items[1:] {
			if err := s.Settings.set(item); err != nil {
				return Server{}, err
			}
		}
	}
	kind, rest, _ := strings.Cut(s.Text, ":")
	switch kind {
	case "inet":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return Server{}, fmt.Errorf("bad policy server \"%s\": expected inet:host:port", s.Text)
		}
		s.network, s.address = "tcp", rest
	case "unix", "local":
		if rest == "" {
			return Server{}, fmt.Errorf("bad policy server \"%s\": expected unix:path", s.Text)
		}
		s.network, s.address = "unix", rest
	default:
		return Server{}, fmt.Errorf("bad policy server \"%s\": expected inet:host:port or unix:path", s.Text)
	}
	return s, nil
}

// braced returns what is between the braces around text.
func braced(text string) (string, bool) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return "", false
	}
	return strings.TrimSpace(text[1 : len(text)-1]), true
}

func (s *Settings) set(item string) error {
	text := item
	if inner, ok := braced(item); ok {
		text = inner
	}
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok {
		return fmt.Errorf("policy service syntax error: missing '=' after attribute name: \"%s\"", text)
	}
	var err error
	switch name {
	case "default_action":
		s.DefaultAction = value
	case "policy_context":
		s.Context = value
	case "timeout":
		s.Timeout, err = duration(value)
	case "max_idle":
		s.MaxIdle, err = duration(value)
	case "max_ttl":
		s.MaxTTL, err = duration(value)
	case "retry_delay":
		s.RetryDelay, err = duration(value)
	case "request_limit":
		s.RequestLimit, err = number(value, 0)
	case "try_limit":
		s.TryLimit, err = number(value, 1)
	default:
		return fmt.Errorf("policy service syntax error: unexpected attribute name: \"%s\"", name)
	}
	if err != nil {
		return fmt.Errorf("bad policy service attribute %s: %w", name, err)
	}
	return nil
}

// duration reads a time value, a number and a unit (postconf(5)); the default
// unit is the second.
func duration(text string) (time.Duration, error) {
	units := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	digits := strings.TrimRight(text, "smhdw")
	unit, ok := units[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || !ok || n < 1 {
		return 0, fmt.Errorf("bad time value \"%s\"", text)
	}
	return time.Duration(n) * unit, nil
}

func number(text string, low int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low {
		return 0, fmt.Errorf("bad number \"%s\"", text)
	}
	return n, nil
}
