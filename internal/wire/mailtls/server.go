package mailtls

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"posthaste/internal/sys/maillog"
)

// ServerConfig is the settings of one service (postconf(5)).
type ServerConfig struct {
	Protocols          string `param:"smtpd_tls_protocols"`
	MandatoryProtocols string `param:"smtpd_tls_mandatory_protocols"`
	Ciphers            string `param:"smtpd_tls_ciphers"`
	MandatoryCiphers   string `param:"smtpd_tls_mandatory_ciphers"`
	Exclude            string `param:"smtpd_tls_exclude_ciphers"`
	MandatoryExclude   string `param:"smtpd_tls_mandatory_exclude_ciphers"`
	Lists              CipherLists

	ChainFiles []string      `param:"smtpd_tls_chain_files"`
	Cert       string        `param:"smtpd_tls_cert_file"`
	Key        string        `param:"smtpd_tls_key_file"`
	DSACert    string        `param:"smtpd_tls_dcert_file"`
	DSAKey     string        `param:"smtpd_tls_dkey_file"`
	ECCert     string        `param:"smtpd_tls_eccert_file"`
	ECKey      string        `param:"smtpd_tls_eckey_file"`
	CAFile     string        `param:"smtpd_tls_CAfile"`
	CAPath     string        `param:"smtpd_tls_CApath"`
	AppendCA   bool          `param:"tls_append_default_CA"`
	Ask        bool          `param:"smtpd_tls_ask_ccert"`
	Require    bool          `param:"smtpd_tls_req_ccert"`
	Depth      int           `param:"smtpd_tls_ccert_verifydepth"`
	Digest     string        `param:"smtpd_tls_fingerprint_digest"`
	LogLevel   int           `param:"smtpd_tls_loglevel"`
	TicketTime time.Duration `param:"smtpd_tls_session_cache_timeout"`
	Timeout    time.Duration `param:"smtpd_starttls_timeout"`
	Received   bool          `param:"smtpd_tls_received_header"`
	SSLOptions string        `param:"tls_ssl_options"`

	// Mandatory is a service that does nothing without TLS.
	Mandatory bool
	// Wrapped is a service that begins with TLS.
	Wrapped bool
}

// SNI finds the key and certificates, in PEM, for a name that a client asks
// for (postconf(5) tls_server_sni_maps).
type SNI func(ctx context.Context, name string) (chain string, found bool, err error)

// Server is the server's side of TLS for one service. Safe for concurrent use.
type Server struct {
	cfg    ServerConfig
	log    *maillog.Logger
	store  *store
	roots  *x509.CertPool
	digest digest
	sni    SNI
	config *tls.Config
	grade  string // a cipher grade that does not exist

	mu     sync.Mutex
	chains map[string][]tls.Certificate // of SNI, by their text
}

// NewServer reads certificates and lists. The error is a Problem when TLS
// cannot be used; its lines were logged.
func NewServer(cfg ServerConfig, sni SNI, d Deps) (*Server, error) {
	s := &Server{cfg: cfg, log: d.Log, sni: sni, chains: map[string][]tls.Certificate{}}
	err := s.open(d.filled())
	if err != nil {
		warn(d.Log, err)
		return nil, err
	}
	return s, nil
}

func (s *Server) open(d Deps) (err error) {
	c := &s.cfg
	if c.Ask = c.Ask || c.Require && c.Mandatory; c.Require && !c.Mandatory {
		s.log.Warnf("Can't require client certs unless TLS is required")
	}
	files := s.files()
	switch {
	case files.empty() && strings.EqualFold(c.Cert, "none"):
		return problem("smtpd_tls_cert_file = none: ciphers without certificates are not available: disabling TLS support")
	case files.empty():
		if c.Ask {
			s.log.Warnf("Need a server cert to request client certs")
		}
		return problem("No server certs available. TLS won't be enabled")
	}
	var ok bool
	if s.digest, ok = newDigest(c.Digest); !ok {
		return problem(fmt.Sprintf("Digest algorithm \"%s\" not found", c.Digest), "disabling TLS support")
	}
	if s.roots, err = (Authorities{File: c.CAFile, Path: c.CAPath, System: c.AppendCA}).pool(d.OpenFile); err != nil {
		return err
	}
	if s.config, err = s.base(); err != nil {
		return err
	}
	s.store, err = newStore(files, d)
	return err
}

