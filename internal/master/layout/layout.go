// Package layout is where the mail system keeps its files and who owns them:
// the directories below queue_directory with the modes that Postfix gives
// them, and the lock file that says whether a supervisor runs.
//
// It promises that Create changes nothing that exists unless it is asked to
// repair, and that the pid file names a running supervisor or nobody. Package
// master and postfix(1) use it.
package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Layout is where the system keeps its files, and who owns them.
type Layout struct {
	ConfigDirectory  string `param:"config_directory"`
	QueueDirectory   string `param:"queue_directory"`
	DataDirectory    string `param:"data_directory"`
	CommandDirectory string `param:"command_directory"`
	MailOwner        string `param:"mail_owner"`
	SetgidGroup      string `param:"setgid_group"`
}

// directory is one directory of the queue with its mode; owned by the mail
// owner unless root is set, of the set-gid group if drop is.
type directory struct {
	name string
	mode fs.FileMode
	root bool
	drop bool
}

// directories are those of Postfix (postfix-files in its distribution).
var directories = []directory{
	{"", 0o755, true, false}, {"pid", 0o755, true, false},
	{"active", 0o700, false, false}, {"bounce", 0o700, false, false}, {"corrupt", 0o700, false, false},
	{"defer", 0o700, false, false}, {"deferred", 0o700, false, false}, {"flush", 0o700, false, false},
	{"hold", 0o700, false, false}, {"incoming", 0o700, false, false}, {"private", 0o700, false, false},
	{"saved", 0o700, false, false}, {"trace", 0o700, false, false},
	{"maildrop", 0o730, false, true}, {"public", 0o710, false, true},
}

// Identity is a pair of ids to own files or run as.
type Identity struct{ UID, GID int }

// Owner looks mail_owner up. Without root privilege it is the caller.
func (l Layout) Owner() (Identity, error) {
	if os.Geteuid() != 0 {
		return Identity{os.Geteuid(), os.Getegid()}, nil
	}
	u, err := user.Lookup(l.MailOwner)
	if err != nil {
		return Identity{}, fmt.Errorf("file %s/main.cf: parameter mail_owner: unknown user name value: %s", l.ConfigDirectory, l.MailOwner)
	}
	return identity(u.Uid, u.Gid)
}

// dropGroup looks setgid_group up.
func (l Layout) dropGroup() (int, error) {
	if os.Geteuid() != 0 {
		return os.Getegid(), nil
	}
	g, err := user.LookupGroup(l.SetgidGroup)
	if err != nil {
		return 0, fmt.Errorf("file %s/main.cf: parameter setgid_group: unknown group name: %s", l.ConfigDirectory, l.SetgidGroup)
	}
	id, err := identity("0", g.Gid)
	return id.GID, err
}

func identity(uid, gid string) (Identity, error) {
	u, err := strconv.Atoi(uid)
	if err != nil {
		return Identity{}, err
	}
	g, err := strconv.Atoi(gid)
	return Identity{u, g}, err
}

// Postdrop finds our postdrop command, beside this program or in
// command_directory; ok reports whether it gives its callers the set-gid group.
func (l Layout) Postdrop() (path string, ok bool) {
	group, err := l.dropGroup()
	if err != nil {
		return "", false
	}
	for _, dir := range []string{executableDirectory(), l.CommandDirectory} {
		path := filepath.Join(dir, "postdrop")
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		owner, isUnix := info.Sys().(*syscall.Stat_t)
		return path, isUnix && info.Mode()&fs.ModeSetgid != 0 && int(owner.Gid) == group
	}
	return "", false
}

func executableDirectory() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(path)
}

// Create makes missing directories, and with repair also mends the owners and
// modes of those that exist.
//
// Without a set-gid postdrop, users could hand in no mail: the maildrop is
// then writable for all but not readable, and sticky; pickup(8) trusts nothing
// in it but the owner of a file.
func (l Layout) Create(repair Repair) error {
	owner, err := l.Owner()
	if err != nil {
		return err
	}
	group, err := l.dropGroup()
	if err != nil {
		return err
	}
	_, setgid := l.Postdrop()
	for _, d := range directories {
		if !setgid && d.drop {
			d.mode |= map[string]fs.FileMode{"maildrop": fs.ModeSticky | 0o003, "public": 0o001}[d.name]
		}
		own := owner
		if d.root {
			own = Identity{os.Geteuid(), os.Getegid()}
		}
		if d.drop {
			own.GID = group
		}
		if err := ensure(filepath.Join(l.QueueDirectory, d.name), d.mode, own, repair || Repair(d.drop && !setgid)); err != nil {
			return err
		}
	}
	return ensure(l.DataDirectory, 0o700, owner, repair)
}

// Repair says whether Create also mends what exists.
type Repair bool

func ensure(path string, mode fs.FileMode, own Identity, repair Repair) error {
	err := os.Mkdir(path, mode.Perm())
	switch {
	case errors.Is(err, fs.ErrExist):
		if !repair {
			return nil
		}
	case errors.Is(err, fs.ErrNotExist):
		if err = os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, own.UID, own.GID); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

// Check looks for owners and modes that are not as Create makes them, and for
// damaged messages; it returns a line for each.
func (l Layout) Check() []string {
	owner, err := l.Owner()
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, d := range directories {
		path := filepath.Join(l.QueueDirectory, d.name)
		info, err := os.Stat(path)
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if ok && os.Geteuid() == 0 {
			if d.root && stat.Uid != 0 {
				found = append(found, "not owned by root: "+path)
			}
			if !d.root && int(stat.Uid) != owner.UID {
				found = append(found, "not owned by "+l.MailOwner+": "+path)
			}
		}
		if d.name != "maildrop" && info.Mode().Perm()&0o022 != 0 {
			found = append(found, "group or other writable: "+path)
		}
	}
	damaged, _ := filepath.Glob(filepath.Join(l.QueueDirectory, "corrupt", "*"))
	for _, path := range damaged {
		found = append(found, "damaged message: corrupt/"+filepath.Base(path))
	}
	return found
}
