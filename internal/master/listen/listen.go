// Package listen is the sockets of the mail system: which ones master.cf wants,
// and those that are open.
//
// It promises that a set of sockets is not changed once made: a reload makes
// another, that shares what stays, and closes the rest when it is in use. Only
// package master calls it, in the process that may open ports.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/master/layout"
	"posthaste/internal/sys/strerror"
)

// Endpoint is one place to listen on for a service.
type Endpoint struct {
	Service string // key of the master.cf entry, "smtp/inet"
	network string // tcp4, tcp6, unix, unixgram
	Address string // "0.0.0.0:25", or a path
	private bool   // UNIX-domain: below private/ rather than public/
}

// key is the same for a service that was only renamed: it keeps its socket.
func (e Endpoint) key() string { return e.network + " " + e.Address }

// served are the programs behind UNIX-domain sockets that somebody outside
// connects to. The other services of master.cf are called inside the process.
var served = map[string]bool{"pickup": true, "qmgr": true, "flush": true, "showq": true, "postlogd": true, "spawn": true}

// Wanted lists what a configuration wants to listen on.
func Wanted(snap *config.Snapshot) ([]Endpoint, error) {
	queue, err := snap.Main().String("queue_directory")
	if err != nil {
		return nil, err
	}
	var all []Endpoint
	for _, service := range snap.Services() {
		switch service.Type {
		case "inet":
			some, err := inetEndpoints(snap, service)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		case "unix", "fifo", "unix-dgram":
			if !served[service.Program()] {
				continue
			}
			class, network := "public", "unix"
			if service.IsPrivate() {
				class = "private"
			}
			if service.Type == "unix-dgram" {
				network = "unixgram"
			}
			all = append(all, Endpoint{service.Key(), network, filepath.Join(queue, class, service.Name), service.IsPrivate()})
		}
	}
	return all, nil
}

// inetEndpoints resolves "port", "host:port" and "[v6]:port" (master(5)).
func inetEndpoints(snap *config.Snapshot, service mastercf.Service) ([]Endpoint, error) {
	host, port := "", service.Name
	if at := strings.LastIndexByte(service.Name, ':'); at >= 0 {
		host, port = strings.Trim(service.Name[:at], "[]"), service.Name[at+1:]
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, fmt.Errorf("%s/master.cf: line %d: service %s: unknown port %q; use a number or a name of /etc/services",
			snap.Dir(), service.Line, service.Name, port)
	}
	view, err := snap.Service(service)
	if err != nil {
		return nil, err
	}
	ips, err := listenAddresses(view, host)
	if err != nil {
		return nil, err
	}
	var all []Endpoint
	for _, ip := range ips {
		network := "tcp4"
		if ip.Is6() {
			network = "tcp6"
		}
		all = append(all, Endpoint{service.Key(), network, netip.AddrPortFrom(ip, uint16(number)).String(), false})
	}
	return all, nil
}

// listenAddresses is the host of the service name, else inet_interfaces.
func listenAddresses(view *config.View, host string) ([]netip.Addr, error) {
	if host != "" {
		if ip, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{ip}, nil
		}
		names, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
		if err != nil {
			return nil, fmt.Errorf("host not found: %s", host)
		}
		return names, nil
	}
	interfaces, err := view.String("inet_interfaces")
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(interfaces) == "all" {
		return wildcard(view)
	}
	prefixes, err := view.Interfaces()
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	for _, p := range prefixes {
		ips = append(ips, p.Addr())
	}
	return ips, nil
}

func wildcard(view *config.View) ([]netip.Addr, error) {
	protocols, err := view.String("inet_protocols")
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	if all := strings.Contains(protocols, "all"); all || strings.Contains(protocols, "ipv4") {
		ips = append(ips, netip.IPv4Unspecified())
	}
	if all := strings.Contains(protocols, "all"); (all || strings.Contains(protocols, "ipv6")) && haveIPv6() {
		ips = append(ips, netip.IPv6Unspecified())
	}
	return ips, nil
}

// haveIPv6 tells whether the kernel speaks IPv6 at all.
func haveIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// open makes the socket. Its file can be handed on to another process.
func (e Endpoint) open() (*os.File, error) {
	switch e.network {
	case "tcp4", "tcp6":
		l, err := net.Listen(e.network, e.Address)
		if err != nil {
			host, port, _ := net.SplitHostPort(e.Address)
			return nil, fmt.Errorf("bind %s port %s: %s", host, port, strerror.Text(err))
		}
		defer l.Close()
		return l.(*net.TCPListener).File()
	case "unixgram":
		if err := removeSocket(e.Address); err != nil {
			return nil, err
		}
		c, err := net.ListenUnixgram(e.network, &net.UnixAddr{Name: e.Address, Net: e.network})
		if err != nil {
			return nil, fmt.Errorf("bind %s: %s", e.Address, strerror.Text(err))
		}
		defer c.Close()
		return c.File()
	}
	if err := removeSocket(e.Address); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: e.Address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("bind %s: %s", e.Address, strerror.Text(err))
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	return l.File()
}

// removeSocket clears what a former run left, and nothing but a socket.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != os.ModeSocket && info.Mode().Type() != os.ModeNamedPipe {
		return fmt.Errorf("%s is in the way: not a socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// Sockets are the open endpoints, by key. A set is not changed once made.
type Sockets map[string]Socket

// Socket is an open endpoint. Its file can be handed to another process.
type Socket struct {
	Endpoint
	File *os.File
}

// With opens what is wanted and not there yet. It closes nothing, except, on
// an error, what it has opened itself: CloseBut is for when the result is used.
func (s Sockets) With(wanted []Endpoint, owner layout.Identity) (Sockets, error) {
	next := Sockets{}
	for _, e := range wanted {
		file, err := s[e.key()].File, error(nil)
		if file == nil || next[e.key()].File != nil { // twice: let the kernel say so
			file, err = e.open()
		}
		if err == nil && s[e.key()].File == nil && e.network[0] == 'u' {
			err = giveSocket(e.Address, owner)
		}
		if err != nil {
			next.CloseBut(s)
			return nil, err
		}
		next[e.key()] = Socket{e, file}
	}
	return next, nil
}

// CloseBut closes the sockets that are not in another set.
func (s Sockets) CloseBut(kept Sockets) {
	for key, old := range s {
		if kept[key].File != old.File {
			old.File.Close()
		}
	}
}

// giveSocket lets everybody connect who can reach the directory, as Postfix does.
func giveSocket(path string, owner layout.Identity) error {
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o666)
}