// files are the certificate files in use.
func (s *Server) files() Certificates {
	c := &s.cfg
	pairs := MakePairs(Pair{"RSA", c.Cert, c.Key}, Pair{"DSA", c.DSACert, c.DSAKey}, Pair{"ECDSA", c.ECCert, c.ECKey})
	if len(c.ChainFiles) == 0 {
		return Certificates{Pairs: pairs}
	}
	if len(pairs) > 0 {
		s.log.Warnf("Both smtpd_tls_chain_files and one or more of the legacy  smtpd_tls_cert_file, " +
			"smtpd_tls_eccert_file or smtpd_tls_dcert_file are non-empty; the legacy  parameters will be ignored")
	}
	return Certificates{ChainFiles: c.ChainFiles}
}

// base is the part of the configuration of crypto/tls that all sessions share:
// it makes and changes the keys of session tickets by itself.
func (s *Server) base() (*tls.Config, error) {
	c := &s.cfg
	protocols, grade, exclude := c.Protocols, c.Ciphers, c.Exclude
	if c.Mandatory {
		protocols, grade, exclude = c.MandatoryProtocols, c.MandatoryCiphers, c.Exclude+" "+c.MandatoryExclude
	}
	versions, note, err := ParseProtocols(protocols)
	if err != nil {
		return nil, problem(fmt.Sprintf("Invalid TLS protocol list \"%s\": disabling TLS support", protocols))
	}
	if note != "" {
		s.log.Warnf("TLS protocol list \"%s\": %s", protocols, note)
	}
	ids, note, err := c.Lists.choose(grade, exclude)
	if err != nil {
		s.grade = grade
	}
	if note != "" && (ids != nil || versions.Max < tls.VersionTLS13) {
		s.log.Warnf("%s", note)
	}
	if ids == nil {
		ids = []uint16{} // none, where nil were crypto/tls's own choice
	}
	config := &tls.Config{
		MinVersion: versions.Min, MaxVersion: versions.Max, CipherSuites: ids, GetCertificate: s.certificate,
		SessionTicketsDisabled: c.TicketTime <= 0 || strings.Contains(strings.ToUpper(c.SSLOptions), "NO_TICKET"),
	}
	if c.Ask {
		config.ClientAuth = tls.RequestClientCert
	}
	return config, nil
}

// Config is the settings of the server.
func (s *Server) Config() *ServerConfig { return &s.cfg }

// note travels with a handshake and collects what crypto/tls does not tell.
type note struct {
	key  crypto.PublicKey
	hash crypto.Hash
	sni  string
}

type noteKey struct{}

// certificate chooses a certificate for a handshake.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certs := s.store.certificates()
	n, _ := hello.Context().Value(noteKey{}).(*note)
	if hello.ServerName != "" && s.sni != nil {
		named, err := s.named(hello.Context(), hello.ServerName)
		if err != nil {
			return nil, err
		}
		if named != nil {
			certs = named
			if n != nil {
				n.sni = hello.ServerName
			}
		}
	}
	chosen := &certs[0]
	for i := range certs {
		if hello.SupportsCertificate(&certs[i]) == nil {
			chosen = &certs[i]
			break
		}
	}
	if n == nil {
		return chosen, nil
	}
	return n.watch(chosen), nil
}

// watch makes a certificate whose signature is noted.
func (n *note) watch(cert *tls.Certificate) *tls.Certificate {
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return cert
	}
	n.key = signer.Public()
	watched := *cert
	if decrypter, ok := cert.PrivateKey.(crypto.Decrypter); ok {
		watched.PrivateKey = watchedDecrypter{watchedSigner{signer, n}, decrypter}
	} else {
		watched.PrivateKey = watchedSigner{signer, n}
	}
	return &watched
}

