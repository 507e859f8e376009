package mailtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"posthaste/internal/sys/maillog"
)

// Level is a security level, in the order of strength.
type Level uint8

const (
	LevelNone Level = iota
	LevelMay
	LevelEncrypt
	LevelFingerprint
	LevelDane
	LevelDaneOnly
	LevelVerify
	LevelSecure
)

var levelNames = [...]string{"none", "may", "encrypt", "fingerprint", "dane", "dane-only", "verify", "secure"}

func (l Level) String() string { return levelNames[l] }

// ParseLevel finds a level by name.
func ParseLevel(name string) (Level, bool) {
	for i, n := range levelNames {
		if strings.EqualFold(n, name) {
			return Level(i), true
		}
	}
	return LevelNone, false
}

// ClientConfig is the settings of the SMTP client that are not the policy for
// a destination (postconf(5); LMTP has its own names).
type ClientConfig struct {
	CAFile     string   `param:"smtp_tls_CAfile"`
	CAPath     string   `param:"smtp_tls_CApath"`
	AppendCA   bool     `param:"tls_append_default_CA"`
	ChainFiles []string `param:"smtp_tls_chain_files"`
	Cert       string   `param:"smtp_tls_cert_file"`
	Key        string   `param:"smtp_tls_key_file"`
	DSACert    string   `param:"smtp_tls_dcert_file"`
	DSAKey     string   `param:"smtp_tls_dkey_file"`
	ECCert     string   `param:"smtp_tls_eccert_file"`
	ECKey      string   `param:"smtp_tls_eckey_file"`
	Digest     string   `param:"smtp_tls_fingerprint_digest"`
	Depth      int      `param:"smtp_tls_scert_verifydepth"`
	LogLevel   int      `param:"smtp_tls_loglevel"`
	Cache      string   `param:"smtp_tls_session_cache_database"`
	ManyLabels bool     `param:"tls_wildcard_matches_multiple_labels"`
	Lists      CipherLists
}

// Policy is what is asked of one session.
type Policy struct {
	Level        Level
	Protocols    string
	Ciphers      string // grade
	Exclude      string
	Match        []string // names that the certificate may have, ".domain" for all below
	Fingerprints []string // of the certificate or its key
	ServerName   string   // SNI, "" for none
	TrustFiles   []string // authorities in the place of the configured ones
	Timeout      time.Duration
}

// Client is the client's side of TLS for one service. Safe for concurrent use.
type Client struct {
	cfg    ClientConfig
	log    *maillog.Logger
	deps   Deps
	store  *store // nil without a certificate of our own
	roots  *x509.CertPool
	digest digest
	cache  tls.ClientSessionCache

	mu    sync.Mutex
	noted map[string]bool // complaints that were made
}

// NewClient reads certificates. The error is a Problem when TLS cannot be
// used; its lines were logged.
func NewClient(cfg ClientConfig, d Deps) (*Client, error) {
	c := &Client{cfg: cfg, log: d.Log, deps: d.filled(), noted: map[string]bool{}}
	if err := c.open(); err != nil {
		warn(d.Log, err)
		return nil, err
	}
	if cfg.Cache != "" {
		c.cache = tls.NewLRUClientSessionCache(1000)
	}
	return c, nil
}

func (c *Client) open() (err error) {
	var ok bool
	if c.digest, ok = newDigest(c.cfg.Digest); !ok {
		return problem(fmt.Sprintf("Digest algorithm \"%s\" not found", c.cfg.Digest), "disabling TLS support")
	}
	if c.roots, err = (Authorities{File: c.cfg.CAFile, Path: c.cfg.CAPath, System: c.cfg.AppendCA}).pool(c.deps.OpenFile); err != nil {
		return err
	}
	files := Certificates{ChainFiles: c.cfg.ChainFiles}
	if len(files.ChainFiles) == 0 {
		files.Pairs = MakePairs(Pair{"RSA", c.cfg.Cert, c.cfg.Key}, Pair{"DSA", c.cfg.DSACert, c.cfg.DSAKey}, Pair{"ECDSA", c.cfg.ECCert, c.cfg.ECKey})
	}
	if files.empty() {
		return nil
	}
	c.store, err = newStore(files, c.deps)
	return err
}

