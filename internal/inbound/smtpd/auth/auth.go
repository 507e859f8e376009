// Package auth is SASL authentication of SMTP clients: which mechanisms a
// session may offer, and the AUTH command from its first to its last line
// (SASL_README, RFC 4954).
//
// A Service belongs to one configuration of smtpd; a session has it activated,
// again after STARTTLS, and hands the AUTH command to it. It promises the
// replies and log lines of Postfix, that nobody is logged in without the
// authentication server's word, and that trouble with that server is a 454.
package auth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"posthaste/internal/mail/envelope"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
	"posthaste/internal/wire/sasl"
)

// Config is what authentication reads of main.cf (postconf(5)).
type Config struct {
	Enable      bool   `param:"smtpd_sasl_auth_enable"`
	Type        string `param:"smtpd_sasl_type"`
	Path        string `param:"smtpd_sasl_path"`
	Service     string `param:"smtpd_sasl_service"`
	LocalDomain string `param:"smtpd_sasl_local_domain"`
	Filter      string `param:"smtpd_sasl_mechanism_filter"`
	Options     string `param:"smtpd_sasl_security_options"`
	TLSOptions  string `param:"smtpd_sasl_tls_security_options"`
	CyrusPath   string `param:"cyrus_sasl_config_path"`
	Exceptions  string `param:"smtpd_sasl_exceptions_networks"`
	Parents     string `param:"parent_domain_matches_subdomains"`
	QueueDir    string `param:"queue_directory"`

	// ResponseLimit is bytes of one answer of a client.
	ResponseLimit int `param:"smtpd_sasl_response_limit"`
	// Broken offers "AUTH=" for old clients, too.
	Broken bool `param:"broken_sasl_auth_clients"`
	// TLSOnly offers nothing without TLS.
	TLSOnly bool `param:"smtpd_tls_auth_only"`
}

// minResponseLimit is what RFC 4954 §4 asks for.
const minResponseLimit = 12288

// Service authenticates the clients of one service. Nil is one that does not.
// Safe for concurrent use.
type Service struct {
	cfg        Config
	log        *maillog.Logger
	server     sasl.Authenticator
	plain, tls sasl.Options
	optionsErr [2]error // of plain, tls: fatal for a session
	filter     *matchlist.Strings
	exceptions *matchlist.Hosts
}

// Open makes a service, nil if authentication is off. The error is fatal for
// the service; its reason was logged.
func Open(cfg Config, o *table.Opener, log *maillog.Logger) (*Service, error) {
	if !cfg.Enable {
		return nil, nil
	}
	if cfg.ResponseLimit < minResponseLimit {
		return nil, fmt.Errorf("invalid smtpd_sasl_response_limit parameter value %d < %d", cfg.ResponseLimit, minResponseLimit)
	}
	s := &Service{
		cfg: cfg, log: log,
		filter:     matchlist.NewStrings(o, "smtpd_sasl_mechanism_filter", cfg.Filter),
		exceptions: matchlist.NewHosts(o, "smtpd_sasl_exceptions_networks", cfg.Exceptions, table.MatchesSubdomains(cfg.Parents, "smtpd_sasl_exceptions_networks")),
	}
	s.plain, s.optionsErr[0] = sasl.ParseOptions(cfg.Options)
	s.tls, s.optionsErr[1] = sasl.ParseOptions(cfg.TLSOptions)
	switch cfg.Type {
	case "dovecot":
		s.server = sasl.NewDovecot(cfg.Path, cfg.QueueDir, log)
	case "cyrus":
		s.server = cyrus(cfg, o, log)
	default:
		log.Warnf("unsupported SASL server implementation: %s", cfg.Type)
		_ = s.Close()
		return nil, errors.New("SASL per-process initialization failed")
	}
	return s, nil
}

