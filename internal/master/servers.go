package master

import (
	"context"
	"net"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
)

// serve gives each socket to the role of its service. A role whose settings
// cannot be used is logged and throttled: its connections wait.
func (g *generation) serve(listeners []Listener) {
	services := map[string]mastercf.Service{}
	for _, s := range g.snap.Services() {
		services[s.Key()] = s
	}
	for _, l := range listeners {
		service, ok := services[l.Service]
		if !ok {
			l.File.Close() // the entry went away between two reads of master.cf
			continue
		}
		g.serveOne(service, l)
	}
}

// serveOne starts the role behind one socket.
func (g *generation) serveOne(service mastercf.Service, l Listener) {
	defer l.File.Close() // net makes its own copy
	view, err := g.snap.Service(service)
	log := g.system.logger(g.main, "master")
	if err != nil {
		log.Warnf("service %s: %v", l.Service, err)
		return
	}
	if service.Type == "unix-dgram" {
		conn, err := net.FilePacketConn(l.File)
		if err != nil {
			log.Warnf("service %s: %v", l.Service, err)
			return
		}
		g.keep(conn)
		g.group.Go("postlogd", func(context.Context) { serveLog(g.listen, conn, g.system.sink) })
		return
	}
	ln, err := net.FileListener(l.File)
	if err != nil {
		log.Warnf("service %s: %v", l.Service, err)
		return
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	g.keep(ln)
	g.start(view, service, ln)
}

// start runs the role of a listening service.
func (g *generation) start(view *config.View, service mastercf.Service, ln net.Listener) {
	switch service.Program() {
	case "smtpd":
		g.startSMTPD(view, service, ln)
	case "pickup":
		g.startPickup(view, service, ln)
	case "qmgr", "flush":
		g.startTrigger(view, service, ln)
	case "spawn":
		g.startSpawn(view, service, ln)
	case "showq":
		g.startShowq(view, service, ln)
	}
}
