package starttls

import (
	"strings"
	"testing"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/wire/mailtls"
	"posthaste/internal/wire/mailtls/tlstest"
)

func open(t *testing.T, c Config, now func() time.Time) (*Service, *maillog.Memory, error) {
	t.Helper()
	log := &maillog.Memory{}
	logger := maillog.New(log, "log", 1, nil)
	s, err := Open(c, table.NewOpener(table.Setup{Log: logger}), mailtls.Deps{Log: logger, Now: now})
	return s, log, err
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config            Config
		offered, required bool
		log               string
	}{
		{Config{}, false, false, ""},
		{Config{Level: "none", UseTLS: true}, false, false, ""},
		{Config{Level: "may"}, true, false, ""},
		{Config{Level: "Encrypt"}, true, true, ""},
		{Config{Level: "secure"}, true, true, "unsupported TLS level \"secure\", using \"encrypt\""},
		{Config{UseTLS: true}, true, false, ""},
		{Config{EnforceTLS: true}, true, true, ""},
		{Config{Level: "may", EnforceTLS: true}, true, false, ""},
		{Config{Wrapper: true}, true, true, ""},
	} {
		s, log, err := open(t, c.config, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s.Offered() != c.offered || s.Required() != c.required || !strings.Contains(log.String(), c.log) || (c.log == "") != (log.String() == "") {
			t.Errorf("%+v: %v %v %s", c.config, s.Offered(), s.Required(), log)
		}
	}
	if _, _, err := open(t, Config{Level: "bogus"}, nil); err == nil || err.Error() != `Invalid TLS level "bogus"` {
		t.Error(err)
	}
}

// Certificates that come later are found without a restart, and their absence
// is not told to each client anew.
func TestCertificatesComeLater(t *testing.T) {
	t.Parallel()
	leaf := tlstest.New(t, tlstest.Leaf{Name: "x"})
	path := t.TempDir() + "/cert.pem"
	now := time.Now()
	c := Config{Level: "may", Server: mailtls.ServerConfig{Cert: path, Protocols: ">=TLSv1", Ciphers: "high", Lists: mailtls.CipherLists{High: "HIGH"}, Digest: "sha256"}}
	s, log, err := open(t, c, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if log.String() != "" {
		t.Errorf("before the first client: %s", log)
	}
	for range 3 {
		if s.Ready() {
			t.Error("ready")
		}
	}
	if n := strings.Count(log.String(), "error opening chain file"); n != 1 {
		t.Errorf("%d complaints", n)
	}
	tlstest.Write(t, path, leaf.Chain, leaf.PEM)
	now = now.Add(2 * retry)
	if !s.Ready() {
		t.Errorf("not ready: %s", log)
	}
}

func TestUntrusted(t *testing.T) {
	t.Parallel()
	s, _, err := open(t, Config{Level: "encrypt", Server: mailtls.ServerConfig{Require: true}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, info := range map[string]mailtls.Info{
		"": {Trusted: true, HasCertificate: true}, "No client certificate presented": {}, "Client certificate not trusted": {HasCertificate: true},
	} {
		if got := s.Untrusted(&info); got != want {
			t.Errorf("%+v: %s", info, got)
		}
	}
}
