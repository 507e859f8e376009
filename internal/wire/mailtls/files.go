package mailtls

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
)

const (
	maxFile    = 16 << 20         // bytes of a certificate file; bundles of authorities are large
	maxAge     = 10 * time.Second // files are looked at again after this
	maxInChain = 100              // blocks of a certificate file
)

// Certificates names the files of our own certificates. Files of a pair may
// be one and the same.
type Certificates struct {
	ChainFiles []string // key and certificates in one, several keys after each other
	Pairs      []Pair
}

// Pair is a certificate and its key. Kind is the algorithm in the name of the
// parameters, for the log: "RSA", "DSA", "ECDSA".
type Pair struct{ Kind, Cert, Key string }

// empty reports that no file is named.
func (c Certificates) empty() bool { return len(c.ChainFiles) == 0 && len(c.Pairs) == 0 }

// paths lists all files, each once.
func (c Certificates) paths() []string {
	var all []string
	seen := map[string]bool{}
	add := func(path string) {
		if !seen[path] {
			seen[path] = true
			all = append(all, path)
		}
	}
	for _, path := range c.ChainFiles {
		add(path)
	}
	for _, p := range c.Pairs {
		add(p.Cert)
		add(p.Key)
	}
	return all
}

// MakePairs makes pairs of the parameters of the old style; empty ones and
// "none" are left out.
func MakePairs(pairs ...Pair) []Pair {
	var made []Pair
	for _, p := range pairs {
		if p.Cert == "" || strings.EqualFold(p.Cert, "none") {
			continue
		}
		if p.Key == "" {
			p.Key = p.Cert
		}
		made = append(made, p)
	}
	return made
}

type opener func(path string) (*os.File, error)

// readFile reads a file that is not too large.
func readFile(open opener, path string) ([]byte, fs.FileInfo, error) {
	file, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, info, err
}

// store is certificates that follow their files.
type store struct {
	files Certificates
	open  opener
	log   *maillog.Logger
	now   func() time.Time

	mu      sync.Mutex
	loaded  []tls.Certificate
	infos   map[string]fs.FileInfo
	checked time.Time
	trouble string // of the last look, so that it is told once
}

// newStore reads the files; the error is a Problem.
func newStore(files Certificates, d Deps) (*store, error) {
	s := &store{files: files, open: d.OpenFile, log: d.Log, now: d.Now}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// load reads all files; on error the certificates stay as they are. s.mu is
// held, or nobody else knows s.
func (s *store) load() error {
	s.checked = s.now()
	infos := map[string]fs.FileInfo{}
	open := func(path string) (*os.File, error) {
		file, err := s.open(path)
		if err == nil {
			infos[path], _ = file.Stat()
		}
		return file, err
	}
	loaded, err := load(s.files, open)
	if err != nil {
		return err
	}
	s.loaded, s.infos, s.trouble = loaded, infos, ""
	return nil
}

// certificates returns what is in use, after looking at the files now and
// then. Files that cannot be used leave the last good ones.
func (s *store) certificates() []tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(s.checked) < maxAge {
		return s.loaded
	}
	if s.checked = s.now(); !s.changed() {
		return s.loaded
	}
	if err := s.load(); err != nil && err.Error() != s.trouble {
		s.trouble = err.Error()
		s.log.Warnf("%s; the certificates that were read before stay in use", strings.TrimSuffix(err.Error(), ": disabling TLS support"))
	}
	return s.loaded
}

// changed reports whether a file is another one than that in use.
func (s *store) changed() bool {
	for _, path := range s.files.paths() {
		file, err := s.open(path)
		if err != nil {
			return true
		}
		info, err := file.Stat()
		file.Close()
		was := s.infos[path]
		if err != nil || was == nil || !os.SameFile(was, info) || !was.ModTime().Equal(info.ModTime()) || was.Size() != info.Size() {
			return true
		}
	}
	return false
}

