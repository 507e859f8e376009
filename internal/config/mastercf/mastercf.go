// Package mastercf reads and edits master.cf: one service a line, with its
// endpoint, privileges, wake-up time, process limit, command and parameter
// overrides.
//
// It promises that what it accepts is what Postfix accepts, in Postfix's
// words where it refuses. The syntax is that of master(5). Package config and
// the postconf command use it.
package mastercf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"posthaste/internal/config/maincf"
)

const blanks = " \t\n\v\f\r"

// Service is one entry of master.cf. The text of the columns is kept, because
// postconf shows it; the methods read it.
type Service struct {
	Name    string // "smtp", "127.0.0.1:10025", "public/showq"
	Type    string // inet, unix, unix-dgram, fifo, pass
	Private string // "y", "n", "-"; likewise the next two
	Unpriv  string
	Chroot  string
	Wakeup  string // "-", "60", "1000?"
	MaxProc string // "-", "0", ...
	Command string // the program, as written
	// Args are what follows the command, in one form: "-o" and "name=value"
	// are two words, and braces around a word are removed.
	Args []string
	// Options are the -o settings in order; later ones count.
	Options []maincf.Setting
	// Warnings are oddities in Args, such as unbalanced braces.
	Warnings []string
	Path     string
	Line     int
}

// Program is the base name of the command.
func (s *Service) Program() string {
	return s.Command[strings.LastIndexByte(s.Command, '/')+1:]
}

// Key is "name/type", which identifies an entry.
func (s *Service) Key() string { return s.Name + "/" + s.Type }

// IsPrivate tells whether the endpoint is for the mail system only; the
// default is yes.
func (s *Service) IsPrivate() bool { return s.Private != "n" }

// RunsUnprivileged tells whether the service runs as mail_owner; the default
// is yes.
func (s *Service) RunsUnprivileged() bool { return s.Unpriv != "n" }

// WantsChroot tells whether the service is to be confined to the queue
// directory; since Postfix 3.0 the default is no, and yes at compatibility
// level 0.
func (s *Service) WantsChroot(byDefault func() bool) bool {
	switch s.Chroot {
	case "y":
		return true
	case "n":
		return false
	}
	return byDefault()
}

// WakeupSeconds is the interval of the wake-up timer, 0 for none; onlyUsed
// (the question mark) means only services that have been used.
func (s *Service) WakeupSeconds() (seconds int, onlyUsed bool) {
	text, onlyUsed := strings.CutSuffix(s.Wakeup, "?")
	seconds, _ = strconv.Atoi(text)
	return seconds, onlyUsed
}

// ProcessLimit is the number of processes, 0 for no limit; byDefault is
// default_process_limit.
func (s *Service) ProcessLimit(byDefault int) int {
	if n, err := strconv.Atoi(s.MaxProc); err == nil {
		return n
	}
	return byDefault
}

// File is master.cf as read.
type File struct {
	Path     string
	Services []Service
	Warnings []string
}

// Load reads the file at path.
func Load(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, maincf.OpenError(path, err)
	}
	defer file.Close()
	return Read(file, path)
}

// Read reads the services; path is for messages.
func Read(from io.Reader, path string) (*File, error) {
	f := &File{Path: path}
	lines := maincf.NewLines(from, path)
	lines.Warn = func(text string) { f.Warnings = append(f.Warnings, text) }
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		service, err := ParseService(line.Text)
		if err != nil {
			bad := &Error{Path: path, Line: line.Number, Text: err.Error()}
			if errors.Is(err, ErrFieldCount) {
				bad.Text = fmt.Sprintf("file %s: line %d: %s", path, line.Number, err)
			}
			return nil, bad
		}
		service.Path, service.Line = path, line.Number
		for _, text := range service.Warnings {
			f.Warnings = append(f.Warnings, "master.cf: "+text)
		}
		f.Services = append(f.Services, *service)
	}
}

// Error is an entry that cannot be used. Its text is Postfix's, which names
// the entry and not the place; At adds that.
type Error struct {
	Path string
	Line int
	Text string
}

func (e *Error) Error() string { return e.Text }

// At is the text with file and line.
func (e *Error) At() string { return fmt.Sprintf("%s, line %d: %s", e.Path, e.Line, e.Text) }

// Fields of an entry, as postconf -F names them, in the order of the columns.
var Fields = [...]string{"service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command"}

// ParseService reads one logical line. The error has Postfix's words.
func ParseService(text string) (*Service, error) {
	words := splitWords(text)
	if len(words) < len(Fields) {
		return nil, ErrFieldCount
	}
	s := &Service{Name: words[0], Type: words[1], Private: words[2], Unpriv: words[3],
		Chroot: words[4], Wakeup: words[5], MaxProc: words[6], Command: words[7]}
	if err := s.check(text); err != nil {
		return nil, err
	}
	s.SetArgs(words[len(Fields):])
	return s, nil
}

// ErrFieldCount is a line with too few columns.
var ErrFieldCount = errors.New("bad field count")

func (s *Service) check(text string) error {
	invalid := func(field, value string) error {
		return fmt.Errorf("invalid %s field \"%s\" in \"%s\"", field, value, strings.ReplaceAll(text, "\n", " "))
	}
	switch {
	case !knownType(s.Type):
		return invalid("type", s.Type)
	case !yesNo(s.Private):
		return invalid("private", s.Private)
	case !yesNo(s.Unpriv):
		return invalid("unprivileged", s.Unpriv)
	case !yesNo(s.Chroot):
		return invalid("chroot", s.Chroot)
	case s.Wakeup != "-" && s.Wakeup != "-?" && !isNumber(strings.TrimSuffix(s.Wakeup, "?")):
		return invalid("wakeup", s.Wakeup)
	case s.MaxProc != "-" && !isNumber(s.MaxProc):
		return invalid("process_limit", s.MaxProc)
	}
	return nil
}

func knownType(text string) bool {
	switch text {
	case "inet", "unix", "fifo", "pass", "unix-dgram":
		return true
	}
	return false
}

func yesNo(text string) bool { return text == "-" || text == "y" || text == "n" }

// isNumber tells whether text is digits; an empty field counts, as "?" does.
func isNumber(text string) bool {
	return strings.Trim(text, "0123456789") == ""
}
