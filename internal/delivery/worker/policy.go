package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Policy bounds what the mail process can get from the delivery process. It
// comes from master, never from the mail process.
type Policy struct {
	// MinGID: groups from here on are open to every user but root; smaller
	// ones only to their members and with Pairs. virtual_minimum_uid is a
	// sensible value.
	MinGID int
	// Pairs are users and groups that the configuration names, such as
	// user=name:group of pipe(8) services and default_privs.
	Pairs []Rights
	// Groups are open to every user but root, such as those that
	// virtual_gid_maps names.
	Groups []int
	// SpoolDir is mail_spool_directory: its group is open to every user, and
	// files below it are what a worker of root may append to.
	SpoolDir string
	// Chroots are the directories of chroot= of pipe(8) services.
	Chroots []string
	// MaxWorkers bounds the living workers; 0 means 200.
	MaxWorkers int
}

const (
	policyVariable = "POSTHASTE_DELIVERY_POLICY"
	workerVariable = "POSTHASTE_WORKER"
	defaultMaximum = 200
)

// Environ is the environment variable that hands the policy to Main.
func (p Policy) Environ() string {
	text, err := json.Marshal(p)
	if err != nil {
		return policyVariable + "="
	}
	return policyVariable + "=" + string(text)
}

// check refuses rights that no delivery needs.
func (p *Policy) check(as Rights) error {
	if as.Chroot != "" && !slices.Contains(p.Chroots, as.Chroot) {
		return fmt.Errorf("chroot %q is not in the configuration", as.Chroot)
	}
	if as.UID == 0 {
		// A worker of root obeys its own, narrow rules: see fence.
		if as.GID != 0 || as.Chroot != "" {
			return fmt.Errorf("uid 0 with gid %d is refused", as.GID)
		}
		return nil
	}
	if as.GID != 0 && (p.MinGID > 0 && as.GID >= p.MinGID || slices.Contains(p.Groups, as.GID)) {
		return nil
	}
	for _, pair := range p.Pairs {
		if pair.UID == as.UID && pair.GID == as.GID {
			return nil
		}
	}
	if as.GID != 0 && p.SpoolDir != "" {
		if info, err := os.Stat(p.SpoolDir); err == nil && facts(info).GID == as.GID {
			return nil
		}
	}
	if member(as) {
		return nil
	}
	return fmt.Errorf("gid %d is not a group of uid %d", as.GID, as.UID)
}

func member(as Rights) bool {
	u, err := user.LookupId(strconv.Itoa(as.UID))
	if err != nil {
		return false
	}
	gid := strconv.Itoa(as.GID)
	if u.Gid == gid {
		return true
	}
	groups, err := u.GroupIds()
	return err == nil && as.GID != 0 && slices.Contains(groups, gid)
}

// fence keeps a worker of root to what local(8) needs root for: mailboxes in a
// spool directory that only root may write to, root's own home directory, and
// the facts about a file. It runs no command.
type fence struct {
	dirs  []string // directories that may be read and written below
	spool string   // directory whose files, but nothing deeper, may be appended to
}

func rootFence(spool string) *fence {
	f := &fence{}
	if spool != "" {
		f.spool = filepath.Clean(spool)
		f.dirs = append(f.dirs, f.spool)
	}
	if u, err := user.LookupId("0"); err == nil && u.HomeDir != "" && filepath.Clean(u.HomeDir) != "/" {
		f.dirs = append(f.dirs, filepath.Clean(u.HomeDir))
	}
	return f
}

func (f *fence) allows(r *request) error {
	path := r.path
	switch r.op {
	case opStat, opStatTarget:
		return nil
	case opAppend:
		path = r.append.Path
		if r.append.Give && (filepath.Dir(path) != f.spool || r.append.OwnerUID <= 0) {
			return fmt.Errorf("root does not give away %q", path)
		}
	case opMaildir:
		path = r.maildir.Dir
	case opRead:
	default:
		return fmt.Errorf("root runs no commands")
	}
	clean := filepath.Clean(path)
	for _, dir := range f.dirs {
		if strings.HasPrefix(clean, dir+"/") && !strings.Contains("/"+path+"/", "/../") {
			return f.straight(dir, clean, r.op)
		}
	}
	return fmt.Errorf("root does not touch %q", path)
}

// straight refuses a way through directories that others might redirect.
func (f *fence) straight(dir, path string, op operation) error {
	for p := filepath.Dir(path); len(p) > len(dir); p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if facts(info).UID != 0 || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("root does not go through %q", p)
		}
	}
	if info, err := os.Lstat(path); err == nil && op == opRead && (!info.Mode().IsRegular() || facts(info).UID != 0) {
		return fmt.Errorf("root does not read %q", path)
	}
	return nil
}