// watchedSigner notes the hash of the signature.
type watchedSigner struct {
	crypto.Signer
	note *note
}

func (w watchedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	w.note.hash = opts.HashFunc()
	return w.Signer.Sign(rand, digest, opts)
}

type watchedDecrypter struct {
	watchedSigner
	decrypter crypto.Decrypter
}

func (w watchedDecrypter) Decrypt(rand io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return w.decrypter.Decrypt(rand, msg, opts)
}

// maxChains is how many chains of SNI are remembered in parsed form.
const maxChains = 256

// named finds certificates for a name: its own, or those of ".parent".
func (s *Server) named(ctx context.Context, name string) ([]tls.Certificate, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for key := name; ; {
		chain, found, err := s.sni(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("SNI lookup of %s: %w", name, err)
		}
		if found {
			return s.chain(name, chain)
		}
		dot := strings.IndexByte(key[min(1, len(key)):], '.')
		if dot < 0 {
			return nil, nil
		}
		key = key[1+dot:]
	}
}

func (s *Server) chain(name, text string) ([]tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if certs := s.chains[text]; certs != nil {
		return certs, nil
	}
	certs, err := ParseChain([]byte(text))
	if err != nil {
		s.log.Warnf("error loading private keys and certificates from: SNI data for %s: %v", name, err)
		return nil, fmt.Errorf("SNI data for %s: %w", name, err)
	}
	if len(s.chains) >= maxChains {
		clear(s.chains)
	}
	s.chains[text] = certs
	return certs, nil
}

// ErrHandshake is a handshake that failed; why was logged.
var ErrHandshake = errors.New("TLS handshake failed")

// Handshake makes a TLS connection of conn within the time limit. client is
// "name[address]", for the log. The error is ErrHandshake, and conn is of no
// more use then.
func (s *Server) Handshake(ctx context.Context, conn net.Conn, client string) (*tls.Conn, *Info, error) {
	if s.cfg.LogLevel >= 2 {
		s.log.Infof("setting up TLS connection from %s", client)
	}
	if s.grade != "" {
		s.log.Warnf("%s: invalid cipher grade: \"%s\"", client, s.grade)
		return nil, nil, ErrHandshake
	}
	if s.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
	}
	n := &note{}
	_ = conn.SetDeadline(time.Time{})
	w := &watched{Conn: conn}
	c := tls.Server(w, s.config)
	if err := c.HandshakeContext(context.WithValue(ctx, noteKey{}, n)); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		logFailure(s.log, "SSL_accept", "from "+client, w.explain(err))
		return nil, nil, ErrHandshake
	}
	w.over = true
	info := s.describe(c.ConnectionState(), n)
	if s.cfg.LogLevel >= 1 {
		s.log.Infof("%s", info.Summary("from", client))
	}
	if info.HasCertificate && s.cfg.LogLevel >= 2 {
		s.log.Infof("%s: subject_CN=%s, issuer=%s, fingerprint=%s, pkey_fingerprint=%s",
			client, info.Subject, info.Issuer, info.Fingerprint, info.PublicKey)
	}
	return c, &info, nil
}

func (s *Server) describe(state tls.ConnectionState, n *note) Info {
	info := describeState(state)
	info.Requested, info.ServerName = s.cfg.Ask, n.sni
	if state.Version >= tls.VersionTLS13 && n.key != nil {
		info.Server = signature(n.key, n.hash)
	}
	if len(state.PeerCertificates) == 0 {
		return info
	}
	leaf := state.PeerCertificates[0]
	info.describePeer(leaf, s.digest)
	if state.Version >= tls.VersionTLS13 && !state.DidResume {
		info.Client = signature(leaf.PublicKey, 0)
	}
	err := verifyChain(state.PeerCertificates, s.roots, x509.ExtKeyUsageClientAuth, s.cfg.Depth)
	info.Trusted = err == nil
	return info
}
