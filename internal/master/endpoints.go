package master

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

// endpoint is one place to listen on for a service.
type endpoint struct {
	service string // key of the master.cf entry, "smtp/inet"
	network string // tcp4, tcp6, unix, unixgram
	address string // "0.0.0.0:25", or a path
	private bool   // UNIX-domain: below private/ rather than public/
}

// key is the same for a service that was only renamed: it keeps its socket.
func (e endpoint) key() string { return e.network + " " + e.address }

// served are the programs behind UNIX-domain sockets that somebody outside
// connects to. The other services of master.cf are called inside the process.
var served = map[string]bool{"pickup": true, "qmgr": true, "flush": true, "showq": true, "postlogd": true, "spawn": true}

// endpoints lists what a configuration wants to listen on.
func endpoints(snap *config.Snapshot) ([]endpoint, error) {
	queue, err := snap.Main().String("queue_directory")
	if err != nil {
		return nil, err
	}
	var all []endpoint
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
			all = append(all, endpoint{service.Key(), network, filepath.Join(queue, class, service.Name), service.IsPrivate()})
		}
	}
	return all, nil
}

// inetEndpoints resolves "port", "host:port" and "[v6]:port" (master(5)).
func inetEndpoints(snap *config.Snapshot, service mastercf.Service) ([]endpoint, error) {
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
	var all []endpoint
	for _, ip := range ips {
		network := "tcp4"
		if ip.Is6() {
			network = "tcp6"
		}
		all = append(all, endpoint{service.Key(), network, netip.AddrPortFrom(ip, uint16(number)).String(), false})
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
func (e endpoint) open() (*os.File, error) {
	switch e.network {
	case "tcp4", "tcp6":
		l, err := net.Listen(e.network, e.address)
		if err != nil {
			host, port, _ := net.SplitHostPort(e.address)
			return nil, fmt.Errorf("bind %s port %s: %s", host, port, strerror.Text(err))
		}
		defer l.Close()
		return l.(*net.TCPListener).File()
	case "unixgram":
		if err := removeSocket(e.address); err != nil {
			return nil, err
		}
		c, err := net.ListenUnixgram(e.network, &net.UnixAddr{Name: e.address, Net: e.network})
		if err != nil {
			return nil, fmt.Errorf("bind %s: %s", e.address, strerror.Text(err))
		}
		defer c.Close()
		return c.File()
	}
	if err := removeSocket(e.address); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: e.address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("bind %s: %s", e.address, strerror.Text(err))
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

// sockets are the open endpoints, by key. A set is not changed once made.
type sockets map[string]socket

type socket struct {
	endpoint
	file *os.File
}

// with opens what is wanted and not there yet. It closes nothing, except, on
// an error, what it has opened itself: closeBut is for when the result is used.
func (s sockets) with(wanted []endpoint, owner layout.Identity) (sockets, error) {
	next := sockets{}
	for _, e := range wanted {
		file, err := s[e.key()].file, error(nil)
		if file == nil || next[e.key()].file != nil { // twice: let the kernel say so
			file, err = e.open()
		}
		if err == nil && s[e.key()].file == nil && e.network[0] == 'u' {
			err = giveSocket(e.address, owner)
		}
		if err != nil {
			next.closeBut(s)
			return nil, err
		}
		next[e.key()] = socket{e, file}
	}
	return next, nil
}

// closeBut closes the sockets that are not in another set.
func (s sockets) closeBut(kept sockets) {
	for key, old := range s {
		if kept[key].file != old.file {
			old.file.Close()
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
