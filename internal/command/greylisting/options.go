// Package greylisting holds the commands about greylisting: postgrey, the
// policy server that takes over from the program of that name, and greylist,
// which shows and changes what the greylist knows.
//
// Both are functions of a cli.Env, as other commands are. What is decided, and
// how it is kept, is package policy/greylist's.
package greylisting

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/policy/greylist"
)

// options are those of postgrey(8).
type options struct {
	verbosity     int
	facility      string
	inet, unix    string
	socketMode    os.FileMode
	daemonize     bool
	pidFile       string
	user, group   string
	dbDir         string
	backlog       int
	exim          bool
	clients       []string // whitelist files
	recipients    []string
	set           greylist.Settings
	help, version bool
}

// definition is one option: its letter or 0, whether it takes a value, and
// what it does with it.
type definition struct {
	letter   byte
	argument argument
	apply    func(o *options, value string) error
}

type argument uint8

const (
	none argument = iota
	needed
	number
	optional // a number that may be left out
)

// definitions are the options by name.
func definitions() map[string]definition {
	text := func(letter byte, to func(o *options) *string) definition {
		return definition{letter, needed, func(o *options, v string) error { *to(o) = v; return nil }}
	}
	integer := func(to func(o *options) *int) definition {
		return definition{0, number, func(o *options, v string) (err error) { *to(o), err = strconv.Atoi(v); return err }}
	}
	flag := func(letter byte, set func(o *options)) definition {
		return definition{letter, none, func(o *options, _ string) error { set(o); return nil }}
	}
	return map[string]definition{
		"help":                   flag('h', func(o *options) { o.help = true }),
		"version":                flag(0, func(o *options) { o.version = true }),
		"verbose":                flag('v', func(o *options) { o.verbosity++ }),
		"quiet":                  flag('q', func(o *options) { o.verbosity-- }),
		"syslog-facility":        text(0, func(o *options) *string { return &o.facility }),
		"unix":                   text('u', func(o *options) *string { return &o.unix }),
		"inet":                   text('i', func(o *options) *string { return &o.inet }),
		"socketmode":             {0, needed, (*options).setMode},
		"daemonize":              flag('d', func(o *options) { o.daemonize = true }),
		"pidfile":                text(0, func(o *options) *string { return &o.pidFile }),
		"user":                   text(0, func(o *options) *string { return &o.user }),
		"group":                  text(0, func(o *options) *string { return &o.group }),
		"dbdir":                  text(0, func(o *options) *string { return &o.dbDir }),
		"delay":                  {0, number, (*options).setDelay},
		"max-age":                {0, number, (*options).setAge},
		"retry-window":           {0, needed, (*options).setWindow},
		"auto-whitelist-clients": {0, optional, (*options).setAutoWhitelist},
		"hostname":               text(0, func(o *options) *string { return &o.set.Hostname }),
		"listen-queue-size":      integer(func(o *options) *int { return &o.backlog }),
		"x-greylist-header":      text(0, func(o *options) *string { return &o.set.Header }),
		"greylist-text":          text(0, func(o *options) *string { return &o.set.Text }),
		"greylist-action":        text(0, func(o *options) *string { return &o.set.Action }),
		"lookup-by-host":         flag(0, func(o *options) { o.set.LookupByHost = true }),
		"lookup-by-subnet":       flag(0, func(o *options) { o.set.LookupByHost = false }),
		"ipv4cidr":               integer(func(o *options) *int { return &o.set.IPv4Bits }),
		"ipv6cidr":               integer(func(o *options) *int { return &o.set.IPv6Bits }),
		"privacy":                flag(0, func(o *options) { o.set.Privacy = true }),
		"exim":                   flag(0, func(o *options) { o.exim = true }),
		"whitelist-clients":      {0, needed, func(o *options, v string) error { o.clients = append(o.clients, v); return nil }},
		"whitelist-recipients":   {0, needed, func(o *options, v string) error { o.recipients = append(o.recipients, v); return nil }},
	}
}

func (o *options) setMode(value string) error {
	mode, err := strconv.ParseUint(value, 8, 32)
	if err != nil || mode > 0o777 {
		return fmt.Errorf("--socketmode must be an octal number, as 0666: %q", value)
	}
	o.socketMode = os.FileMode(mode)
	return nil
}

