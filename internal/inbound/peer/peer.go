// Package peer is who is at the other end of a connection: address, port and,
// if it resolves back to the address, name.
//
// The name of a client is what policies and the log go by, so one that its
// owner merely claims counts as "unknown"; the log says why. smtpd and qmqpd
// use it.
package peer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"posthaste/internal/mail/addr"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
)

// Unknown stands for a name or address that is not known.
const Unknown = "unknown"

// Status is how the search for a name ended.
type Status uint8

const (
	OK     Status = iota
	Temp          // trouble: it may have a name
	None          // there is none
	Forged        // the name does not resolve to the address
)

// Client is a client as the session knows it.
type Client struct {
	Name          string // verified, or "unknown"
	NameStatus    Status
	ReverseName   string // unverified, or "unknown"
	ReverseStatus Status
	Address       string // IP address without brackets, or "unknown"
	Port          string
	ServerAddress string // our end of the connection
	ServerPort    string
}

// Resolver finds names and addresses of clients; dns.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, ip netip.Addr) (string, error)
}

// Of is the client of a connection, without its name. Connections that are not
// TCP are from this host.
func Of(conn net.Conn) Client {
	var c Client
	c.Address, c.Port = split(conn.RemoteAddr())
	c.ServerAddress, c.ServerPort = split(conn.LocalAddr())
	return c
}

func split(a net.Addr) (host, port string) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return "127.0.0.1", "0"
	}
	return tcp.AddrPort().Addr().Unmap().String(), strconv.Itoa(tcp.Port)
}

// NameAddr is the client in the log, "name[address]".
func (c *Client) NameAddr() string { return c.Name + "[" + c.Address + "]" }

// Lookup fills in the client's name: only one that resolves back to the address
// counts. Without a resolver it is unknown.
func (c *Client) Lookup(ctx context.Context, r Resolver, log *maillog.Logger) {
	c.Name, c.NameStatus, c.ReverseName, c.ReverseStatus = Unknown, None, Unknown, None
	ip, err := netip.ParseAddr(c.Address)
	if err != nil || r == nil {
		return
	}
	name, err := r.LookupAddr(ctx, ip)
	if err != nil {
		c.NameStatus = status(err)
		c.ReverseStatus = c.NameStatus
		return
	}
	if addr.ValidHostaddr(name) {
		log.Warnf("numeric hostname: %s", name)
		return
	}
	if !addr.ValidHostname(name) {
		log.Warnf("malformed domain name in resource data of PTR record for %s: %.100s", c.Address, name)
		return
	}
	c.ReverseName, c.ReverseStatus = name, OK
	found, err := r.LookupHost(ctx, name)
	if err != nil {
		log.Warnf("hostname %s does not resolve to address %s: %s", name, c.Address, resolverText(err))
		c.NameStatus = status(err)
		return
	}
	for _, a := range found {
		if a.Unmap() == ip.Unmap() {
			c.Name, c.NameStatus = name, OK
			return
		}
	}
	log.Warnf("hostname %s does not resolve to address %s", name, c.Address)
	c.NameStatus = Forged
}

func status(err error) Status {
	if errors.Is(err, dns.ErrNoHost) || errors.Is(err, dns.ErrNoData) || errors.Is(err, dns.ErrInvalid) {
		return None
	}
	return Temp
}

// resolverText is an error in the words of gai_strerror(3).
func resolverText(err error) string {
	switch {
	case errors.Is(err, dns.ErrNoHost), errors.Is(err, dns.ErrInvalid):
		return "Name or service not known"
	case errors.Is(err, dns.ErrNoData):
		return "No address associated with hostname"
	}
	return "Temporary failure in name resolution"
}
