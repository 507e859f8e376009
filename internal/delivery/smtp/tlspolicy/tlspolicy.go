// Package tlspolicy is which TLS the SMTP and LMTP clients want of a
// destination: the security level of main.cf or of smtp_tls_policy_maps, and
// what goes with it (TLS_README, "TLS policy table").
//
// It promises that a policy that cannot be read or understood is no weaker
// policy but an error, which defers the mail; the reason is in the log. The
// agent of package smtp asks it for each host it is about to talk to.
package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/wire/mailtls"
)

// Config is what the agents read of main.cf about TLS (postconf(5); LMTP has
// its own names).
type Config struct {
	Level       string `param:"smtp_tls_security_level"`
	UseTLS      bool   `param:"smtp_use_tls"`
	EnforceTLS  bool   `param:"smtp_enforce_tls"`
	EnforceName bool   `param:"smtp_tls_enforce_peername"`
	Maps        string `param:"smtp_tls_policy_maps"`
	PerSite     string `param:"smtp_tls_per_site"`

	Protocols          string `param:"smtp_tls_protocols"`
	MandatoryProtocols string `param:"smtp_tls_mandatory_protocols"`
	Ciphers            string `param:"smtp_tls_ciphers"`
	MandatoryCiphers   string `param:"smtp_tls_mandatory_ciphers"`
	Exclude            string `param:"smtp_tls_exclude_ciphers"`
	MandatoryExclude   string `param:"smtp_tls_mandatory_exclude_ciphers"`
	VerifyMatch        string `param:"smtp_tls_verify_cert_match"`
	SecureMatch        string `param:"smtp_tls_secure_cert_match"`
	FingerprintMatch   string `param:"smtp_tls_fingerprint_cert_match"`
	ServerName         string `param:"smtp_tls_servername"`
	TrustFile          string `param:"smtp_tls_trust_anchor_file"`

	Timeout   time.Duration `param:"smtp_starttls_timeout"`
	Wrapper   bool          `param:"smtp_tls_wrappermode"`
	NoteOffer bool          `param:"smtp_tls_note_starttls_offer"`
	Client    mailtls.ClientConfig
}

// Policies answers for one service. Safe for concurrent use.
type Policies struct {
	cfg     Config
	log     *maillog.Logger
	deps    mailtls.Deps
	global  mailtls.Level
	maps    *table.Maps
	perSite *table.Maps
	name    string // of smtp_tls_policy_maps, for the log

	mu     sync.Mutex
	client *mailtls.Client
	tried  time.Time
	warned bool // that dane is not there
}

// retry is how long a service whose certificates cannot be read waits before
// it looks again.
const retry = time.Minute

// Open opens tables. prefix is "smtp" or "lmtp", for the log. The error is
// fatal for the service. Without an opener there are no tables.
func Open(cfg Config, prefix string, o *table.Opener, d mailtls.Deps) (*Policies, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	p := &Policies{cfg: cfg, log: d.Log, deps: d, name: prefix + "_tls_policy_maps"}
	switch {
	case cfg.Level != "":
		level, ok := mailtls.ParseLevel(cfg.Level)
		if !ok {
			return nil, fmt.Errorf("Invalid TLS level \"%s\"", cfg.Level) //nolint:staticcheck // the words of the log
		}
		p.global = level
	case cfg.EnforceTLS && cfg.EnforceName:
		p.global = mailtls.LevelVerify
	case cfg.EnforceTLS:
		p.global = mailtls.LevelEncrypt
	case cfg.UseTLS:
		p.global = mailtls.LevelMay
	}
	if cfg.Wrapper && p.global < mailtls.LevelEncrypt {
		return nil, fmt.Errorf("%s_tls_wrappermode requires \"%s_tls_security_level = encrypt\" (or stronger)", prefix, prefix)
	}
	if o != nil {
		p.maps = o.Maps(p.name, cfg.Maps, table.FoldedKeys)
		p.perSite = o.Maps(prefix+"_tls_per_site", cfg.PerSite, table.FoldedKeys)
	}
	return p, nil
}

// Close closes the tables.
func (p *Policies) Close() error { return errors.Join(p.maps.Close(), p.perSite.Close()) }

// Wrapped reports whether connections begin with TLS.
func (p *Policies) Wrapped() bool { return p.cfg.Wrapper }

// NoteOffer reports whether hosts that offer STARTTLS unused are logged.
func (p *Policies) NoteOffer() bool { return p.cfg.NoteOffer }

// Client is TLS itself, nil if it is not available: the reason was logged.
func (p *Policies) Client() *mailtls.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.deps.Now()
	if p.client != nil || !p.tried.IsZero() && now.Sub(p.tried) < retry {
		return p.client
	}
	p.tried = now
	p.client, _ = mailtls.NewClient(p.cfg.Client, p.deps)
	return p.client
}