// Handshake makes a TLS connection of conn. peer is "host[address]:port", for
// the log. The error is ErrHandshake, whose reason was logged; whether the
// certificate is the one that the policy wants is told by Info.Matched.
func (c *Client) Handshake(ctx context.Context, conn net.Conn, p Policy, peer string) (*tls.Conn, *Info, error) {
	config, err := c.config(p, peer)
	if err != nil {
		c.log.Warnf("%s: %v", peer, err)
		return nil, nil, ErrHandshake
	}
	if p.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Timeout)
		defer cancel()
	}
	_ = conn.SetDeadline(time.Time{})
	w := &watched{Conn: conn}
	t := tls.Client(w, config)
	if err := t.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		logFailure(c.log, "SSL_connect", "to "+peer, w.explain(err))
		return nil, nil, ErrHandshake
	}
	w.over = true
	info := c.describe(t.ConnectionState(), p, peer)
	if c.cfg.LogLevel >= 1 {
		c.log.Infof("%s", info.Summary("to", peer))
	}
	return t, &info, nil
}

// config makes the settings of crypto/tls. Certificates are looked at after
// the handshake, so that a connection with the wrong one can end politely.
func (c *Client) config(p Policy, peer string) (*tls.Config, error) {
	versions, note, err := ParseProtocols(p.Protocols)
	if err != nil {
		return nil, fmt.Errorf("Invalid TLS protocol list \"%s\": aborting TLS session", p.Protocols) //nolint:staticcheck // the words of the log
	}
	c.once(note)
	ids, note, err := c.cfg.Lists.choose(p.Ciphers, p.Exclude)
	if err != nil {
		return nil, err
	}
	c.once(note)
	if ids == nil {
		ids = []uint16{}
	}
	config := &tls.Config{
		MinVersion: versions.Min, MaxVersion: versions.Max, CipherSuites: ids, ServerName: p.ServerName,
		InsecureSkipVerify: true, ClientSessionCache: c.cache,
	}
	if c.store != nil {
		config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certs := c.store.certificates()
			for i := range certs {
				if r.SupportsCertificate(&certs[i]) == nil {
					return &certs[i], nil
				}
			}
			return new(tls.Certificate), nil
		}
	}
	return config, nil
}

// once logs a complaint about the configuration the first time.
func (c *Client) once(text string) {
	if text == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.noted[text] && len(c.noted) < 1000 {
		c.noted[text] = true
		c.log.Warnf("%s", text)
	}
}

func (c *Client) describe(state tls.ConnectionState, p Policy, peer string) Info {
	info := describeState(state)
	if len(state.PeerCertificates) == 0 {
		return info
	}
	leaf := state.PeerCertificates[0]
	info.describePeer(leaf, c.digest)
	if state.Version >= tls.VersionTLS13 && !state.DidResume {
		info.Server = signature(leaf.PublicKey, 0)
	}
	if p.Level == LevelFingerprint {
		c.compareFingerprints(&info, p, peer)
		return info
	}
	roots := c.roots
	if len(p.TrustFiles) > 0 {
		var err error
		if roots, err = (Authorities{More: p.TrustFiles}).pool(c.deps.OpenFile); err != nil {
			warn(c.log, err)
			return info
		}
	}
	err := verifyChain(state.PeerCertificates, roots, x509.ExtKeyUsageServerAuth, c.cfg.Depth)
	info.Trusted = err == nil
	if p.Level < LevelVerify {
		return info
	}
	if err != nil {
		c.log.Infof("%s", verifyLine(leaf, err, peer))
		return info
	}
	if info.Matched = matches(leaf, p.Match, c.cfg.ManyLabels); !info.Matched {
		info.Trusted = false
		c.log.Infof("server certificate verification failed for %s: num=62:hostname mismatch", peer)
	}
	return info
}

// compareFingerprints is verification at level fingerprint.
func (c *Client) compareFingerprints(info *Info, p Policy, peer string) {
	cert, _ := parseFingerprint(info.Fingerprint)
	key, _ := parseFingerprint(info.PublicKey)
	usable := false
	for _, text := range p.Fingerprints {
		want, ok := parseFingerprint(text)
		if !ok || len(want) != c.digest.size() {
			c.log.Warnf("%s: unusable fingerprint: %.200s", peer, text)
			continue
		}
		usable = true
		if bytes.Equal(want, cert) || bytes.Equal(want, key) {
			info.Trusted, info.Matched = true, true
			return
		}
	}
	if !usable {
		c.log.Warnf("%s: all fingerprints unusable", peer)
	}
	c.log.Infof("server certificate verification failed for %s: num=1:unspecified certificate verification error", peer)
}