// load reads certificates; the error is a Problem.
func load(files Certificates, open opener) ([]tls.Certificate, error) {
	var all []tls.Certificate
	for _, path := range files.ChainFiles {
		certs, err := loadChain(open, path)
		if err != nil {
			return nil, err
		}
		all = append(all, certs...)
	}
	for _, p := range files.Pairs {
		cert, err := loadPair(open, p)
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	// A client that takes both gets the shorter one, as from OpenSSL.
	slices.SortStableFunc(all, func(a, b tls.Certificate) int { return rank(a) - rank(b) })
	return all, nil
}

func rank(c tls.Certificate) int {
	if _, ok := c.PrivateKey.(*ecdsa.PrivateKey); ok {
		return 0
	}
	return 1
}

// loadChain reads a file of smtpd_tls_chain_files: a key, its certificates,
// and so on.
func loadChain(open opener, path string) ([]tls.Certificate, error) {
	disabled := "error loading private keys and certificates from: " + path + ": disabling TLS support"
	fail := func(format string, args ...any) ([]tls.Certificate, error) {
		return nil, problem(fmt.Sprintf(format, args...), disabled)
	}
	data, _, err := readFile(open, path)
	if err != nil {
		return nil, openProblem(path, err)
	}
	certs, err := ParseChain(data)
	switch e := err.(type) {
	case nil:
		return certs, nil
	case noCertsError:
		return fail("No certs for key at index %d in %s", e.index, path)
	}
	switch err {
	case errNoPEM:
		return fail("No PEM data in %s", path)
	case errKeyNotFirst:
		return fail("error loading chain from %s: key not first", path)
	}
	return fail("error loading chain from %s: %v", path, err)
}

func openProblem(path string, err error) error {
	return problem(fmt.Sprintf("error opening chain file: %s: %s", path, strerror.Text(err)))
}

type noCertsError struct{ index int }

func (e noCertsError) Error() string {
	return fmt.Sprintf("no certificates for key at index %d", e.index)
}

var (
	errNoPEM       = fmt.Errorf("no PEM data")
	errKeyNotFirst = fmt.Errorf("key not first")
)

// ParseChain reads keys, each followed by its certificates, as in
// smtpd_tls_chain_files and in the values of tls_server_sni_maps.
func ParseChain(data []byte) ([]tls.Certificate, error) {
	var certs []tls.Certificate
	var key, chain []byte
	index := 0
	finish := func() error {
		if key == nil {
			return nil
		}
		if chain == nil {
			return noCertsError{index}
		}
		cert, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return err
		}
		certs = append(certs, cert)
		key, chain = nil, nil
		return nil
	}
	for blocks := 0; ; blocks++ {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil || blocks >= maxInChain {
			break
		}
		switch {
		case block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY"):
			if err := finish(); err != nil {
				return nil, err
			}
			key = pem.EncodeToMemory(block)
			index++
		case block.Type == "CERTIFICATE":
			if key == nil {
				return nil, errKeyNotFirst
			}
			chain = append(chain, pem.EncodeToMemory(block)...)
		}
	}
	if err := finish(); err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errNoPEM
	}
	return certs, nil
}

// loadPair reads a certificate and its key. The words for what is wrong are
// OpenSSL's, as far as its log lines are known.
func loadPair(open opener, p Pair) (tls.Certificate, error) {
	if p.Cert == p.Key {
		return loadMixed(open, p.Cert)
	}
	noCert := fmt.Sprintf("cannot get %s certificate from file \"%s\": disabling TLS support", p.Kind, p.Cert)
	noKey := fmt.Sprintf("cannot get %s private key from file \"%s\": disabling TLS support", p.Kind, p.Key)
	chain, _, err := readFile(open, p.Cert)
	if err != nil {
		return tls.Certificate{}, fileProblem(noCert, p.Cert, 450, err)
	}
	if !hasBlock(chain, "CERTIFICATE") {
		return tls.Certificate{}, problem(noCert, library("error:0480006C:PEM routines::no start line:../crypto/pem/pem_lib.c:760:Expecting: TRUSTED CERTIFICATE:"),
			library("error:0A080009:SSL routines::PEM lib:../ssl/ssl_rsa.c:462:"))
	}
	key, _, err := readFile(open, p.Key)
	if err != nil {
		return tls.Certificate{}, fileProblem(noKey, p.Key, 368, err)
	}
	if !hasBlock(key, "PRIVATE KEY") {
		return tls.Certificate{}, problem(noKey, library("error:1E08010C:DECODER routines::unsupported:../crypto/encode_decode/decoder_lib.c:103:No supported data to decode. Input type: PEM:"),
			library("error:0A080009:SSL routines::PEM lib:../ssl/ssl_rsa.c:385:"))
	}
	cert, err := tls.X509KeyPair(chain, key)
	switch {
	case err == nil:
		return cert, nil
	case strings.Contains(err.Error(), "does not match"):
		return cert, problem(noKey, library("error:05800074:x509 certificate routines::key values mismatch:../crypto/x509/x509_cmp.c:403:"))
	case strings.Contains(err.Error(), "private key"):
		return cert, problem(noKey, library(err.Error()))
	}
	return cert, problem(noCert, library(err.Error()))
}