// cyrus reads what Cyrus SASL would read: NAME.conf, with "key: value" lines.
// Of its ways to check a password there is saslauthd.
func cyrus(cfg Config, o *table.Opener, log *maillog.Logger) sasl.Authenticator {
	directories := cfg.CyrusPath
	if directories == "" {
		directories = "/etc/postfix/sasl:/usr/local/lib/sasl2:/usr/lib/sasl2:/etc/sasl2"
	}
	settings := map[string]string{}
	for _, directory := range filepath.SplitList(directories) {
		file, err := o.OpenFile(filepath.Join(directory, cfg.Path+".conf"))
		if err != nil {
			continue
		}
		settings = readSettings(file)
		file.Close()
		break
	}
	if method := settings["pwcheck_method"]; !strings.Contains(method, "saslauthd") {
		log.Warnf("SASL: smtpd_sasl_type = cyrus: only \"pwcheck_method: saslauthd\" is supported, not \"%s\"", method)
	}
	socket := settings["saslauthd_path"]
	if socket == "" {
		socket = "/run/saslauthd/mux"
	}
	return sasl.NewSaslauthd(socket, cfg.LocalDomain, log)
}

// maxSettings bounds a configuration file of Cyrus SASL.
const maxSettings = 1000

func readSettings(file *os.File) map[string]string {
	settings := map[string]string{}
	lines := bufio.NewScanner(file)
	for n := 0; lines.Scan() && n < maxSettings; n++ {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if key = strings.TrimSpace(key); ok && !strings.HasPrefix(key, "#") {
			settings[strings.ToLower(key)] = strings.TrimSpace(value)
		}
	}
	return settings
}

// Close closes tables and connections.
func (s *Service) Close() error {
	if s == nil {
		return nil
	}
	errs := []error{s.filter.Close(), s.exceptions.Close()}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	return errors.Join(errs...)
}

// Config is the settings of the service.
func (s *Service) Config() *Config { return &s.cfg }

// Session is authentication in one session. Nil means that it is not active.
type Session struct {
	service    *Service
	peer       sasl.Peer
	mechanisms []string
	hidden     bool // not offered, but understood
}

// Activate makes authentication available to a client, nil if it is not to be.
// An error is fatal for the session: without a mechanism nothing can work.
func (s *Service) Activate(ctx context.Context, client string, peer sasl.Peer) (*Session, error) {
	if s == nil || s.cfg.TLSOnly && !peer.Encrypted {
		return nil, nil
	}
	options, err := s.plain, s.optionsErr[0]
	if peer.Encrypted {
		options, err = s.tls, s.optionsErr[1]
	}
	if err != nil {
		return nil, err
	}
	offered, err := s.server.Mechanisms(ctx)
	if err != nil {
		return nil, errors.New("no SASL authentication mechanisms")
	}
	a := &Session{service: s, peer: peer}
	var secure []string
	for _, m := range offered {
		if !options.Allow(m) {
			continue
		}
		secure = append(secure, m.Name)
		if ok, err := s.filter.Match(ctx, m.Name); ok && err == nil {
			a.mechanisms = append(a.mechanisms, m.Name)
		}
	}
	switch {
	case len(secure) == 0:
		return nil, errors.New("no SASL authentication mechanisms")
	case len(a.mechanisms) == 0:
		return nil, fmt.Errorf("smtpd_sasl_mechanism_filter discards all mechanisms in '%s'", strings.Join(secure, " "))
	}
	hidden, err := s.exceptions.Match(ctx, client, peer.ClientAddress)
	a.hidden = hidden || err != nil
	return a, nil
}

// Keywords is the EHLO lines that offer authentication.
func (a *Session) Keywords() []string {
	if a == nil || a.hidden {
		return nil
	}
	list := strings.Join(a.mechanisms, " ")
	if a.service.cfg.Broken {
		return []string{"AUTH " + list, "AUTH=" + list}
	}
	return []string{"AUTH " + list}
}

