package mailtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/mailtls/tlstest"
)

var lists = mailtls.CipherLists{High: "HIGH", Medium: "HIGH:MEDIUM:!RC4:!3DES"}

func serverConfig() mailtls.ServerConfig {
	return mailtls.ServerConfig{
		Protocols: ">=TLSv1", MandatoryProtocols: ">=TLSv1", Ciphers: "medium", MandatoryCiphers: "medium", Lists: lists,
		Digest: "sha256", Depth: 9, LogLevel: 1, TicketTime: time.Hour, Timeout: 10 * time.Second,
	}
}

func clientConfig() mailtls.ClientConfig {
	return mailtls.ClientConfig{Digest: "sha256", Depth: 9, LogLevel: 1, Lists: lists, ManyLabels: true}
}

func policy(level mailtls.Level) mailtls.Policy {
	return mailtls.Policy{Level: level, Protocols: ">=TLSv1", Ciphers: "medium", Timeout: 10 * time.Second}
}

func deps(log *maillog.Memory) mailtls.Deps {
	return mailtls.Deps{Log: maillog.New(log, "log", 1, nil)}
}

// pipe is a TCP connection of this host.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// accept has s shake hands with what talk does at the other end.
func accept(t *testing.T, s *mailtls.Server, talk func(net.Conn)) (*mailtls.Info, error) {
	t.Helper()
	client, server := pipe(t)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); talk(client) }()
	c, info, err := s.Handshake(t.Context(), server, "c.example[192.0.2.9]")
	if err == nil {
		// Read what belongs to the handshake still: alerts of the client.
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Read(make([]byte, 1))
		c.Close()
	} else {
		server.Close()
	}
	wg.Wait()
	return info, err
}

func dialer(config *tls.Config, state *tls.ConnectionState) func(net.Conn) {
	return func(c net.Conn) {
		config.InsecureSkipVerify = true
		t := tls.Client(c, config)
		if t.Handshake() == nil {
			if state != nil {
				*state = t.ConnectionState()
			}
			// A server sends its tickets before anything else.
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = t.Read(make([]byte, 1))
		}
		t.Close()
	}
}

func newServer(t *testing.T, c mailtls.ServerConfig, sni mailtls.SNI, d mailtls.Deps) *mailtls.Server {
	t.Helper()
	s, err := mailtls.NewServer(c, sni, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServerHandshakes(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "mail.example.com"})
	old := tlstest.New(t, tlstest.Leaf{Name: "rsa.example.com", RSA: true})
	c := serverConfig()
	c.Cert, c.Key = tlstest.Write(t, "cert.pem", old.Chain), tlstest.Write(t, "key.pem", old.PEM)
	c.ECCert = tlstest.Write(t, "ec.pem", leaf.Chain, leaf.PEM)
	log := &maillog.Memory{}
	s := newServer(t, c, nil, deps(log))
	for name, config := range map[string]*tls.Config{
		"TLSv1.3 with cipher TLS_": {CurvePreferences: []tls.CurveID{tls.X25519}},
		"key-exchange secp256r1 server-signature ECDSA (prime256v1) server-digest SHA256": {CurvePreferences: []tls.CurveID{tls.CurveP256}},
		"TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits)":                  {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}},
		"TLSv1.2 with cipher AES128-SHA (128/128 bits)":                                   {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}},
		"TLSv1 with cipher ECDHE-ECDSA-AES128-SHA (128/128 bits)":                         {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}},
	} {
		info, err := accept(t, s, dialer(config, nil))
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, log)
		}
		if line := info.Summary("from", "c"); !strings.HasPrefix(line, "Anonymous TLS connection established from c: TLSv1") || !strings.Contains(line, name) {
			t.Errorf("%s: %s", name, line)
		}
	}
	if !strings.Contains(log.String(), "Anonymous TLS connection established from c.example[192.0.2.9]: TLSv1.3") {
		t.Errorf("log: %s", log)
	}
}