func problem(lines ...string) Problem { return Problem{Lines: lines} }

// fileProblem words a file that cannot be read; line is where OpenSSL says it
// noticed.
func fileProblem(first, path string, line int, err error) Problem {
	return problem(first, systemError(297, path, err),
		library("error:10080002:BIO routines::system lib:../crypto/bio/bss_file.c:300:"),
		library(fmt.Sprintf("error:0A080002:SSL routines::system lib:../ssl/ssl_rsa.c:%d:", line)))
}

// systemError is OpenSSL's line about a file that cannot be opened.
func systemError(line int, path string, err error) string {
	number := syscall.EIO
	errors.As(err, &number)
	return library(fmt.Sprintf("error:%08X:system library::%s:../crypto/bio/bss_file.c:%d:calling fopen(%s, r):",
		0x80000000|uint32(number), strerror.Text(err), line, path))
}

// loadMixed reads one file with a key and its certificates in any order.
func loadMixed(open opener, path string) (tls.Certificate, error) {
	data, _, err := readFile(open, path)
	if err != nil {
		return tls.Certificate{}, openProblem(path, err)
	}
	disabled := "error loading private keys and certificates from: " + path + ": disabling TLS support"
	reason := ""
	switch cert, err := tls.X509KeyPair(data, data); {
	case err == nil:
		return cert, nil
	case !hasBlock(data, "CERTIFICATE") && !hasBlock(data, "PRIVATE KEY"):
		reason = "No PEM data in " + path
	case !hasBlock(data, "CERTIFICATE"):
		reason = "No certs for key at index 1 in " + path
	case !hasBlock(data, "PRIVATE KEY"):
		reason = "error loading chain from " + path + ": key not first"
	default:
		reason = fmt.Sprintf("error loading chain from %s: %v", path, err)
	}
	return tls.Certificate{}, problem(reason, disabled)
}

// hasBlock reports a PEM block of a type that ends in kind.
func hasBlock(data []byte, kind string) bool {
	for range maxInChain {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return false
		}
		if strings.HasSuffix(block.Type, kind) {
			return true
		}
	}
	return false
}

// Authorities names certificates that others' are verified with.
type Authorities struct {
	File   string   // bundle
	Path   string   // directory of hashed names (c_rehash(1))
	System bool     // and those of the system (tls_append_default_CA)
	More   []string // further files
}

// pool reads the authorities. No file at all gives an empty pool; nothing is
// trusted then. The error is a Problem.
func (a Authorities) pool(open opener) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if a.System {
		if system, err := x509.SystemCertPool(); err == nil {
			pool = system
		}
	}
	files := a.More
	if a.File != "" {
		files = append([]string{a.File}, files...)
	}
	for _, path := range files {
		data, _, err := readFile(open, path)
		if err != nil {
			return nil, Problem{Plain: true, Lines: []string{
				fmt.Sprintf("cannot load Certification Authority data, CAfile=\"%s\": disabling TLS support", path),
				systemError(67, path, err),
				library("error:10000080:BIO routines::no such file:../crypto/bio/bss_file.c:75:"),
				library("error:05880002:x509 certificate routines::system lib:../crypto/x509/by_file.c:229:"),
			}}
		}
		if !pool.AppendCertsFromPEM(data) {
			return nil, Problem{Plain: true, Lines: []string{
				fmt.Sprintf("cannot load Certification Authority data, CAfile=\"%s\": disabling TLS support", path),
				library("error:05880088:x509 certificate routines::no certificate or crl found:../crypto/x509/by_file.c:251:"),
			}}
		}
	}
	a.addPath(open, pool)
	return pool, nil
}

// addPath adds the certificates of a directory. One that cannot be read holds
// nothing, as for OpenSSL.
func (a Authorities) addPath(open opener, pool *x509.CertPool) {
	if a.Path == "" {
		return
	}
	names, _ := filepath.Glob(filepath.Join(a.Path, "*.[0-9]"))
	for _, name := range names {
		if data, _, err := readFile(open, name); err == nil {
			pool.AppendCertsFromPEM(data)
		}
	}
}
