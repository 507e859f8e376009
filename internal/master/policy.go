package master

import (
	"os/user"
	"strconv"

	"posthaste/internal/config"
	"posthaste/internal/delivery/pipe"
	"posthaste/internal/delivery/virtual"
	"posthaste/internal/delivery/worker"
)

// workerPolicy is what the delivery process lets the mail process have: the
// users and groups that the configuration names, and groups of ordinary users.
func workerPolicy(snap *config.Snapshot) worker.Policy {
	main := snap.Main()
	var p worker.Policy
	p.SpoolDir, _ = main.String("mail_spool_directory")
	p.MinGID, _ = main.Int("virtual_minimum_uid")
	views := []*config.View{main}
	owner, _ := main.String("mail_owner")
	for _, service := range snap.Services() {
		view, err := snap.Service(service)
		if err != nil {
			continue // the service will not start, and says why
		}
		views = append(views, view)
		if service.Program() != "pipe" && service.Program() != "spawn" {
			continue
		}
		s, err := pipe.ParseUser(service.Args, pipe.Users{User: user.Lookup, Group: user.LookupGroup, Owner: owner})
		if err != nil {
			continue
		}
		if s.Rights.Chroot != "" {
			p.Chroots = append(p.Chroots, s.Rights.Chroot)
			s.Rights.Chroot = ""
		}
		p.Pairs = append(p.Pairs, s.Rights)
	}
	for _, view := range views {
		if maps, err := view.String("virtual_gid_maps"); err == nil {
			p.Groups = append(p.Groups, virtual.StaticGroups(maps)...)
		}
		if name, err := view.String("default_privs"); err == nil {
			p.Pairs = append(p.Pairs, accountRights(name)...)
		}
	}
	return p
}

func accountRights(name string) []worker.Rights {
	u, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil || uid == 0 {
		return nil
	}
	return []worker.Rights{{UID: uid, GID: gid}}
}
