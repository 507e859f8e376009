package mailtls

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
)

// digest makes fingerprints (postconf(5) smtpd_tls_fingerprint_digest).
type digest struct{ new func() hash.Hash }

// newDigest finds a digest by OpenSSL's name.
func newDigest(name string) (digest, bool) {
	switch strings.ToLower(name) {
	case "md5":
		return digest{md5.New}, true
	case "sha1":
		return digest{sha1.New}, true
	case "sha224":
		return digest{sha256.New224}, true
	case "sha256":
		return digest{sha256.New}, true
	case "sha384":
		return digest{sha512.New384}, true
	case "sha512":
		return digest{sha512.New}, true
	}
	return digest{}, false
}

// fingerprint is the digest as "AB:CD:...".
func (d digest) fingerprint(der []byte) string {
	if d.new == nil {
		return ""
	}
	h := d.new()
	h.Write(der)
	sum := strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
	var b strings.Builder
	for i := 0; i < len(sum); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(sum[i : i+2])
	}
	return b.String()
}

// size is the length of a digest in bytes.
func (d digest) size() int { return d.new().Size() }

// parseFingerprint reads "AB:CD:..." or "ABCD...".
func parseFingerprint(text string) ([]byte, bool) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	return raw, err == nil && len(raw) > 0
}
