package route

import (
	"context"
	"fmt"
	"strings"

	"posthaste/internal/mail/addr"
)

// The contexts in which an address is brought into standard form
// (trivial-rewrite(8), ADDRESS REWRITING): local appends myorigin and
// mydomain, remote appends remote_header_rewrite_domain instead.
const (
	ContextLocal  = "local"
	ContextRemote = "remote"
)

// RewriteConfig is what main.cf says about the standard form.
type RewriteConfig struct {
	MyOrigin          string `param:"myorigin"`
	MyDomain          string `param:"mydomain"`
	AppendAtMyOrigin  bool   `param:"append_at_myorigin"`
	AppendDotMyDomain bool   `param:"append_dot_mydomain"`
	// OldDefault is told when a default of an older compatibility_level
	// decided; nil when none is in force.
	OldDefault   func(setting, purpose string)
	SwapBangPath bool   `param:"swap_bangpath"`
	PercentHack  bool   `param:"allow_percent_hack"`
	RemoteDomain string `param:"remote_header_rewrite_domain"`
}

// Rewriter brings addresses into standard form. It has no state and asks
// nobody, so it cannot fail.
type Rewriter struct{ cfg RewriteConfig }

// NewRewriter makes a rewriter.
func NewRewriter(cfg RewriteConfig) *Rewriter { return &Rewriter{cfg} }

// Rewrite returns a in standard form: source route gone, site!user and
// user%site turned into user@site, missing origin and domain appended,
// trailing dot gone. The null address stays null. where is ContextLocal or
// ContextRemote; cleanup leaves headers of remote mail alone altogether when
// remote_header_rewrite_domain is empty, and does not call this then.
//
// Operators in a local part that needs quotes are text: they are left alone
// here, and looked at by Resolver.
func (r *Rewriter) Rewrite(_ context.Context, where string, a addr.Address) addr.Address {
	if a == "" || a == "@" {
		return ""
	}
	return r.rewrite(where, parse(stripSourceRoute(a))).address()
}

// form is an address in its parts. Without domain, has is false; "user@" has
// an empty one.
type form struct {
	local, domain string
	has           bool
}

func parse(a addr.Address) form {
	local, domain, has := a.Split()
	return form{local, domain, has}
}

func (f form) address() addr.Address {
	if !f.has {
		return addr.Address(f.local)
	}
	return addr.Address(f.local + "@" + f.domain)
}

func (r *Rewriter) rewrite(where string, f form) form {
	origin, domain := r.cfg.MyOrigin, r.cfg.MyDomain
	if where != ContextLocal {
		origin, domain = r.cfg.RemoteDomain, r.cfg.RemoteDomain
	}
	if !f.has {
		f = r.addDomain(f, origin)
	}
	if r.cfg.AppendDotMyDomain && domain != "" && f.domain != "" && !strings.ContainsAny(f.domain, ".[") {
		if r.cfg.OldDefault != nil {
			r.cfg.OldDefault("append_dot_mydomain=yes", fmt.Sprintf("to rewrite \"%s\" to \"%s.%s\"", f.domain, f.domain, domain))
		}
		f.domain += "." + domain
	}
	f.domain = trimDot(f.domain)
	return f
}

// addDomain turns a form without "@" into one with it: the site of a bang
// path, else that of a percent form, else origin.
func (r *Rewriter) addDomain(f form, origin string) form {
	if addr.IsDotString(f.local) {
		if site, user, ok := strings.Cut(f.local, "!"); ok && r.cfg.SwapBangPath {
			return form{user, site, true}
		}
		if at := strings.LastIndexByte(f.local, '%'); at >= 0 && r.cfg.PercentHack {
			return form{f.local[:at], f.local[at+1:], true}
		}
	}
	if r.cfg.AppendAtMyOrigin && origin != "" {
		return form{f.local, origin, true}
	}
	return f
}

// trimDot strips one trailing dot, but neither dot-dot nor a lone dot: bogus
// names are left as they are, so that diagnostics show them.
func trimDot(domain string) string {
	if n := len(domain); n > 1 && domain[n-1] == '.' && domain[n-2] != '.' {
		return domain[:n-1]
	}
	return domain
}

// stripSourceRoute removes "@a,@b:" in front (RFC 5321 appendix F.2). What
// only resembles one is a strange local part and stays.
func stripSourceRoute(a addr.Address) addr.Address {
	route, rest, ok := strings.Cut(string(a), ":")
	if !ok || rest == "" || !strings.HasPrefix(route, "@") {
		return a
	}
	for _, hop := range strings.Split(route, ",") {
		if len(hop) < 2 || hop[0] != '@' || strings.ContainsAny(hop[1:], "@ \"<>()\\") {
			return a
		}
	}
	return addr.Address(rest)
}