func TestServerFailures(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "mail.example.com"})
	c := serverConfig()
	c.Protocols = ">=TLSv1.2"
	c.Cert = tlstest.Write(t, "both.pem", leaf.Chain, leaf.PEM)
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) { io.WriteString(c, text); io.Copy(io.Discard, c) }
	}
	for want, talk := range map[string]func(net.Conn){
		"routines::wrong version number:../ssl/record/ssl3_record.c:350:": say("RCPT TO:<x@y.example>\r\n"),
		"error:0A00009C:SSL routines::http request:":                      say("GET / HTTP/1.0\r\n\r\n"),
		"error:0A0000C1:SSL routines::no shared cipher:":                  dialer(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, nil),
		"error:0A000102:SSL routines::unsupported protocol:":              dialer(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil),
		"SSL alert number 42:": func(c net.Conn) {
			t := tls.Client(c, &tls.Config{MaxVersion: tls.VersionTLS12, ServerName: "x", RootCAs: x509.NewCertPool()})
			_ = t.Handshake()
		},
		"SSL_accept error from c.example[192.0.2.9]: lost connection": func(c net.Conn) { c.Close() },
	} {
		log := &maillog.Memory{}
		_, err := accept(t, newServer(t, c, nil, deps(log)), talk)
		if !errors.Is(err, mailtls.ErrHandshake) || !strings.Contains(log.String(), want) {
			t.Errorf("%s: %v\n%s", want, err, log)
		}
	}
	c.Timeout = 20 * time.Millisecond
	log := &maillog.Memory{}
	_, err := accept(t, newServer(t, c, nil, deps(log)), func(c net.Conn) { io.Copy(io.Discard, c) })
	if err == nil || !strings.Contains(log.String(), "SSL_accept error from c.example[192.0.2.9]: Connection timed out") {
		t.Errorf("silence: %v\n%s", err, log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, conn := pipe(t)
	if _, _, err := newServer(t, c, nil, deps(log)).Handshake(ctx, conn, "c"); err == nil {
		t.Error("a handshake after the end")
	}
}

func TestServerWithoutCertificates(t *testing.T) {
	t.Parallel()
	leaf, other := tlstest.New(t, tlstest.Leaf{Name: "a"}), tlstest.New(t, tlstest.Leaf{Name: "b"})
	dir := t.TempDir()
	file := func(name string, texts ...string) string { return tlstest.Write(t, filepath.Join(dir, name), texts...) }
	cert, key, otherKey := file("cert", leaf.Chain), file("key", leaf.PEM), file("other", other.PEM)
	text, missing := file("text", "hello\n"), filepath.Join(dir, "missing")
	for _, c := range []struct {
		change func(*mailtls.ServerConfig)
		want   string
	}{
		{func(c *mailtls.ServerConfig) {}, "warning: No server certs available. TLS won't be enabled"},
		{func(c *mailtls.ServerConfig) { c.Cert = "none" }, "warning: smtpd_tls_cert_file = none: "},
		{func(c *mailtls.ServerConfig) { c.Cert = missing }, "warning: error opening chain file: " + missing + ": No such file or directory"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key = missing, key }, "warning: cannot get RSA certificate from file \"" + missing + "\": disabling TLS support\n" +
			"warning: TLS library problem: error:80000002:system library::No such file or directory:../crypto/bio/bss_file.c:297:calling fopen(" + missing + ", r):"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key = cert, missing }, "warning: cannot get RSA private key from file \"" + missing},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key = cert, otherKey }, "key values mismatch"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key = cert, text }, "warning: cannot get RSA private key from file \"" + text},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key = text, key }, "PEM routines::no start line"},
		{func(c *mailtls.ServerConfig) { c.Cert = text }, "warning: No PEM data in " + text + "\nwarning: error loading private keys and certificates from: " + text + ": disabling TLS support"},
		{func(c *mailtls.ServerConfig) { c.Cert = key }, "warning: No certs for key at index 1 in " + key},
		{func(c *mailtls.ServerConfig) { c.Cert = cert }, "key not first"},
		{func(c *mailtls.ServerConfig) { c.ECCert, c.ECKey = missing, key }, "cannot get ECDSA certificate"},
		{func(c *mailtls.ServerConfig) { c.ChainFiles = []string{cert} }, "warning: error loading chain from " + cert + ": key not first"},
		{func(c *mailtls.ServerConfig) { c.ChainFiles = []string{key} }, "warning: No certs for key at index 1 in " + key},
		{func(c *mailtls.ServerConfig) { c.ChainFiles = []string{text} }, "warning: No PEM data in " + text},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key, c.ChainFiles = cert, key, []string{text} }, "the legacy  parameters will be ignored"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key, c.CAFile = cert, key, missing }, "cannot load Certification Authority data, CAfile=\"" + missing + "\": disabling TLS support"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key, c.CAFile = cert, key, text }, "no certificate or crl found"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key, c.Digest = cert, key, "bogus" }, "warning: Digest algorithm \"bogus\" not found\nwarning: disabling TLS support"},
		{func(c *mailtls.ServerConfig) { c.Cert, c.Key, c.Protocols = cert, key, "bogus" }, "warning: Invalid TLS protocol list \"bogus\": disabling TLS support"},
	} {
		config := serverConfig()
		c.change(&config)
		log := &maillog.Memory{}
		_, err := mailtls.NewServer(config, nil, deps(log))
		if text := strings.ReplaceAll(log.String(), "log: ", ""); err == nil || !strings.Contains(text, c.want) {
			t.Errorf("want %s\ngot %v\n%s", c.want, err, text)
		}
	}
}

