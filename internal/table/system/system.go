// Package system is the unix: tables: unix:passwd.byname and unix:group.byname
// give the entries of the system's accounts as they stand in /etc/passwd and
// /etc/group.
//
// DEVIATION: the files are read directly, and again when they change. Accounts
// of other name services (LDAP, NIS) are not seen, because a static binary
// cannot load their modules.
package system

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
)

// accounts is a file of lines "name:...".
type accounts struct {
	name  string
	lines *table.Following[map[string]string]
}

// Unix opens unix:passwd.byname or unix:group.byname.
func Unix(o *table.Opener, name string, _ table.Use) (table.Table, error) {
	path := "/etc/passwd"
	switch name {
	case "passwd.byname":
	case "group.byname":
		path = "/etc/group"
	default:
		return nil, table.Permanent{Reason: "unknown table: unix:" + name}
	}
	lines, err := table.Follow(o, path, readAccounts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %s", path, strerror.Text(err))
	}
	return &accounts{"unix:" + name, lines}, nil
}

func readAccounts(file *os.File) (map[string]string, error) {
	defer file.Close()
	lines := map[string]string{}
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		name, _, ok := strings.Cut(in.Text(), ":")
		if _, known := lines[name]; ok && !known && name != "" && name[0] != '#' && name[0] != '+' && name[0] != '-' {
			lines[name] = in.Text()
		}
	}
	return lines, in.Err()
}

// Lookup implements table.Table.
func (a *accounts) Lookup(_ context.Context, key string) (string, bool, error) {
	line, ok := a.lines.Get()[key]
	return line, ok, nil
}

func (a *accounts) Fixed() bool  { return true }
func (a *accounts) Name() string { return a.name }
func (a *accounts) Close() error { return nil }