// ErrConfig is a policy that cannot be used; why was logged.
var ErrConfig = errors.New("client TLS configuration problem")

// Destination is where a policy is for.
type Destination struct {
	Nexthop string // as configured, "[host]:port" or a domain
	Domain  string // the same without brackets and port
	Host    string // the server's name
}

// policy is one under construction.
type policy struct {
	level                       mailtls.Level
	protocols, ciphers, exclude string
	servername                  string
	hasExclude                  bool
	match, trustFiles           []string
}

// For finds the policy for a destination.
func (p *Policies) For(ctx context.Context, d Destination) (mailtls.Policy, error) {
	found := policy{level: p.global}
	var err error
	if !p.maps.Empty() {
		err = p.fromMaps(ctx, d.Nexthop, &found)
	} else if !p.perSite.Empty() {
		err = p.fromSites(ctx, d, &found)
	}
	if err != nil {
		return mailtls.Policy{}, err
	}
	if found.level, err = p.withoutDane(found.level, d); err != nil {
		return mailtls.Policy{}, err
	}
	if found.level == mailtls.LevelNone {
		return mailtls.Policy{}, nil
	}
	return p.complete(found, d)
}

// withoutDane is what remains of DANE where no TLSA record can be trusted:
// opportunistic TLS, as for a domain without such records; dane-only is not
// fulfilled.
func (p *Policies) withoutDane(level mailtls.Level, d Destination) (mailtls.Level, error) {
	switch level {
	case mailtls.LevelDaneOnly:
		p.log.Warnf("nexthop domain %s: TLS level \"dane-only\": DANE is not available", d.Domain)
		return level, ErrConfig
	case mailtls.LevelDane:
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.warned {
			p.warned = true
			p.log.Warnf("TLS level \"dane\": DANE is not available, using \"may\"")
		}
		return mailtls.LevelMay, nil
	}
	return level, nil
}

// complete adds the defaults of main.cf.
func (p *Policies) complete(f policy, d Destination) (mailtls.Policy, error) {
	c := &p.cfg
	result := mailtls.Policy{
		Level: f.level, Protocols: c.Protocols, Ciphers: c.Ciphers, Exclude: c.Exclude,
		ServerName: c.ServerName, TrustFiles: f.trustFiles, Timeout: c.Timeout,
	}
	if f.level > mailtls.LevelMay {
		result.Protocols, result.Ciphers, result.Exclude = c.MandatoryProtocols, c.MandatoryCiphers, c.Exclude+" "+c.MandatoryExclude
	}
	if f.protocols != "" {
		result.Protocols = f.protocols
	}
	if f.ciphers != "" {
		result.Ciphers = f.ciphers
	}
	if f.hasExclude {
		result.Exclude = f.exclude
	}
	if f.servername != "" {
		result.ServerName = f.servername
	}
	switch strings.ToLower(result.ServerName) {
	case "hostname":
		result.ServerName = d.Host
	case "nexthop":
		result.ServerName = d.Domain
	}
	if _, err := netip.ParseAddr(result.ServerName); err == nil {
		result.ServerName = "" // RFC 6066 §3: no addresses
	}
	if len(result.TrustFiles) == 0 && c.TrustFile != "" {
		result.TrustFiles = []string{c.TrustFile}
	}
	return result, p.completeMatch(&result, f, d)
}

// completeMatch fills in what the certificate is compared with.
func (p *Policies) completeMatch(result *mailtls.Policy, f policy, d Destination) error {
	match := f.match
	defaults := func(text string) {
		if len(match) == 0 {
			match = splitMatch(text)
		}
	}
	switch f.level {
	case mailtls.LevelFingerprint:
		if len(match) == 0 {
			match = table.SplitList(p.cfg.FingerprintMatch)
		}
		if len(match) == 0 {
			p.log.Warnf("nexthop domain %s: configured at fingerprint security level, but with no fingerprints to match.", d.Domain)
			return ErrConfig
		}
		result.Fingerprints = match
	case mailtls.LevelVerify:
		defaults(p.cfg.VerifyMatch)
		result.Match = names(match, d)
	case mailtls.LevelSecure:
		defaults(p.cfg.SecureMatch)
		result.Match = names(match, d)
	}
	return nil
}

func splitMatch(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",: \t\r\n", r) })
}

// names puts the names of the destination into patterns.
func names(patterns []string, d Destination) []string {
	var all []string
	for _, pattern := range patterns {
		switch strings.ToLower(pattern) {
		case "hostname":
			all = append(all, d.Host)
		case "nexthop":
			all = append(all, d.Domain)
		case "dot-nexthop":
			all = append(all, "."+d.Domain)
		default:
			all = append(all, pattern)
		}
	}
	return all
}