// A certificate that is replaced is used without anybody being told; one that
// is replaced by nonsense is not.
func TestCertificatesFollowTheirFiles(t *testing.T) {
	t.Parallel()
	first, second := tlstest.New(t, tlstest.Leaf{Name: "first"}), tlstest.New(t, tlstest.Leaf{Name: "second"})
	path := tlstest.Write(t, "both.pem", first.Chain, first.PEM)
	var mu sync.Mutex
	now := time.Now()
	log := &maillog.Memory{}
	d := deps(log)
	d.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	c := serverConfig()
	c.Cert = path
	s := newServer(t, c, nil, d)
	check := func(when, want string) {
		t.Helper()
		var state tls.ConnectionState
		if _, err := accept(t, s, dialer(&tls.Config{}, &state)); err != nil || state.PeerCertificates[0].Subject.CommonName != want {
			t.Fatalf("%s: %v %v", when, err, state.PeerCertificates)
		}
	}
	later := func() { mu.Lock(); now = now.Add(time.Minute); mu.Unlock() }
	check("at first", "first")
	tlstest.Write(t, path+".new", second.Chain, second.PEM)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	check("at once", "first")
	later()
	check("later", "second")
	for _, broken := range []string{"half there", second.Chain, ""} {
		tlstest.Write(t, path, broken)
		later()
		check("broken", "second")
		later()
		check("still broken", "second")
	}
	os.Remove(path)
	later()
	check("gone", "second")
	if n := strings.Count(log.String(), "stay in use"); n < 3 || n > 4 {
		t.Errorf("%d complaints: %s", n, log)
	}
	tlstest.Write(t, path, first.Chain, first.PEM)
	later()
	check("mended", "first")
}

func TestSNI(t *testing.T) {
	t.Parallel()
	main, named := tlstest.New(t, tlstest.Leaf{Name: "main"}), tlstest.New(t, tlstest.Leaf{Name: "named"})
	c := serverConfig()
	c.Cert = tlstest.Write(t, "both.pem", main.Chain, main.PEM)
	sni := func(_ context.Context, name string) (string, bool, error) {
		switch name {
		case "one.example", ".wild.example":
			return named.PEM + named.Chain, true, nil
		case "broken.example":
			return "nonsense", true, nil
		case "down.example":
			return "", false, errors.New("down")
		}
		return "", false, nil
	}
	log := &maillog.Memory{}
	s := newServer(t, c, sni, deps(log))
	for name, want := range map[string]string{
		"one.example": "named", "ONE.example": "named", "a.b.wild.example": "named", "wild.example": "main", "other.example": "main", "": "main",
		"broken.example": "", "down.example": "",
	} {
		var state tls.ConnectionState
		info, err := accept(t, s, dialer(&tls.Config{ServerName: name}, &state))
		if want == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil || state.PeerCertificates[0].Subject.CommonName != want || (info.ServerName != "") != (want == "named") {
			t.Errorf("%s: %v %+v", name, err, info)
		}
	}
	if !strings.Contains(log.String(), "established from c.example[192.0.2.9] to one.example: TLSv1.3") {
		t.Errorf("log: %s", log)
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t, tlstest.Leaf{Name: "ca", Authority: true})
	leaf := tlstest.New(t, tlstest.Leaf{Name: "c.example", Issuer: ca})
	stray := tlstest.New(t, tlstest.Leaf{Name: "stray \"(", RSA: true})
	main := tlstest.New(t, tlstest.Leaf{Name: "main", RSA: true})
	c := serverConfig()
	c.Cert = tlstest.Write(t, "both.pem", main.Chain, main.PEM)
	c.CAFile, c.Ask = tlstest.Write(t, "ca.pem", ca.Chain), true
	s := newServer(t, c, nil, deps(&maillog.Memory{}))
	present := func(cert *tlstest.Cert) func(net.Conn) {
		pair, err := tls.X509KeyPair([]byte(cert.Chain), []byte(cert.PEM))
		if err != nil {
			t.Fatal(err)
		}
		return dialer(&tls.Config{Certificates: []tls.Certificate{pair}, CurvePreferences: []tls.CurveID{tls.X25519}}, nil)
	}
	info, err := accept(t, s, present(leaf))
	if err != nil || !info.Trusted || info.Subject != "c.example" || info.Issuer != "ca" || len(info.Fingerprint) != 95 || info.PublicKey == info.Fingerprint {
		t.Errorf("trusted: %v %+v", err, info)
	}
	want := "(using TLSv1.3 with cipher #|" +
		" key-exchange x25519 server-signature RSA-PSS (2048 bits) server-digest SHA256|" +
		" client-signature ECDSA (prime256v1) client-digest SHA256)|" +
		"(Client CN \"c.example\", Issuer \"ca\" (verified OK))"
	lines := info.Received()
	lines[0] = strings.Replace(lines[0], info.Cipher+fmt.Sprintf(" (%d/%d bits)", info.Bits, info.AlgBits), "#", 1)
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	info, err = accept(t, s, present(stray))
	if err != nil || info.Trusted || !strings.Contains(strings.Join(info.Received(), "|"), "(Client CN \"stray ??\", Issuer \"stray ??\" (not verified))") {
		t.Errorf("stray: %v %+v", err, info)
	}
	info, err = accept(t, s, dialer(&tls.Config{}, nil))
	if err != nil || info.HasCertificate || info.Received()[2] != "(Client did not present a certificate)" {
		t.Errorf("none: %v %+v", err, info)
	}
}

