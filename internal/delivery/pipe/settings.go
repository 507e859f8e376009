package pipe

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"posthaste/internal/config/macro"
	"posthaste/internal/delivery/worker"
)

// Settings are the attributes of a service in master.cf.
type Settings struct {
	Flags      string
	Rights     worker.Rights
	Argv       []string
	Directory  string
	EOL        string
	NullSender string
	SizeLimit  int64 // bytes, 0 for no limit
}

// flags that pipe(8) knows.
const knownFlags = "BDFORXhqu.>"

func (s *Settings) has(flag byte) bool { return strings.IndexByte(s.Flags, flag) >= 0 }

// Users finds user and group ids; the functions of os/user will do.
type Users struct {
	User  func(name string) (*user.User, error)
	Group func(name string) (*user.Group, error)
	Owner string // mail_owner
}

// ParseSettings reads the arguments of the service: what follows the program
// name in master.cf, without -o and -v options. An error has the words of
// Postfix's fatal error.
func ParseSettings(args []string, users Users) (Settings, error) {
	s, err := ParseUser(args, users)
	if err != nil {
		return s, err
	}
	for _, arg := range s.Argv {
		if err := checkMacros(arg); err != nil {
			return s, err
		}
	}
	return s, nil
}

// ParseUser is ParseSettings for commands whose arguments have no macros
// (spawn(8)).
func ParseUser(args []string, users Users) (Settings, error) {
	s := Settings{EOL: "\n", NullSender: "MAILER-DAEMON"}
	seenUser := false
	for i, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return s, fmt.Errorf("unknown attribute name: %s", arg)
		}
		var err error
		switch name {
		case "flags":
			if bad := strings.Trim(value, knownFlags); bad != "" {
				return s, fmt.Errorf("unknown flag: %c (ignored)", bad[0])
			}
			s.Flags = value
		case "user":
			seenUser = true
			err = s.setUser(value, users)
		case "directory":
			s.Directory = value
		case "chroot":
			s.Rights.Chroot = value
		case "eol":
			s.EOL = unescape(value)
		case "null_sender":
			s.NullSender = value
		case "size":
			s.SizeLimit, err = strconv.ParseInt(value, 10, 64)
			if err != nil || s.SizeLimit <= 0 {
				return s, fmt.Errorf("bad size limit: %s", value)
			}
		case "argv":
			s.Argv = append(s.Argv, value)
			for _, more := range args[i+1:] {
				s.Argv = append(s.Argv, unbrace(more))
			}
			return s, s.complete(seenUser)
		default:
			return s, fmt.Errorf("unknown attribute name: %s", name)
		}
		if err != nil {
			return s, err
		}
	}
	return s, s.complete(seenUser)
}

func (s *Settings) complete(seenUser bool) error {
	if !seenUser {
		return fmt.Errorf("missing user= command-line attribute")
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return fmt.Errorf("missing argv= command-line attribute")
	}
	return nil
}

func (s *Settings) setUser(text string, users Users) error {
	name, group, hasGroup := strings.Cut(text, ":")
	u, err := users.User(name)
	if err != nil {
		return fmt.Errorf("get_service_attr: unknown username: %s", name)
	}
	if s.Rights.UID, err = strconv.Atoi(u.Uid); err != nil {
		return fmt.Errorf("user %s has no numeric user id", name)
	}
	gid := u.Gid
	if hasGroup {
		g, err := users.Group(group)
		if err != nil {
			return fmt.Errorf("get_service_attr: unknown group: %s", group)
		}
		gid = g.Gid
	}
	if s.Rights.GID, err = strconv.Atoi(gid); err != nil {
		return fmt.Errorf("group of user %s has no numeric id", name)
	}
	if s.Rights.UID == 0 {
		return fmt.Errorf("user= command-line attribute specifies root privileges")
	}
	if users.Owner != "" {
		owner, err := users.User(users.Owner)
		if err == nil && owner.Uid == u.Uid {
			return fmt.Errorf("user= command-line attribute specifies mail system owner %s", users.Owner)
		}
		if err == nil && owner.Gid == gid {
			return fmt.Errorf("user= command-line attribute specifies mail system group of %s", users.Owner)
		}
	}
	return nil
}

// unbrace takes "{ text with blanks }" apart.
func unbrace(arg string) string {
	if len(arg) >= 2 && arg[0] == '{' && arg[len(arg)-1] == '}' {
		return strings.TrimSpace(arg[1 : len(arg)-1])
	}
	return arg
}

// unescape reads C's escape sequences.
func unescape(text string) string {
	const letters, values = `abfnrtv\`, "\a\b\f\n\r\t\v\\"
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if at := strings.IndexByte(letters, text[i]); at >= 0 {
			b.WriteByte(values[at])
			continue
		}
		digits := 0
		for digits < 3 && i+digits < len(text) && text[i+digits] >= '0' && text[i+digits] <= '7' {
			digits++
		}
		if digits == 0 {
			b.WriteByte(text[i])
			continue
		}
		n, _ := strconv.ParseUint(text[i:i+digits], 8, 16)
		b.WriteByte(byte(n))
		i += digits - 1
	}
	return b.String()
}

// checkMacros finds names that cannot be expanded before mail comes.
func checkMacros(arg string) error {
	return macro.Parse(arg, func(p macro.Piece) error {
		if p.Reference && !known(p.Text) {
			return fmt.Errorf("unknown macro name: \"%s\"", p.Text)
		}
		return nil
	})
}