// orNegative keeps a zero from meaning the default.
func orNegative(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

func (o *options) setDelay(value string) error {
	n, err := strconv.ParseInt(value, 10, 32)
	o.set.Delay = time.Duration(max(n, 0)) * time.Second // 0 is the default
	return err
}

const day = 24 * time.Hour

func (o *options) setAge(value string) error {
	n, err := strconv.ParseInt(value, 10, 16)
	o.set.MaxAge = time.Duration(max(n, 0)) * day
	return err
}

func (o *options) setWindow(value string) error {
	digits, hours := strings.CutSuffix(value, "h")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return fmt.Errorf("--retry-window must be a number of days, or of hours with 'h' behind it: %q", value)
	}
	unit := day
	if hours {
		unit = time.Hour
	}
	o.set.RetryWindow = time.Duration(n) * unit
	return nil
}

func (o *options) setAutoWhitelist(value string) error {
	if value == "" {
		o.set.AutoWhitelist = 5
		return nil
	}
	n, err := strconv.Atoi(value)
	o.set.AutoWhitelist = orNegative(n)
	return err
}

// usageError is an error of how the command was called; badValue is one that
// shows only when all options are read.
type usageError struct{ error }

// parseOptions reads the options of postgrey: long ones, their values behind
// "=" or apart, and letters, alone or together. The first operand ends them.
func parseOptions(args []string) (*options, error) {
	o := &options{facility: "mail", socketMode: 0o666, user: "postgrey", group: "postgrey", dbDir: "/var/lib/postgrey"}
	known := definitions()
	letters := map[byte]string{}
	for name, d := range known {
		if d.letter != 0 {
			letters[d.letter] = name
		}
	}
	for len(args) > 0 {
		arg := args[0]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			break
		}
		args = args[1:]
		var err error
		if strings.HasPrefix(arg, "--") {
			name, value, has := strings.Cut(arg[2:], "=")
			args, err = o.option(known, name, given{value, has, args})
		} else {
			args, err = o.cluster(known, letters, arg[1:], args)
		}
		if err != nil {
			return o, err
		}
	}
	if o.help || o.version {
		return o, nil
	}
	return o, o.check()
}

// given is what stands behind an option: its value, or the arguments that
// may be it.
type given struct {
	value string
	has   bool
	rest  []string
}

func (o *options) cluster(known map[string]definition, letters map[byte]string, cluster string, args []string) ([]string, error) {
	for cluster != "" {
		name, ok := letters[cluster[0]]
		if !ok {
			return nil, usageError{fmt.Errorf("Unknown option: %c", cluster[0])} //nolint:staticcheck // the words of the original
		}
		cluster = cluster[1:]
		g := given{rest: args}
		if known[name].argument != none && cluster != "" {
			g.value, g.has, cluster = strings.TrimPrefix(cluster, "="), true, ""
		}
		var err error
		if args, err = o.option(known, name, g); err != nil {
			return nil, err
		}
	}
	return args, nil
}

func (o *options) option(known map[string]definition, name string, g given) (rest []string, err error) {
	d, ok := known[name]
	switch {
	case !ok:
		return nil, usageError{fmt.Errorf("Unknown option: %s", name)} //nolint:staticcheck // the words of the original
	case d.argument == none && g.has:
		return nil, usageError{fmt.Errorf("Option %s does not take an argument", name)} //nolint:staticcheck // the words of the original
	case d.argument == none || g.has:
	case d.argument == optional:
		if len(g.rest) > 0 && isNumber(g.rest[0]) {
			g.value, g.rest = g.rest[0], g.rest[1:]
		}
	case len(g.rest) == 0:
		return nil, usageError{fmt.Errorf("Option %s requires an argument", name)} //nolint:staticcheck // the words of the original
	default:
		g.value, g.rest = g.rest[0], g.rest[1:]
	}
	if (d.argument == number || d.argument == optional && g.has) && !isNumber(g.value) {
		return nil, usageError{fmt.Errorf("Value \"%s\" invalid for option %s (number expected)", g.value, name)} //nolint:staticcheck // the words of the original
	}
	return g.rest, d.apply(o, g.value)
}

func isNumber(text string) bool {
	_, err := strconv.ParseInt(text, 10, 32)
	return err == nil
}

func (o *options) check() error {
	if o.inet == "" && o.unix == "" {
		return errors.New("--unix or --inet must be specified")
	}
	if o.set.IPv4Bits < 0 || o.set.IPv4Bits > 32 || o.set.IPv6Bits < 0 || o.set.IPv6Bits > 128 {
		return errors.New("--ipv4cidr and --ipv6cidr are lengths of a prefix: up to 32, and up to 128")
	}
	o.set.Quiet = o.verbosity < 0
	if o.set.Hostname == "" {
		o.set.Hostname, _ = os.Hostname()
	}
	const directory = "/etc/postgrey/whitelist_"
	if o.clients == nil {
		o.clients = []string{directory + "clients", directory + "clients.local"}
	}
	if o.recipients == nil {
		o.recipients = []string{directory + "recipients", directory + "recipients.local"}
	}
	return nil
}
