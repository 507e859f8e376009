package sasl

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
)

// The prompts of LOGIN, and limits of saslauthd(8).
const (
	promptUser     = "VXNlcm5hbWU6"
	promptPassword = "UGFzc3dvcmQ6"
	maxCredential  = 1024
)

// Saslauthd asks saslauthd(8) whether a password is right. It knows the
// mechanisms PLAIN (RFC 4616) and LOGIN.
type Saslauthd struct {
	socket string // the "mux" of saslauthd
	realm  string
	log    *maillog.Logger
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewSaslauthd makes a client of the daemon behind a socket. realm is given to
// user names without one (smtpd_sasl_local_domain).
func NewSaslauthd(socket, realm string, log *maillog.Logger) *Saslauthd {
	return &Saslauthd{socket: socket, realm: realm, log: log, dial: new(net.Dialer).DialContext}
}

// Mechanisms implements Authenticator; the daemon itself is not asked.
func (s *Saslauthd) Mechanisms(context.Context) ([]Mechanism, error) {
	return []Mechanism{{"PLAIN", Plaintext}, {"LOGIN", Plaintext}}, nil
}

// Close implements Authenticator.
func (s *Saslauthd) Close() error { return nil }

// Begin implements Authenticator.
func (s *Saslauthd) Begin(ctx context.Context, r Request) (Conversation, Step) {
	talk := &passwordTalk{server: s, service: r.Service, login: r.Mechanism == "LOGIN"}
	var step Step
	switch {
	case r.HasInitial:
		step = talk.Next(ctx, r.Initial)
	case talk.login:
		step = Step{Outcome: More, Challenge: promptUser}
	default:
		step = Step{Outcome: More}
	}
	if step.Outcome != More {
		return nil, step
	}
	return talk, step
}

// passwordTalk collects user name and password.
type passwordTalk struct {
	server  *Saslauthd
	service string
	login   bool
	user    string // of LOGIN, once it is known
	hasUser bool
}

// Close implements Conversation.
func (t *passwordTalk) Close() {}

// Next implements Conversation.
func (t *passwordTalk) Next(ctx context.Context, response string) Step {
	raw, err := base64.StdEncoding.DecodeString(response)
	if err != nil || len(raw) > 3*maxCredential {
		return Step{Outcome: Failed, Reason: "bad protocol / cancel"}
	}
	text := string(raw)
	if t.login && !t.hasUser {
		t.user, t.hasUser = text, true
		return Step{Outcome: More, Challenge: promptPassword}
	}
	password := text
	if !t.login {
		parts := strings.Split(text, "\x00")
		if len(parts) != 3 || parts[1] == "" || parts[0] != "" && parts[0] != parts[1] {
			return Step{Outcome: Failed, Reason: "bad protocol / cancel"}
		}
		t.user, password = parts[1], parts[2]
	}
	return t.server.check(ctx, t.user, password, t.service)
}

// check asks the daemon.
func (s *Saslauthd) check(ctx context.Context, user, password, service string) Step {
	login, realm, _ := strings.Cut(user, "@")
	if realm == "" {
		realm = s.realm
	}
	for _, field := range []string{user, password} {
		if field == "" || len(field) > maxCredential || strings.IndexByte(field, 0) >= 0 {
			return Step{Outcome: Failed, Reason: "authentication failure", Username: maillog.Printable(user)}
		}
	}
	answer, err := s.ask(ctx, [4]string{login, password, service, realm})
	switch {
	case err != nil:
		s.log.Warnf("SASL: saslauthd at %s: %s", s.socket, strerror.Text(err))
		return Step{Outcome: Temporary, Reason: "generic failure"}
	case answer == "OK" || strings.HasPrefix(answer, "OK "):
		name := login
		if realm != "" {
			name += "@" + realm
		}
		return Step{Outcome: Done, Username: maillog.Printable(name)}
	case !strings.HasPrefix(answer, "NO"):
		s.log.Warnf("SASL: saslauthd at %s: unexpected answer: %.100s", s.socket, answer)
		return Step{Outcome: Temporary, Reason: "generic failure"}
	}
	return Step{Outcome: Failed, Reason: "authentication failure", Username: maillog.Printable(user)}
}

// ask sends four counted strings and reads one.
func (s *Saslauthd) ask(ctx context.Context, fields [4]string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	conn, err := s.dial(ctx, "unix", s.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var request []byte
	for _, f := range fields {
		request = binary.BigEndian.AppendUint16(request, uint16(len(f)))
		request = append(request, f...)
	}
	if _, err := conn.Write(request); err != nil {
		return "", err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	return string(answer), nil
}
