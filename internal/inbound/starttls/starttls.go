// Package starttls is TLS of a service that SMTP clients connect to: whether
// it is offered, demanded or there from the first byte, and the handshake
// (TLS_README).
//
// A Service belongs to one configuration. It promises Postfix's reading of the
// security level, and that a service whose certificates cannot be read still
// answers its clients, with 454, and tries again later. smtpd calls it; how TLS
// itself works is in package mailtls.
package starttls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"posthaste/internal/table"
	"posthaste/internal/wire/mailtls"
)

// Config is what a service reads of main.cf about TLS (postconf(5)).
type Config struct {
	Level      string `param:"smtpd_tls_security_level"`
	UseTLS     bool   `param:"smtpd_use_tls"`
	EnforceTLS bool   `param:"smtpd_enforce_tls"`
	Wrapper    bool   `param:"smtpd_tls_wrappermode"`
	SNIMaps    string `param:"tls_server_sni_maps"`
	Server     mailtls.ServerConfig
}

// Service is TLS for one service. Safe for concurrent use.
type Service struct {
	cfg      Config
	deps     mailtls.Deps
	offered  bool
	required bool
	sni      *table.Maps

	mu     sync.Mutex
	server *mailtls.Server
	tried  time.Time
}

// retry is how long a service whose certificates cannot be read waits before
// it looks again.
const retry = time.Minute

// Open makes a service. The error is fatal for it. Certificates are read when
// the first client comes.
func Open(cfg Config, o *table.Opener, d mailtls.Deps) (*Service, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Service{cfg: cfg, deps: d, offered: cfg.UseTLS || cfg.EnforceTLS, required: cfg.EnforceTLS}
	if cfg.Level != "" {
		level, ok := mailtls.ParseLevel(cfg.Level)
		if !ok {
			return nil, fmt.Errorf("Invalid TLS level \"%s\"", cfg.Level) //nolint:staticcheck // the words of the log
		}
		if level > mailtls.LevelEncrypt {
			d.Log.Warnf("smtpd_tls_security_level: unsupported TLS level \"%s\", using \"encrypt\"", cfg.Level)
		}
		s.offered, s.required = level >= mailtls.LevelMay, level >= mailtls.LevelEncrypt
	}
	if cfg.Wrapper {
		s.offered, s.required = true, true
	}
	s.cfg.Server.Mandatory, s.cfg.Server.Wrapped = s.required, cfg.Wrapper
	s.sni = o.Maps("tls_server_sni_maps", cfg.SNIMaps, table.Use{Fold: true, FileValues: true})
	return s, nil
}

// Close closes tables.
func (s *Service) Close() error { return s.sni.Close() }

// Offered reports whether clients may use TLS.
func (s *Service) Offered() bool { return s.offered }

// Required reports whether clients must use TLS.
func (s *Service) Required() bool { return s.required }

// Wrapped reports whether sessions begin with TLS.
func (s *Service) Wrapped() bool { return s.cfg.Wrapper }

// Received reports whether the Received header tells about TLS.
func (s *Service) Received() bool { return s.cfg.Server.Received }

// Ready reports whether a handshake can succeed; the reason why not was
// logged.
func (s *Service) Ready() bool { return s.get() != nil }

func (s *Service) get() *mailtls.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.deps.Now()
	if s.server != nil || !s.offered || !s.tried.IsZero() && now.Sub(s.tried) < retry {
		return s.server
	}
	s.tried = now
	var names mailtls.SNI
	if !s.sni.Empty() {
		names = s.sni.Lookup
	}
	s.server, _ = mailtls.NewServer(s.cfg.Server, names, s.deps)
	return s.server
}

// Handshake makes a TLS connection of conn; client is "name[address]". The
// error was logged.
func (s *Service) Handshake(ctx context.Context, conn net.Conn, client string) (*tls.Conn, *mailtls.Info, error) {
	server := s.get()
	if server == nil {
		return nil, nil, errors.New("TLS is not available")
	}
	return server.Handshake(ctx, conn, client)
}

// Untrusted is why a client is turned away after the handshake, "" if it is
// not: a certificate was demanded (postconf(5) smtpd_tls_req_ccert).
func (s *Service) Untrusted(info *mailtls.Info) string {
	switch {
	case !s.required || !s.cfg.Server.Require || info.Trusted:
		return ""
	case info.HasCertificate:
		return "Client certificate not trusted"
	}
	return "No client certificate presented"
}
