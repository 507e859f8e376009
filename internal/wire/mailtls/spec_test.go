package mailtls

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"
)

func TestParseProtocols(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text     string
		min, max uint16
		note     bool
	}{
		{"", tls.VersionTLS10, tls.VersionTLS13, false},
		{">=TLSv1", tls.VersionTLS10, tls.VersionTLS13, false},
		{">=TLSv1.2", tls.VersionTLS12, tls.VersionTLS13, false},
		{">= TLSv1.2", 0, 0, false},
		{">=TLSv1, <=TLSv1.2", tls.VersionTLS10, tls.VersionTLS12, false},
		{">=0303", tls.VersionTLS12, tls.VersionTLS13, false},
		{"<=0x0304", tls.VersionTLS10, tls.VersionTLS13, false},
		{"!SSLv2, !SSLv3", tls.VersionTLS10, tls.VersionTLS13, false},
		{"!SSLv2:!SSLv3:!TLSv1:!TLSv1.1", tls.VersionTLS12, tls.VersionTLS13, false},
		{"TLSv1.2", tls.VersionTLS12, tls.VersionTLS12, false},
		{"tlsv1.2 TLSv1.3", tls.VersionTLS12, tls.VersionTLS13, false},
		{"!TLSv1.1", tls.VersionTLS12, tls.VersionTLS13, true},
		{"SSLv3", 0, 0, false},
		{"bogus", 0, 0, false},
		{">=TLSv1.4", 0, 0, false},
		{"!TLSv1.3 >=TLSv1.3", 0, 0, false},
	} {
		v, note, err := ParseProtocols(c.text)
		if (err != nil) != (c.max == 0) || err == nil && (v.Min != c.min || v.Max != c.max) || (note != "") != c.note {
			t.Errorf("%q: %x %q %v", c.text, v, note, err)
		}
	}
}

func suiteNames(ids []uint16) string {
	var names []string
	for _, id := range ids {
		names = append(names, describe(id).name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

const (
	debianMedium = "aNULL:-aNULL:HIGH:MEDIUM:!SEED:!IDEA:!3DES:!RC2:!RC4:!RC5:!kDH:!kECDH:!aDSS:!MD5:+RC4:@STRENGTH"
	modern       = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256"
)

func TestParseCiphers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want, unknown string }{
		{modern, "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256", ""},
		{"kRSA+AESGCM", "AES128-GCM-SHA256 AES256-GCM-SHA384", ""},
		{"AESGCM:!kRSA:!aECDSA", "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384", ""},
		{"RC4:-RC4:RC4-SHA", "RC4-SHA", ""},
		{"RC4:!RC4:RC4-SHA", "", ""},
		{"CHACHA20 misprint", "ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305", "misprint"},
		{"aNULL:@SECLEVEL=0:!", "", ""},
		{"ECDSA+RC4", "ECDHE-ECDSA-RC4-SHA", ""},
	} {
		ids, unknown := ParseCiphers(c.text)
		if suiteNames(ids) != c.want || strings.Join(unknown, " ") != c.unknown {
			t.Errorf("%q: %q, unknown %q", c.text, suiteNames(ids), unknown)
		}
	}
	ids, unknown := ParseCiphers(debianMedium)
	if names := suiteNames(ids); len(ids) != 17 || len(unknown) > 0 || strings.Contains(names, "RC4") || strings.Contains(names, "CBC3") {
		t.Errorf("the default: %d %q, unknown %q", len(ids), names, unknown)
	}
}

func TestCipherGrades(t *testing.T) {
	t.Parallel()
	lists := CipherLists{High: "HIGH", Medium: debianMedium}
	for _, c := range []struct {
		grade, exclude string
		n              int
		fails, note    bool
	}{
		{"medium", "", 17, false, false},
		{"HIGH", "aNULL, kRSA", 12, false, false},
		{"export", "", 17, false, false},
		{"null", "", 0, false, true},
		{"bogus", "", 0, true, false},
		{"high", "!kRSA nosuch", 12, false, true},
	} {
		ids, note, err := lists.choose(c.grade, c.exclude)
		if len(ids) != c.n || (err != nil) != c.fails || (note != "") != c.note {
			t.Errorf("%s without %s: %d %q %v", c.grade, c.exclude, len(ids), note, err)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names, common, pattern string
		many, want             bool
	}{
		{"mail.example.com", "", "mail.example.com", true, true},
		{"MAIL.example.com", "", "mail.EXAMPLE.com", true, true},
		{"mail.example.com", "", "example.com", true, false},
		{"mail.example.com", "", ".example.com", true, true},
		{"example.com", "", ".example.com", true, false},
		{"a.b.example.com", "", ".example.com", true, true},
		{"*.example.com", "", "mail.example.com", true, true},
		{"*.example.com", "", "a.b.example.com", true, true},
		{"*.example.com", "", "a.b.example.com", false, false},
		{"*.example.com", "", "example.com", true, false},
		{"*.example.com", "", ".example.com", true, true},
		{"*", "", "example.com", true, false},
		{"*.com", "", "example.com", true, true},
		{"", "mail.example.com", "mail.example.com", true, true},
		{"other.example", "mail.example.com", "mail.example.com", true, false},
		{"mail.example.com\x00.evil.example", "", "mail.example.com", true, false},
		{"xexample.com", "", "example.com", true, false},
	} {
		cert := &x509.Certificate{DNSNames: strings.Fields(c.names), Subject: pkix.Name{CommonName: c.common}}
		if got := matches(cert, []string{"x.invalid", c.pattern}, c.many); got != c.want {
			t.Errorf("%q (%q) is for %q: %v", c.names, c.common, c.pattern, got)
		}
	}
}

func TestFingerprints(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"md5": "5D:41:40:2A:BC:4B:2A:76:B9:71:9D:91:10:17:C5:92", "sha1": "AA:F4:C6:1D:DC:C5:E8:A2:DA:BE:DE:0F:3B:48:2C:D9:AE:A9:43:4D",
	} {
		d, ok := newDigest(name)
		if got := d.fingerprint([]byte("hello")); !ok || got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, ok := newDigest("bogus"); ok {
		t.Error("bogus is a digest")
	}
}

func FuzzParseProtocols(f *testing.F) {
	for _, s := range []string{">=TLSv1", "!SSLv2,!SSLv3", "TLSv1.2 TLSv1.3", ">=", "!", "<=0304", ">=TLSv1 <=TLSv1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, _, err := ParseProtocols(text)
		if err == nil && (v.Min < tls.VersionTLS10 || v.Min > v.Max || v.Max > tls.VersionTLS13) {
			t.Errorf("%q: %x", text, v)
		}
	})
}

func FuzzParseCiphers(f *testing.F) {
	for _, s := range []string{debianMedium, modern, "kRSA+AES:!ALL", "+", "@", "!!", "A+B+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, _ := ParseCiphers(text)
		seen := map[uint16]bool{}
		for _, id := range ids {
			if seen[id] || describe(id).words == "" {
				t.Fatalf("%q: %x", text, ids)
			}
			seen[id] = true
		}
		if rest, _ := ParseCiphers(text + ":!ALL"); len(rest) > 0 {
			t.Errorf("%q: !ALL leaves %x", text, rest)
		}
	})
}

func FuzzParseChain(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if certs, err := ParseChain(data); err == nil && len(certs) == 0 {
			t.Error("nothing, and no error")
		}
	})
}
