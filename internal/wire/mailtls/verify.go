package mailtls

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/mail/addr"
)

// errTooDeep is a chain that is longer than the limit.
type errTooDeep struct{ limit int }

func (e errTooDeep) Error() string {
	return fmt.Sprintf("certificate chain longer than limit(%d)", e.limit)
}

// verifyChain looks for a chain from the first certificate to a root, with at
// most depth authorities in it.
func verifyChain(certs []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage, depth int) error {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return err
	}
	for _, chain := range chains {
		if len(chain)-1 <= depth {
			return nil
		}
	}
	return errTooDeep{depth}
}

// verifyLine is the log line about a certificate that was not verified, in
// Postfix's words.
func verifyLine(cert *x509.Certificate, err error, peer string) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var deep errTooDeep
	switch {
	case errors.As(err, &unknown):
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			return fmt.Sprintf("certificate verification failed for %s: self-signed certificate", peer)
		}
		return fmt.Sprintf("certificate verification failed for %s: untrusted issuer %s", peer, oneline(cert))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if strings.Contains(invalid.Detail, "is before") {
			return fmt.Sprintf("server certificate verification failed for %s: certificate not yet valid", peer)
		}
		return fmt.Sprintf("server certificate verification failed for %s: certificate has expired", peer)
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return fmt.Sprintf("certificate verification failed for %s: not designated for use as a server certificate", peer)
	case errors.As(err, &deep):
		return fmt.Sprintf("certificate verification failed for %s: %s", peer, deep)
	}
	return fmt.Sprintf("server certificate verification failed for %s: num=1:%v", peer, err)
}

// oneline is the issuer in the old form of OpenSSL, "/C=DE/CN=name".
func oneline(cert *x509.Certificate) string {
	short := map[string]string{
		"2.5.4.6": "C", "2.5.4.8": "ST", "2.5.4.7": "L", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.3": "CN",
		"1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.25": "DC",
	}
	var b strings.Builder
	for _, n := range cert.Issuer.Names {
		name := short[n.Type.String()]
		if name == "" {
			name = n.Type.String()
		}
		fmt.Fprintf(&b, "/%s=%v", name, n.Value)
	}
	return b.String()
}

// Matches reports whether a certificate is for one of the patterns: a host
// name, or ".domain" for all below it (TLS_README, "Secure server certificate
// verification"). Names are the DNS names of the certificate, else its common
// name. manyLabels lets "*" stand for more than one label.
func matches(cert *x509.Certificate, patterns []string, manyLabels bool) bool {
	names := cert.DNSNames
	if len(names) == 0 && cert.Subject.CommonName != "" {
		names = []string{cert.Subject.CommonName}
	}
	for _, name := range names {
		for _, pattern := range patterns {
			if matchName(strings.ToLower(strings.TrimSuffix(name, ".")), strings.ToLower(strings.TrimSuffix(pattern, ".")), manyLabels) {
				return true
			}
		}
	}
	return false
}

// matchName compares a certificate's name, which may have a wildcard, with a
// pattern.
func matchName(name, pattern string, manyLabels bool) bool {
	parent, wildcard := strings.CutPrefix(name, "*.")
	if !addr.ValidHostname(parent) || strings.IndexByte(parent, 0) >= 0 {
		return false
	}
	if strings.HasPrefix(pattern, ".") {
		if wildcard && "."+parent == pattern {
			return true
		}
		return len(name) > len(pattern) && strings.HasSuffix(name, pattern)
	}
	if !wildcard {
		return name == pattern
	}
	label, rest, ok := strings.Cut(pattern, ".")
	if ok && label != "" && rest == parent {
		return true
	}
	return manyLabels && len(pattern) > len(parent)+1 && strings.HasSuffix(pattern, "."+parent)
}
