// Package dns asks the domain name system: mail exchangers, addresses, names
// of addresses, texts.
//
// An answer is one of: records, a definite "no" (ErrNoHost, ErrNoData) or
// trouble (any other error, which means "try again" and is never a "no").
// Resolver is the interface that others take; Client is the one that asks
// real servers, and dnstest.Zone the one for tests.
package dns

import (
	"context"
	"errors"
	"net/netip"
)

var (
	ErrNoHost  = errors.New("host not found")                                  // NXDOMAIN
	ErrNoData  = errors.New("host found but no data record of requested type") // no such record
	ErrInvalid = errors.New("dns: malformed name or reply")                    // not worth a retry: a definite "no"
)

// MX is one mail exchanger; a null MX (RFC 7505) has Host "" or ".".
type MX struct {
	Preference uint16
	Host       string // without trailing dot
}

// Answer carries what came along with the records.
type Answer struct {
	Secure bool   // authenticated data (AD bit) from a trusted resolver
	Name   string // owner after following CNAMEs, without trailing dot
}

// Resolver looks names up. Names are given and returned without trailing dot.
// Every method respects ctx's deadline.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]MX, Answer, error)
	A(ctx context.Context, host string) ([]netip.Addr, Answer, error)
	AAAA(ctx context.Context, host string) ([]netip.Addr, Answer, error)
	PTR(ctx context.Context, ip netip.Addr) ([]string, Answer, error)
	TXT(ctx context.Context, name string) ([]string, Answer, error)
	NS(ctx context.Context, name string) ([]string, Answer, error)
	// Hosts answers from the system's host table (/etc/hosts) first and DNS
	// then, as getaddrinfo(3) does for names and getnameinfo(3) for addresses.
	LookupHost(ctx context.Context, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, ip netip.Addr) (string, error)
}
