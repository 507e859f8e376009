package auth

import (
	"context"
	"errors"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
	"posthaste/internal/wire/sasl"
)

func opener(log *maillog.Memory) *table.Opener {
	return table.NewOpener(table.Setup{Log: maillog.New(log, "log", 1, nil), Types: []table.Type{{Name: "static", Open: text.Static}}})
}

func config() Config {
	return Config{
		Enable: true, Type: "dovecot", Path: "private/auth", Service: "smtp", Filter: "!external, static:rest", Options: "noanonymous",
		TLSOptions: "noanonymous", ResponseLimit: 12288,
	}
}

// server is an Authenticator with fixed answers.
type server struct {
	mechanisms []sasl.Mechanism
	err        error
	steps      []sasl.Step
	got        []string
	closed     int
}

func (s *server) Mechanisms(context.Context) ([]sasl.Mechanism, error) { return s.mechanisms, s.err }
func (s *server) Close() error                                         { return nil }
func (s *server) Begin(_ context.Context, r sasl.Request) (sasl.Conversation, sasl.Step) {
	s.got = append(s.got, r.Mechanism+" "+r.Initial)
	return conversation{s}, s.step()
}

func (s *server) step() sasl.Step {
	step := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	return step
}

type conversation struct{ *server }

func (c conversation) Close() { c.closed++ }
func (c conversation) Next(_ context.Context, response string) sasl.Step {
	c.got = append(c.got, response)
	return c.step()
}

func service(t *testing.T, c Config, s *server) (*Service, *maillog.Memory) {
	t.Helper()
	log := &maillog.Memory{}
	made, err := Open(c, opener(log), maillog.New(log, "log", 1, nil))
	if err != nil {
		t.Fatal(err)
	}
	made.server = s
	t.Cleanup(func() { made.Close() })
	return made, log
}

func TestActivate(t *testing.T) {
	t.Parallel()
	offered := []sasl.Mechanism{{Name: "PLAIN", Properties: sasl.Plaintext}, {Name: "EXTERNAL"}, {Name: "CRAM-MD5", Properties: sasl.Dictionary}, {Name: "ANONYMOUS", Properties: sasl.Anonymous}}
	for _, c := range []struct {
		change func(*Config)
		tls    bool
		want   string // EHLO lines, or the error
	}{
		{func(c *Config) {}, false, "AUTH PLAIN CRAM-MD5"},
		{func(c *Config) { c.Broken = true }, false, "AUTH PLAIN CRAM-MD5|AUTH=PLAIN CRAM-MD5"},
		{func(c *Config) { c.Filter = "external" }, false, "AUTH EXTERNAL"},
		{func(c *Config) { c.Options = "noanonymous, noplaintext" }, false, "AUTH CRAM-MD5"},
		{func(c *Config) { c.Options = "noanonymous, noplaintext" }, true, "AUTH PLAIN CRAM-MD5"},
		{func(c *Config) { c.TLSOnly = true }, false, ""},
		{func(c *Config) { c.TLSOnly = true }, true, "AUTH PLAIN CRAM-MD5"},
		{func(c *Config) { c.Exceptions = "192.0.2.0/24" }, false, ""},
		{func(c *Config) { c.Exceptions = "!192.0.2.0/24, 0.0.0.0/0" }, false, "AUTH PLAIN CRAM-MD5"},
		{func(c *Config) { c.Filter = "gssapi" }, false, "smtpd_sasl_mechanism_filter discards all mechanisms in 'PLAIN EXTERNAL CRAM-MD5'"},
		{func(c *Config) { c.Options = "mutual_auth" }, false, "no SASL authentication mechanisms"},
		{func(c *Config) { c.Options = "bogus" }, false, `unknown xsasl_dovecot_server_create value "bogus" in "bogus"`},
		{func(c *Config) { c.Options = "bogus" }, true, "AUTH PLAIN CRAM-MD5"},
	} {
		cfg := config()
		c.change(&cfg)
		s, _ := service(t, cfg, &server{mechanisms: offered})
		a, err := s.Activate(t.Context(), "c.example", sasl.Peer{ClientAddress: "192.0.2.9", Encrypted: c.tls})
		got := strings.Join(a.Keywords(), "|")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("want %q, got %q", c.want, got)
		}
	}
	s, _ := service(t, config(), &server{err: errors.New("down")})
	if _, err := s.Activate(t.Context(), "", sasl.Peer{}); err == nil || err.Error() != "no SASL authentication mechanisms" {
		t.Error(err)
	}
	var off *Service
	if a, err := off.Activate(t.Context(), "", sasl.Peer{}); a != nil || err != nil || a.Keywords() != nil || off.Close() != nil {
		t.Error("authentication that is off is not")
	}
}