func TestResumption(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "mail.example.com"})
	c := serverConfig()
	c.Cert = tlstest.Write(t, "both.pem", leaf.Chain, leaf.PEM)
	for _, time := range []time.Duration{0, time.Hour} {
		c.TicketTime = time
		log := &maillog.Memory{}
		s := newServer(t, c, nil, deps(log))
		config := &tls.Config{ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for range 2 {
			if _, err := accept(t, s, dialer(config, nil)); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Contains(log.String(), "TLS connection reused"); got != (time > 0) {
			t.Errorf("%v: reused %v\n%s", time, got, log)
		}
	}
}

//lint:ignore ST1008 the log belongs to the error
func connect(t *testing.T, c mailtls.ClientConfig, p mailtls.Policy, cert *tlstest.Cert) (*mailtls.Info, error, string) {
	t.Helper()
	log := &maillog.Memory{}
	client, err := mailtls.NewClient(c, deps(log))
	if err != nil {
		return nil, err, log.String()
	}
	near, far := pipe(t)
	pair, err := tls.X509KeyPair([]byte(cert.Chain), []byte(cert.PEM))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		s := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, CurvePreferences: []tls.CurveID{tls.X25519}})
		_ = s.Handshake()
		s.Close()
	}()
	conn, info, err := client.Handshake(t.Context(), near, p, "mx.example[192.0.2.1]:25")
	if err == nil {
		conn.Close()
	}
	near.Close()
	wg.Wait()
	return info, err, strings.ReplaceAll(log.String(), "log: ", "")
}