// ResponseLimit is the most bytes of one answer of the client.
func (a *Session) ResponseLimit() int { return a.service.cfg.ResponseLimit }

// Client is the other side of the AUTH command: it sends a challenge and reads
// the answer. tooLong is an answer beyond the limit; err a connection that
// broke.
type Client interface {
	Ask(challenge string) (response string, tooLong bool, err error)
}

// Attempt is one AUTH command.
type Attempt struct {
	Mechanism  string
	Initial    string
	HasInitial bool
	NameAddr   string // the client, for the log
}

// maxSteps ends an authentication that does not come to an end.
const maxSteps = 100

// Authenticate carries out one AUTH command. It returns the reply, with its
// code, and who is logged in if that is 235. err is a connection that broke.
func (a *Session) Authenticate(ctx context.Context, c Client, t Attempt) (login envelope.Login, reply string, err error) {
	began := time.Now()
	talk, step := a.begin(ctx, t)
	for n := 0; step.Outcome == sasl.More; n++ {
		if n >= maxSteps || time.Since(began) > maxDuration {
			talk.Close()
			step = sasl.Step{Outcome: sasl.Temporary, Reason: "too many steps"}
			break
		}
		response, tooLong, err := c.Ask(step.Challenge)
		if err != nil {
			talk.Close()
			return login, "", err
		}
		if tooLong || response == "*" {
			talk.Close()
			a.service.log.Warnf("%s: SASL %.100s authentication aborted", t.NameAddr, t.Mechanism)
			if tooLong {
				return login, "500 5.5.6 Authentication response too long", nil
			}
			return login, "501 5.7.0 Authentication aborted", nil
		}
		step = a.next(ctx, talk, response)
	}
	if step.Outcome == sasl.Done {
		return envelope.Login{Method: maillog.Printable(t.Mechanism), Username: step.Username}, "235 2.7.0 Authentication successful", nil
	}
	return login, a.failed(t, step), nil
}

// maxDuration is how long one AUTH command may take with all its steps.
const maxDuration = 10 * time.Minute

func (a *Session) begin(ctx context.Context, t Attempt) (sasl.Conversation, sasl.Step) {
	fail := func(reason string) (sasl.Conversation, sasl.Step) {
		return nil, sasl.Step{Outcome: sasl.Failed, Reason: reason}
	}
	offered := false
	for _, m := range a.mechanisms {
		offered = offered || strings.EqualFold(m, t.Mechanism)
	}
	if !offered {
		return fail("Invalid authentication mechanism: '" + maillog.Printable(t.Mechanism) + "'")
	}
	if t.HasInitial && !sasl.ValidBase64(t.Initial) {
		return fail("Invalid base64 data in initial response")
	}
	return a.service.server.Begin(ctx, sasl.Request{
		Mechanism: strings.ToUpper(t.Mechanism), Initial: t.Initial, HasInitial: t.HasInitial,
		Service: a.service.cfg.Service, Peer: a.peer,
	})
}

func (a *Session) next(ctx context.Context, talk sasl.Conversation, response string) sasl.Step {
	if !sasl.ValidBase64(response) {
		talk.Close()
		return sasl.Step{Outcome: sasl.Failed, Reason: "Invalid base64 data in continued response"}
	}
	return talk.Next(ctx, response)
}

// failed logs a failure and is the reply about it.
func (a *Session) failed(t Attempt, step sasl.Step) string {
	reason, user := step.Reason, step.Username
	if reason == "" {
		reason = "(reason unavailable)"
	}
	if user == "" {
		user = "(unavailable)"
	}
	a.service.log.Warnf("%s: SASL %.100s authentication failed: %s, sasl_username=%.100s", t.NameAddr, t.Mechanism, reason, user)
	if step.Outcome == sasl.Temporary {
		return "454 4.7.0 Temporary authentication failure: " + reason
	}
	return "535 5.7.8 Error: authentication failed: " + reason
}