// fromMaps looks the nexthop up, and if it is a domain, ".parent".
func (p *Policies) fromMaps(ctx context.Context, nexthop string, f *policy) error {
	parents := addr.ValidHostname(nexthop)
	for key := nexthop; ; {
		text, found, err := p.maps.Lookup(ctx, key)
		where := fmt.Sprintf("%s, next-hop destination \"%s\"", p.name, key)
		if err != nil {
			p.log.Warnf("%s: policy table lookup error", where)
			return ErrConfig
		}
		if found {
			if err := f.parse(text, func(format string, args ...any) {
				p.log.Warnf("%s: %s", where, fmt.Sprintf(format, args...))
			}); err != nil {
				return err
			}
			return nil
		}
		dot := strings.IndexByte(key[min(1, len(key)):], '.')
		if !parents || dot < 0 {
			return nil
		}
		key = key[1+dot:]
	}
}

// parse reads "level name=value ..."; warn complains.
func (f *policy) parse(text string, warn func(format string, args ...any)) error {
	words := table.SplitList(text)
	if len(words) == 0 {
		warn("invalid empty policy")
		return ErrConfig
	}
	level, ok := mailtls.ParseLevel(words[0])
	if !ok {
		warn("invalid security level \"%s\"", words[0])
		return ErrConfig
	}
	f.level = level
	if level == mailtls.LevelNone {
		for _, word := range words[1:] {
			warn("ignoring attribute \"%s\" with TLS disabled", word)
		}
		return nil
	}
	seen := map[string]bool{}
	for _, word := range words[1:] {
		name, value, ok := strings.Cut(strings.Trim(word, "{}"), "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok:
			warn("malformed attribute/value pair \"%s\": missing '=' after attribute name", word)
			return ErrConfig
		case value == "" && name != "exclude":
			warn("attribute \"%s\" has empty value", name)
			return ErrConfig
		case seen[name] && (name == "ciphers" || name == "protocols" || name == "servername" || name == "exclude"):
			warn("attribute \"%s\" is specified multiple times", name)
			return ErrConfig
		}
		seen[name] = true
		if err := f.attribute(name, value, warn); err != nil {
			return err
		}
	}
	return nil
}

func (f *policy) attribute(name, value string, warn func(format string, args ...any)) error {
	misplaced := func() error {
		warn("attribute \"%s\" invalid at security level \"%s\"", name, f.level)
		return ErrConfig
	}
	switch name {
	case "ciphers":
		f.ciphers = value
	case "protocols":
		f.protocols = value
	case "exclude":
		f.exclude, f.hasExclude = value, true
	case "servername":
		f.servername = value
	case "match":
		switch f.level {
		case mailtls.LevelFingerprint:
			f.match = append(f.match, strings.Split(value, "|")...)
		case mailtls.LevelVerify, mailtls.LevelSecure:
			f.match = append(f.match, splitMatch(value)...)
		default:
			return misplaced()
		}
	case "tafile":
		if f.level != mailtls.LevelVerify && f.level != mailtls.LevelSecure {
			return misplaced()
		}
		f.trustFiles = append(f.trustFiles, value)
	case "connection_reuse", "enable_rpk":
		if !strings.EqualFold(value, "yes") && !strings.EqualFold(value, "no") {
			warn("attribute \"%s\" has bad value: \"%s\"", name, value)
			return ErrConfig
		}
	case "policy_type", "policy_domain", "policy_ttl", "policy_string", "policy_failure", "mx_host_pattern":
		// For TLS reports (RFC 8460) only.
	default:
		warn("invalid attribute name: \"%s\"", name)
		return ErrConfig
	}
	return nil
}

// fromSites is the table of the old style, smtp_tls_per_site: one word for the
// nexthop and one for the host, the stronger of which counts.
func (p *Policies) fromSites(ctx context.Context, d Destination, f *policy) error {
	site, known := mailtls.LevelNone, false
	keys := []string{d.Nexthop}
	if !strings.EqualFold(d.Host, d.Nexthop) {
		keys = append(keys, d.Host)
	}
	none := false
	for _, key := range keys {
		word, found, err := p.perSite.Lookup(ctx, key)
		if err != nil {
			p.log.Warnf("%s: %s: per-site table lookup error", p.perSite.Title(), key)
			return ErrConfig
		}
		if !found {
			continue
		}
		known = true
		switch strings.ToUpper(word) {
		case "NONE":
			none = true
		case "MAY":
			site = max(site, mailtls.LevelMay)
		case "MUST_NOPEERMATCH":
			site = max(site, mailtls.LevelEncrypt)
		case "MUST":
			site = max(site, mailtls.LevelVerify)
		default:
			p.log.Warnf("%s: %s: unknown TLS policy '%s'", p.perSite.Title(), key, word)
			return ErrConfig
		}
	}
	switch {
	case !known:
		return nil
	case none && site <= mailtls.LevelMay:
		site = mailtls.LevelNone
	case site == mailtls.LevelMay:
		site = max(site, p.global)
	}
	f.level = site
	return nil
}
