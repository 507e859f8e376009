package local

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"posthaste/internal/delivery/worker"
)

// User is an account of this host.
type User struct {
	Name        string
	UID, GID    int
	Home, Shell string
}

// Rights are the user's rights.
func (u User) Rights() worker.Rights { return worker.Rights{UID: u.UID, GID: u.GID} }

func (u User) identity() identity { return identity{u.Rights(), u.Home, u.Shell} }

// Users finds accounts. An error means "try again".
type Users interface {
	ByName(name string) (User, bool, error)
	ByUID(uid int) (User, bool, error)
}

// PasswordFile is Users from a file in the form of passwd(5), which is read
// again when it changes.
type PasswordFile struct {
	path string

	mu     sync.Mutex
	stamp  stamp
	byName map[string]User
	byUID  map[int]User
}

type stamp struct {
	modified time.Time
	size     int64
}

// NewPasswordFile makes Users of a file, usually /etc/passwd.
func NewPasswordFile(path string) *PasswordFile { return &PasswordFile{path: path} }

// ByName implements Users.
func (p *PasswordFile) ByName(name string) (User, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return User{}, false, err
	}
	u, ok := p.byName[name]
	return u, ok, nil
}

// ByUID implements Users.
func (p *PasswordFile) ByUID(uid int) (User, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil {
		return User{}, false, err
	}
	u, ok := p.byUID[uid]
	return u, ok, nil
}

func (p *PasswordFile) refresh() error {
	info, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	now := stamp{info.ModTime(), info.Size()}
	if p.byName != nil && now == p.stamp {
		return nil
	}
	text, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	if int64(len(text)) != info.Size() {
		return fmt.Errorf("%s is being changed", p.path)
	}
	p.stamp, p.byName, p.byUID = now, map[string]User{}, map[int]User{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		u, ok := parseUser(lines.Text())
		if !ok {
			continue
		}
		if _, known := p.byName[u.Name]; !known {
			p.byName[u.Name] = u
		}
		if _, known := p.byUID[u.UID]; !known {
			p.byUID[u.UID] = u
		}
	}
	return lines.Err()
}

// parseUser reads a line name:password:uid:gid:gecos:home:shell.
func parseUser(line string) (User, bool) {
	f := strings.Split(line, ":")
	if len(f) < 7 || f[0] == "" || strings.HasPrefix(f[0], "#") || strings.ContainsAny(f[0], "/\x00") || f[0][0] == '.' {
		return User{}, false
	}
	uid, err1 := strconv.Atoi(f[2])
	gid, err2 := strconv.Atoi(f[3])
	if err1 != nil || err2 != nil || uid < 0 || gid < 0 {
		return User{}, false
	}
	return User{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}, true
}
