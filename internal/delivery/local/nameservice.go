package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// NameService is Users from the password file, and from whatever else
// nsswitch.conf(5) lists (LDAP, NIS ...), which getent(1) is asked about.
type NameService struct {
	files *PasswordFile
	ask   func(ctx context.Context, key string) (line string, found bool, err error)
	now   func() time.Time

	mu    sync.Mutex
	known map[string]remembered
}

type remembered struct {
	user  User
	found bool
	until time.Time
}

const (
	remember     = 30 * time.Second // how long an answer of getent counts
	rememberMax  = 10_000
	getentExpiry = 20 * time.Second
)

// NewNameService makes Users of this host.
func NewNameService() *NameService {
	n := &NameService{files: NewPasswordFile("/etc/passwd"), now: time.Now, known: map[string]remembered{}}
	if text, err := os.ReadFile("/etc/nsswitch.conf"); err == nil && moreThanFiles(string(text)) {
		n.ask = getent
	}
	return n
}

// moreThanFiles reports whether the passwd line lists another source than the
// password file. What systemd adds are no mailbox owners.
func moreThanFiles(nsswitch string) bool {
	for line := range strings.Lines(nsswitch) {
		line, _, _ = strings.Cut(line, "#")
		sources, ok := strings.CutPrefix(strings.TrimSpace(line), "passwd:")
		if !ok {
			continue
		}
		for _, source := range strings.Fields(sources) {
			if !strings.HasPrefix(source, "[") && source != "files" && source != "compat" && source != "systemd" {
				return true
			}
		}
	}
	return false
}

// ByName implements Users.
func (n *NameService) ByName(name string) (User, bool, error) {
	u, found, err := n.files.ByName(name)
	if err != nil || found || n.ask == nil || name == "" || strings.ContainsAny(name, "/\x00\n:") || strings.Trim(name, "0123456789") == "" || name[0] == '-' {
		return u, found, err
	}
	return n.elsewhere(name, func(u User) bool { return u.Name == name })
}

// ByUID implements Users.
func (n *NameService) ByUID(uid int) (User, bool, error) {
	u, found, err := n.files.ByUID(uid)
	if err != nil || found || n.ask == nil {
		return u, found, err
	}
	return n.elsewhere(strconv.Itoa(uid), func(u User) bool { return u.UID == uid })
}

func (n *NameService) elsewhere(key string, right func(User) bool) (User, bool, error) {
	n.mu.Lock()
	r, ok := n.known[key]
	n.mu.Unlock()
	if ok && n.now().Before(r.until) {
		return r.user, r.found, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentExpiry)
	defer cancel()
	line, found, err := n.ask(ctx, key)
	if err != nil {
		return User{}, false, err
	}
	r = remembered{until: n.now().Add(remember)}
	if found {
		if r.user, r.found = parseUser(line); r.found && !right(r.user) {
			r.user, r.found = User{}, false
		}
	}
	n.mu.Lock()
	if len(n.known) >= rememberMax {
		clear(n.known)
	}
	n.known[key] = r
	n.mu.Unlock()
	return r.user, r.found, nil
}

// getent asks the name service: this program has no C library to do so.
func getent(ctx context.Context, key string) (string, bool, error) {
	cmd := exec.CommandContext(ctx, "getent", "passwd", "--", key)
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("getent passwd: %w", err)
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return line, true, nil
}
