// Package tlstest makes certificates for tests: authorities, and leaves that
// they or nobody signed, as PEM text and as files.
//
// Tests of whatever speaks TLS use it; nothing else does.
package tlstest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Leaf is what a certificate is to be like.
type Leaf struct {
	Name string   // common name
	DNS  []string // subject alternative names
	RSA  bool     // else ECDSA P-256
	Authority,
	Expired bool
	Negative bool  // a serial number that RFC 5280 does not allow
	Issuer   *Cert // nil: signed by itself
}

// Cert is a certificate with its key.
type Cert struct {
	X509       *x509.Certificate
	Key        crypto.Signer
	Chain, PEM string // certificates; key
}

// New makes a certificate.
func New(t testing.TB, leaf Leaf) *Cert {
	t.Helper()
	c := &Cert{Key: newKey(t, leaf.RSA)}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: leaf.Name}, DNSNames: leaf.DNS,
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: leaf.Authority, BasicConstraintsValid: leaf.Authority, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if leaf.Authority {
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	if leaf.Expired {
		template.NotAfter = now.Add(-24 * time.Hour)
	}
	parent, signer := template, c.Key
	if leaf.Issuer != nil {
		parent, signer = leaf.Issuer.X509, leaf.Issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, c.Key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Negative {
		der = negative(t, der, c.Key)
	}
	if c.X509, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	c.Chain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	c.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return c
}

func newKey(t testing.TB, isRSA bool) crypto.Signer {
	t.Helper()
	if isRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Write makes a file of texts and returns its path.
func Write(t testing.TB, path string, texts ...string) string {
	t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.TempDir(), path)
	}
	var all []byte
	for _, text := range texts {
		all = append(all, text...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// negative gives a certificate the serial number -1 and signs it again:
// crypto/x509 makes no such certificates.
func negative(t testing.TB, der []byte, key crypto.Signer) []byte {
	t.Helper()
	var outer struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		t.Fatal(err)
	}
	serial := []byte{0x02, 0x01, 0x01}
	at := bytes.Index(outer.TBS.FullBytes, serial)
	if at < 0 {
		t.Fatal("no serial number")
	}
	tbs := bytes.Clone(outer.TBS.FullBytes)
	tbs[at+2] = 0xff
	sum := sha256.Sum256(tbs)
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	outer.TBS = asn1.RawValue{FullBytes: tbs}
	outer.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	made, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return made
}
