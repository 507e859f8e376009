package mailtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
)

// Info is what is known about a session after its handshake.
type Info struct {
	Protocol, Cipher string // as OpenSSL names them
	Bits, AlgBits    int
	KeyExchange      string // "x25519", for TLS 1.3
	Server, Client   Signature
	Resumed          bool
	ServerName       string // SNI that the client sent and the server took

	Requested      bool // the peer was asked for a certificate
	HasCertificate bool
	Trusted        bool // there is a chain to a known authority
	Matched        bool // and the certificate is the one that was wanted
	Subject        string
	Issuer         string // common names, "" if there is none
	Fingerprint    string
	PublicKey      string // fingerprint of the key
}

// Signature is what a side of the handshake was signed with.
type Signature struct{ Name, Detail, Digest string }

func (s Signature) text(side string) string {
	if s.Name == "" {
		return ""
	}
	text := " " + side + "-signature " + s.Name
	if s.Detail != "" {
		text += " (" + s.Detail + ")"
	}
	if s.Digest != "" {
		text += " " + side + "-digest " + s.Digest
	}
	return text
}

// details are common to both sides.
func describeState(state tls.ConnectionState) Info {
	s := describe(state.CipherSuite)
	i := Info{
		Protocol: versionName(state.Version), Cipher: s.name, Bits: s.use, AlgBits: s.alg,
		Resumed: state.DidResume, ServerName: state.ServerName,
	}
	if state.Version >= tls.VersionTLS13 {
		i.KeyExchange = groupName(state.CurveID)
	}
	return i
}

func groupName(id tls.CurveID) string {
	switch id {
	case tls.X25519:
		return "x25519"
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	case 0:
		return ""
	}
	return id.String()
}

// signature describes a signature by key in TLS 1.3. hash is 0 when it is not
// known: then it is what goes with the key (RFC 8446 §4.2.3).
func signature(key crypto.PublicKey, hash crypto.Hash) Signature {
	var s Signature
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		s.Name = "ECDSA"
		switch k.Curve {
		case elliptic.P384():
			s.Detail, s.Digest = "secp384r1", "SHA384"
		case elliptic.P521():
			s.Detail, s.Digest = "secp521r1", "SHA512"
		default:
			s.Detail, s.Digest = "prime256v1", "SHA256"
		}
	case *rsa.PublicKey:
		s.Name, s.Detail, s.Digest = "RSA-PSS", fmt.Sprintf("%d bits", k.N.BitLen()), "SHA256"
	case ed25519.PublicKey:
		return Signature{Name: "ED25519"}
	}
	if hash != 0 && s.Name != "" {
		s.Digest = strings.ReplaceAll(hash.String(), "-", "")
	}
	return s
}

// describePeer fills in the peer's certificate.
func (i *Info) describePeer(cert *x509.Certificate, digest digest) {
	i.HasCertificate = true
	i.Subject, i.Issuer = cert.Subject.CommonName, cert.Issuer.CommonName
	if i.Issuer == "" && len(cert.Issuer.Organization) > 0 {
		i.Issuer = cert.Issuer.Organization[0]
	}
	i.Fingerprint = digest.fingerprint(cert.Raw)
	i.PublicKey = digest.fingerprint(cert.RawSubjectPublicKeyInfo)
}

// standing is the first word of the log line.
func (i *Info) standing() string {
	switch {
	case !i.HasCertificate:
		return "Anonymous"
	case i.Matched:
		return "Verified"
	case i.Trusted:
		return "Trusted"
	}
	return "Untrusted"
}

func (i *Info) cipher() string {
	return fmt.Sprintf("%s with cipher %s (%d/%d bits)", i.Protocol, i.Cipher, i.Bits, i.AlgBits)
}

// Summary is the log line about a session "from" a client or "to" a server.
func (i *Info) Summary(direction, peer string) string {
	usage := "established"
	if i.Resumed {
		usage = "reused"
	}
	line := fmt.Sprintf("%s TLS connection %s %s %s", i.standing(), usage, direction, peer)
	if direction == "from" && i.ServerName != "" {
		line += " to " + i.ServerName
	}
	line += ": " + i.cipher()
	if i.KeyExchange != "" {
		line += " key-exchange " + i.KeyExchange
	}
	return line + i.Server.text("server") + i.Client.text("client")
}

// Received is the lines of a Received header about the session (postconf(5)
// smtpd_tls_received_header), without line ends.
func (i *Info) Received() []string {
	lines := []string{"(using " + i.cipher()}
	if i.KeyExchange != "" {
		lines = append(lines, " key-exchange "+i.KeyExchange+i.Server.text("server"))
	} else if text := i.Server.text("server"); text != "" {
		lines = append(lines, text)
	}
	if text := i.Client.text("client"); text != "" {
		lines = append(lines, text)
	}
	lines[len(lines)-1] += ")"
	return append(lines, i.certificateLine())
}

func (i *Info) certificateLine() string {
	switch {
	case i.HasCertificate:
		verified := "not verified"
		if i.Trusted {
			verified = "verified OK"
		}
		return fmt.Sprintf("(Client CN %q, Issuer %q (%s))", headerName(i.Subject), headerName(i.Issuer), verified)
	case i.Requested:
		return "(Client did not present a certificate)"
	}
	return "(No client certificate requested)"
}

// headerName is a name as it may stand in a comment.
func headerName(name string) string {
	if name == "" {
		return "not present"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune("()\\\"", r) {
			return '?'
		}
		return r
	}, name)
}
