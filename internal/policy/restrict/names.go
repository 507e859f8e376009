package restrict

import (
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/policy/mailhost"
)

// trimDot strips one trailing dot, but not of dot-dot.
func trimDot(name string) string {
	if n := len(name); n > 1 && name[n-1] == '.' && name[n-2] != '.' {
		return name[:n-1]
	}
	return name
}

// validName reports whether name can be a host name here.
func (e *eval) validName(name string) bool {
	return addr.ValidHostname(name) && (e.c.cfg.SMTPUTF8 || addr.Address(name).IsASCII())
}

func (e *eval) invalidHostname(name string, s subject) outcome {
	if trimmed := trimDot(name); e.validName(trimmed) || addr.ValidHostaddr(trimmed) {
		return dunno
	}
	return e.rejectf(e.c.cfg.Codes.InvalidHost, "5.5.2", "<%s>: %s rejected: Invalid name", s.name, s.class)
}

func (e *eval) invalidLiteral(name string, s subject) outcome {
	if _, ok := addr.ParseLiteral(name); ok {
		return dunno
	}
	return e.rejectf(e.c.cfg.Codes.InvalidHost, "5.5.2", "<%s>: %s rejected: invalid ip address", s.name, s.class)
}

func (e *eval) nonFQDNHostname(name string, s subject) outcome {
	if trimmed := trimDot(name); e.validName(trimmed) && strings.Contains(trimmed, ".") {
		return dunno
	}
	return e.rejectf(e.c.cfg.Codes.NonFQDN, "5.5.2", "<%s>: %s rejected: need fully-qualified hostname", s.name, s.class)
}

func (e *eval) nonFQDNAddress(a addr.Address, s subject) outcome {
	domain := a.Domain()
	if strings.HasPrefix(domain, "#") || strings.HasPrefix(domain, "[") {
		return dunno
	}
	if trimmed := trimDot(domain); e.validName(trimmed) && strings.Contains(trimmed, ".") {
		return dunno
	}
	return e.rejectf(e.c.cfg.Codes.NonFQDN, "5.5.2", "<%s>: %s rejected: need fully-qualified address", s.name, s.class)
}

// dnsName is a name as DNS may be asked for it; what cannot be a host name is
// not asked.
func (e *eval) dnsName(name string) (string, bool) {
	if !e.validName(name) {
		return "", false
	}
	ascii, err := addr.ToASCII(name)
	return ascii, err == nil
}

func (e *eval) unknownHostname(name string, s subject) outcome {
	x := mailhost.Missing
	if ascii, ok := e.dnsName(name); ok {
		x = mailhost.Host(e.ctx, e.c.setup.DNS, ascii)
	}
	switch x {
	case mailhost.Exists:
		return dunno
	case mailhost.Unknown:
		return e.deferIfPermit(e.c.cfg.Codes.HeloTempfail, dsn.Newf(450, "4.7.1", "<%s>: %s rejected: Host not found", s.name, s.class))
	}
	return e.rejectf(e.c.cfg.Codes.UnknownHost, "4.7.1", "<%s>: %s rejected: Host not found", s.name, s.class)
}

// unknownAddress is about domains that mail would have to leave for.
func (e *eval) unknownAddress(a addr.Address, s subject) outcome {
	r, err := e.resolve(e.peer(s.class), a)
	if err != nil {
		return e.tryLater(string(a))
	}
	domain := r.Recipient.Domain()
	if final(r.Class) || domain == "" || domain[0] == '#' || domain[0] == '[' {
		return dunno
	}
	enhanced, nullCode, nullEnhanced := "4.1.2", 556, "5.1.10"
	if s.class == classSender {
		enhanced, nullCode, nullEnhanced = "4.1.8", 550, "5.7.27"
	}
	code := e.c.cfg.Codes.UnknownAddress
	x := mailhost.Missing
	if ascii, ok := e.dnsName(domain); ok {
		x = mailhost.Domain(e.ctx, e.c.setup.DNS, ascii)
	}
	switch x {
	case mailhost.NullMX:
		return e.rejectf(nullCode, nullEnhanced, "<%s>: %s rejected: Domain %s does not accept mail (nullMX)", s.name, s.class, domain)
	case mailhost.Missing:
		return e.rejectf(code, enhanced, "<%s>: %s rejected: Domain not found", s.name, s.class)
	case mailhost.Malformed:
		return e.rejectf(code, enhanced, "<%s>: %s rejected: Malformed DNS server reply", s.name, s.class)
	case mailhost.Unknown:
		return e.deferIfPermit(e.c.cfg.Codes.AddrTempfail, dsn.Newf(450, enhanced, "<%s>: %s rejected: Domain not found", s.name, s.class))
	}
	return dunno
}
