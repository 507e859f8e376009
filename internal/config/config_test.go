package config_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"posthaste/internal/config"
)

func write(t *testing.T, main, master string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.cf"), main)
	writeFile(t, filepath.Join(dir, "master.cf"), master)
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func noResolve(name string) ([]netip.Addr, error) { return nil, fmt.Errorf("no such host: %s", name) }

func TestFill(t *testing.T) {
	t.Parallel()
	dir := write(t, "myhostname = mail.example.com\nsmtpd_timeout = 2m\nrelay_destination_concurrency_limit = 7\nlmtp_tls_security_level = may\n",
		"submission inet n - n - - smtpd -o smtpd_banner=hello -o { mynetworks = 10.0.0.0/8, 192.0.2.0/24 }\n")
	s, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	type role struct {
		Banner   string        `param:"smtpd_banner"`
		Raw      string        `param:"smtpd_banner,raw"`
		Timeout  time.Duration `param:"smtpd_timeout"`
		Life     time.Duration `param:"maximal_queue_lifetime"`
		Limit    int           `param:"smtpd_hard_error_limit"`
		Size     int64         `param:"message_size_limit"`
		Delay    bool          `param:"smtpd_delay_reject"`
		Networks []string      `param:"mynetworks"`
		Name     string        `param:"service_name"`
		Feedback float64       `param:"default_destination_concurrency_positive_feedback"`
	}
	v, err := s.Service(s.Services()[0])
	if err != nil {
		t.Fatal(err)
	}
	var got role
	if err := v.Fill(&got); err != nil {
		t.Fatal(err)
	}
	if got.Banner != "hello" || got.Timeout != 2*time.Minute || got.Life != 5*24*time.Hour || got.Limit != 20 ||
		got.Size != 10240000 || !got.Delay || len(got.Networks) != 2 || got.Name != "submission" || got.Feedback != 1 {
		t.Errorf("got %+v", got)
	}
	if err := s.Main().Fill(&got); err != nil {
		t.Fatal(err)
	}
	if got.Banner != "mail.example.com ESMTP Postfix" || got.Raw != "$myhostname ESMTP $mail_name" {
		t.Errorf("got %+v", got)
	}
}

func TestFillTransport(t *testing.T) {
	t.Parallel()
	dir := write(t, "myhostname = mail.example.com\nrelay_destination_concurrency_limit = 7\nlmtp_tls_security_level = may\n", "smtp unix - - n - - smtp\n")
	s, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var client struct {
		TLS  string `param:"smtp_tls_security_level"`
		Helo string `param:"smtp_helo_name"`
	}
	if err := s.Main().FillAs(&client, "smtp_", "lmtp_"); err != nil || client.TLS != "may" || client.Helo != "mail.example.com" {
		t.Errorf("got %+v, %v", client, err)
	}
	var transport struct {
		Limit int `transport:"destination_concurrency_limit"`
		Start int `transport:"initial_destination_concurrency"`
	}
	for name, want := range map[string]int{"relay": 7, "local": 2, "other": 20} {
		if err := s.Main().FillTransport(name, &transport); err != nil || transport.Limit != want || transport.Start != 5 {
			t.Errorf("%s: got %+v, %v", name, transport, err)
		}
	}
}