func TestClientLevels(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t, tlstest.Leaf{Name: "ca", Authority: true})
	leaf := tlstest.New(t, tlstest.Leaf{Name: "x", DNS: []string{"mx.example", "*.w.example"}, Issuer: ca})
	self := tlstest.New(t, tlstest.Leaf{Name: "self", DNS: []string{"mx.example"}})
	late := tlstest.New(t, tlstest.Leaf{Name: "late", DNS: []string{"mx.example"}, Issuer: ca, Expired: true})
	caFile := tlstest.Write(t, "ca.pem", ca.Chain)
	digests, err := mailtls.NewClient(clientConfig(), deps(&maillog.Memory{}))
	if err != nil || digests == nil {
		t.Fatal(err)
	}
	known, _, _ := connect(t, clientConfig(), policy(mailtls.LevelEncrypt), self)
	for _, c := range []struct {
		level    mailtls.Level
		cert     *tlstest.Cert
		ca       string
		match    []string
		standing string
		matched  bool
		log      string
	}{
		{mailtls.LevelMay, self, "", nil, "Untrusted", false, ""},
		{mailtls.LevelMay, leaf, caFile, nil, "Trusted", false, ""},
		{mailtls.LevelEncrypt, self, caFile, nil, "Untrusted", false, ""},
		{mailtls.LevelVerify, leaf, caFile, []string{"mx.example"}, "Verified", true, ""},
		{mailtls.LevelSecure, leaf, caFile, []string{"example", ".w.example"}, "Verified", true, ""},
		{mailtls.LevelSecure, leaf, caFile, []string{"other.example"}, "Untrusted", false, "server certificate verification failed for mx.example[192.0.2.1]:25: num=62:hostname mismatch"},
		{mailtls.LevelVerify, leaf, "", []string{"mx.example"}, "Untrusted", false, "certificate verification failed for mx.example[192.0.2.1]:25: untrusted issuer /CN=ca"},
		{mailtls.LevelVerify, self, caFile, []string{"mx.example"}, "Untrusted", false, "certificate verification failed for mx.example[192.0.2.1]:25: self-signed certificate"},
		{mailtls.LevelVerify, late, caFile, []string{"mx.example"}, "Untrusted", false, "certificate has expired"},
		{mailtls.LevelFingerprint, self, "", []string{"00:11", known.Fingerprint}, "Verified", true, "unusable fingerprint: 00:11"},
		{mailtls.LevelFingerprint, self, "", []string{strings.ToLower(known.PublicKey)}, "Verified", true, ""},
		{mailtls.LevelFingerprint, leaf, caFile, []string{known.PublicKey}, "Untrusted", false, "num=1:unspecified certificate verification error"},
	} {
		config := clientConfig()
		config.CAFile = c.ca
		p := policy(c.level)
		p.Match, p.Fingerprints = c.match, c.match
		info, err, log := connect(t, config, p, c.cert)
		if err != nil {
			t.Errorf("%s %v: %v", c.level, c.match, err)
			continue
		}
		line := c.standing + " TLS connection established to mx.example[192.0.2.1]:25: TLSv1.3 with cipher "
		if info.Matched != c.matched || !strings.Contains(log, line) || !strings.Contains(log, c.log) ||
			!strings.Contains(log, "key-exchange x25519 server-signature ECDSA (prime256v1) server-digest SHA256") {
			t.Errorf("%s %v: matched %v\n%s", c.level, c.match, info.Matched, log)
		}
	}
	p := policy(mailtls.LevelSecure)
	p.Match, p.TrustFiles = []string{"mx.example"}, []string{caFile}
	if info, err, log := connect(t, clientConfig(), p, leaf); err != nil || !info.Matched {
		t.Errorf("trust anchor file: %v %s", err, log)
	}
	p.TrustFiles = []string{"/nonexistent"}
	if info, err, log := connect(t, clientConfig(), p, leaf); err != nil || info.Matched || !strings.Contains(log, "cannot load") {
		t.Errorf("no trust anchor file: %v %s", err, log)
	}
}

// Certificates that are no certificates to a strict reader are good enough
// where nobody looks at them.
func TestNegativeSerialNumber(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "self", Negative: true})
	if _, err, log := connect(t, clientConfig(), policy(mailtls.LevelMay), leaf); err != nil {
		t.Errorf("%v %s", err, log)
	}
}

func TestClientFailures(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "self"})
	for want, change := range map[string]func(*mailtls.Policy){
		"warning: mx.example[192.0.2.1]:25: Invalid TLS protocol list \"bogus\": aborting TLS session": func(p *mailtls.Policy) { p.Protocols = "bogus" },
		"warning: mx.example[192.0.2.1]:25: invalid cipher grade: \"bogus\"":                           func(p *mailtls.Policy) { p.Ciphers = "bogus" },
		"SSL_connect error to mx.example[192.0.2.1]:25: -1":                                            func(p *mailtls.Policy) { p.Protocols = "TLSv1" },
	} {
		p := policy(mailtls.LevelMay)
		change(&p)
		if _, err, log := connect(t, clientConfig(), p, leaf); !errors.Is(err, mailtls.ErrHandshake) || !strings.Contains(log, want) {
			t.Errorf("%s: %v\n%s", want, err, log)
		}
	}
	config := clientConfig()
	config.Cert = "/nonexistent"
	if _, err, log := connect(t, config, policy(mailtls.LevelMay), leaf); err == nil || !strings.Contains(log, "error opening chain file: /nonexistent") {
		t.Errorf("%v %s", err, log)
	}
}