func TestOpenFailures(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"SASL per-process initialization failed":                       func(c *Config) { c.Type = "bogus" },
		"invalid smtpd_sasl_response_limit parameter value 20 < 12288": func(c *Config) { c.ResponseLimit = 20 },
	} {
		c := config()
		change(&c)
		if _, err := Open(c, opener(&maillog.Memory{}), nil); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// script answers challenges one after the other.
type script struct {
	answers    []string
	challenges []string
	tooLong    bool
	err        error
}

func (s *script) Ask(challenge string) (string, bool, error) {
	s.challenges = append(s.challenges, challenge)
	if len(s.answers) == 0 {
		return "", s.tooLong, s.err
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer, false, nil
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	more := sasl.Step{Outcome: sasl.More, Challenge: "Y2g="}
	lost := errors.New("lost")
	for _, c := range []struct {
		steps   []sasl.Step
		client  script
		attempt Attempt
		reply   string
		user    string
		log     string
		closed  int
	}{
		{steps: []sasl.Step{{Outcome: sasl.Done, Username: "alice"}}, attempt: Attempt{Mechanism: "plain", Initial: "YQ==", HasInitial: true},
			reply: "235 2.7.0 Authentication successful", user: "alice"},
		{steps: []sasl.Step{more, more, {Outcome: sasl.Done, Username: "bob"}}, client: script{answers: []string{"YQ==", "Yg=="}}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "235 2.7.0 Authentication successful", user: "bob"},
		{steps: []sasl.Step{{Outcome: sasl.Failed, Username: "bob", Reason: "go away"}}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "535 5.7.8 Error: authentication failed: go away", log: "log: warning: c[1]: SASL PLAIN authentication failed: go away, sasl_username=bob"},
		{steps: []sasl.Step{{Outcome: sasl.Failed}}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "535 5.7.8 Error: authentication failed: (reason unavailable)", log: "log: warning: c[1]: SASL PLAIN authentication failed: (reason unavailable), sasl_username=(unavailable)"},
		{steps: []sasl.Step{{Outcome: sasl.Temporary, Reason: "Connection lost to authentication server"}}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",
			log:   "log: warning: c[1]: SASL PLAIN authentication failed: Connection lost to authentication server, sasl_username=(unavailable)"},
		{steps: []sasl.Step{more}, client: script{answers: []string{"*"}}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "501 5.7.0 Authentication aborted", log: "log: warning: c[1]: SASL PLAIN authentication aborted", closed: 1},
		{steps: []sasl.Step{more}, client: script{tooLong: true}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "500 5.5.6 Authentication response too long", log: "log: warning: c[1]: SASL PLAIN authentication aborted", closed: 1},
		{steps: []sasl.Step{more}, client: script{err: lost}, attempt: Attempt{Mechanism: "PLAIN"}, closed: 1},
		{steps: []sasl.Step{more}, client: script{answers: []string{"a b"}}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "535 5.7.8 Error: authentication failed: Invalid base64 data in continued response",
			log:   "log: warning: c[1]: SASL PLAIN authentication failed: Invalid base64 data in continued response, sasl_username=(unavailable)", closed: 1},
		{steps: []sasl.Step{more}, attempt: Attempt{Mechanism: "PLAIN"},
			reply: "454 4.7.0 Temporary authentication failure: too many steps",
			log:   "log: warning: c[1]: SASL PLAIN authentication failed: too many steps, sasl_username=(unavailable)", closed: 1},
		{attempt: Attempt{Mechanism: "X\tOK\t1"}, reply: "535 5.7.8 Error: authentication failed: Invalid authentication mechanism: 'X?OK?1'",
			log: "log: warning: c[1]: SASL X?OK?1 authentication failed: Invalid authentication mechanism: 'X?OK?1', sasl_username=(unavailable)"},
		{attempt: Attempt{Mechanism: "PLAIN", Initial: "a\tb", HasInitial: true}, reply: "535 5.7.8 Error: authentication failed: Invalid base64 data in initial response",
			log: "log: warning: c[1]: SASL PLAIN authentication failed: Invalid base64 data in initial response, sasl_username=(unavailable)"},
	} {
		fake := &server{mechanisms: []sasl.Mechanism{{Name: "PLAIN"}}, steps: c.steps}
		s, log := service(t, config(), fake)
		a, err := s.Activate(t.Context(), "", sasl.Peer{})
		if err != nil {
			t.Fatal(err)
		}
		c.attempt.NameAddr = "c[1]"
		login, reply, err := a.Authenticate(t.Context(), &c.client, c.attempt)
		if reply != c.reply || login.Username != c.user || err != c.client.err || strings.TrimSpace(log.String()) != c.log || fake.closed != c.closed {
			t.Errorf("%+v: %q %+v %v, closed %d\nlog  %s\nwant %s", c.attempt, reply, login, err, fake.closed, log, c.log)
		}
	}
}

func TestCyrusConfiguration(t *testing.T) {
	t.Parallel()
	log := &maillog.Memory{}
	c := config()
	c.Type, c.Path, c.CyrusPath = "cyrus", "smtpd", t.TempDir()
	s, err := Open(c, opener(log), maillog.New(log, "log", 1, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if a, err := s.Activate(t.Context(), "", sasl.Peer{}); err != nil || strings.Join(a.Keywords(), "") != "AUTH PLAIN LOGIN" {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "only \"pwcheck_method: saslauthd\" is supported") {
		t.Errorf("%s", log)
	}
}
