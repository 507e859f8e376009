package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
	"posthaste/internal/table/indexed"
)

// postmap is one run of postmap(1) or postalias(1).
type postmap struct {
	*Env
	alias bool // postalias: "name: value"

	dir                      string
	query, remove            *string
	list, json               bool
	header, body, mime       bool
	incremental, keepCase    bool
	files                    bool // -F
	keepRoot, plainMode      bool // -o, -p
	noUTF8, forceUTF8        bool // -u, -U
	null                     indexed.Null
	duplicates               indexed.Duplicates
	specs                    []string
	tables                   *table.Opener
	log                      *maillog.Logger
	defaultType              string
	utf8                     bool
	lineLimit, nesting, size int
	boundary                 int
	hostname                 string
}

// Postmap makes and queries lookup tables: postmap(1).
func Postmap(ctx context.Context, env *Env) int { return (&postmap{Env: env}).run(ctx) }

// Postalias makes and queries alias databases: postalias(1).
func Postalias(ctx context.Context, env *Env) int { return (&postmap{Env: env, alias: true}).run(ctx) }

// Newaliases brings the alias databases of alias_database up to date, as
// "sendmail -bi" and "sendmail -I" do.
func Newaliases(ctx context.Context, env *Env) int {
	options, flagC := env.Getopt("C:o:vI"), ""
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		if letter == 'C' {
			flagC = value
		}
	}
	return RebuildAliases(ctx, env, config.Dir(strings.TrimSuffix(flagC, "/main.cf"), env.Getenv))
}

// RebuildAliases runs postalias on the tables of alias_database of the
// configuration in dir.
func RebuildAliases(ctx context.Context, env *Env, dir string) int {
	snap, err := config.LoadMain(dir)
	if err != nil {
		return env.Fatalf("%s", configError(err))
	}
	list, err := snap.Main().String("alias_database")
	if err != nil {
		return env.Fatalf("%s", configError(err))
	}
	tool := *env
	tool.Name = "postalias"
	tool.Args = append([]string{"-c", dir, "--"}, table.SplitList(list)...)
	return Postalias(ctx, &tool)
}

// configError is a configuration error in the words of a command.
func configError(err error) string {
	var bad *config.ParamError
	if errors.As(err, &bad) {
		return bad.At()
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Sprintf("open %s: %s", file.Path, strerror.Text(err))
	}
	return err.Error()
}

// fatal ends the command with a message that goes to the log too.
func (p *postmap) fatal(format string, args ...any) int {
	if p.log == nil {
		return p.Fatalf(format, args...)
	}
	p.log.Fatalf(format, args...)
	return 1
}

func (p *postmap) usage() int {
	flags := "-bfFhimnNoprsuUvw"
	if p.alias {
		flags = "-Nfinoprsuvw"
	}
	return p.fatal("usage: %s [%s] [-c config_dir] [-d key] [-q key] [map_type:]file...", p.Name, flags)
}

func (p *postmap) run(ctx context.Context) int {
	status, ok := p.parse()
	if !ok {
		return status
	}
	if err := p.configure(); err != nil {
		return p.fatal("%s", err)
	}
	if status, ok := p.checkOptions(); !ok {
		return status
	}
	if len(p.specs) == 0 {
		return p.usage()
	}
	var found bool
	var err error
	switch {
	case p.query != nil:
		found, err = p.ask(ctx)
	case p.remove != nil:
		found, err = p.delete()
	case p.list:
		found, err = true, p.sequence(ctx)
	default:
		found, err = true, p.build()
	}
	if err != nil {
		return p.fatal("%s", err)
	}
	if !found {
		return 1
	}
	return 0
}

// parse reads the command line. ok is false when the command ends with status.
func (p *postmap) parse() (status int, ok bool) {
	spec := "bc:d:fFhijmnNopq:rsuUvw"
	if p.alias {
		spec = "Nc:d:fijnopq:rsuvw"
	}
	options := p.Getopt(spec)
	for {
		letter, value := options.Next()
		switch letter {
		case 0:
			p.specs = options.Operands()
			return 0, true
		case '?':
			return p.usage(), false
		case 'd', 'q':
			if p.query != nil || p.remove != nil || p.list {
				return p.fatal("specify only one of -s -q or -d"), false
			}
			if letter == 'd' {
				p.remove = &value
			} else {
				p.query = &value
			}
		case 's':
			if p.query != nil || p.remove != nil {
				return p.fatal("specify only one of -s or -q or -d"), false
			}
			p.list = true
		case 'c':
			p.dir = value
		default:
			p.flag(letter)
		}
	}
}

// flag notes an option without a value.
func (p *postmap) flag(letter byte) {
	switch letter {
	case 'b':
		p.body = true
	case 'h':
		p.header = true
	case 'm':
		p.mime = true
	case 'f':
		p.keepCase = true
	case 'F':
		p.files = true
	case 'i':
		p.incremental = true
	case 'j':
		p.json = true
	case 'n':
		p.null = indexed.NullNever
	case 'N':
		p.null = indexed.NullAlways
	case 'o':
		p.keepRoot = true
	case 'p':
		p.plainMode = true
	case 'r':
		p.duplicates = indexed.Replace
	case 'w':
		p.duplicates = indexed.Ignore
	case 'u':
		p.noUTF8 = true
	case 'U':
		p.forceUTF8 = true
	}
}

func (p *postmap) checkOptions() (status int, ok bool) {
	fromStdin := p.query != nil && *p.query == "-"
	if !fromStdin && (p.body || p.header || p.mime) {
		return p.fatal("specify -b -h or -m only with \"-q -\""), false
	}
	if p.mime && !p.body && !p.header {
		p.Warnf("ignoring -m option without -b or -h")
	}
	return 0, true
}

// configure reads main.cf.
func (p *postmap) configure() error {
	snap, err := config.LoadMain(config.Dir(p.dir, p.Getenv))
	if err != nil {
		return errors.New(configError(err))
	}
	var set struct {
		DefaultType string `param:"default_database_type"`
		UTF8        bool   `param:"smtputf8_enable"`
		LineLimit   int    `param:"line_length_limit"`
		Nesting     int    `param:"mime_nesting_limit"`
		HeaderLimit int    `param:"header_size_limit"`
		Boundary    int    `param:"mime_boundary_length_limit"`
		Hostname    string `param:"myhostname"`
	}
	if err := snap.Main().Fill(&set); err != nil {
		return errors.New(configError(err))
	}
	p.defaultType, p.hostname = set.DefaultType, set.Hostname
	p.lineLimit, p.nesting, p.size, p.boundary = set.LineLimit, set.Nesting, set.HeaderLimit, set.Boundary
	p.utf8 = set.UTF8 && !p.noUTF8 && (p.forceUTF8 || !p.body && !p.header)
	p.log = p.toolLog(snap.Main())
	p.tables = table.NewOpener(table.Setup{
		Log: p.log, Types: all.Types(), DefaultType: p.defaultType, UTF8: p.utf8, Getenv: p.Getenv,
	})
	return nil
}

// split divides a table's name.
func (p *postmap) split(spec string) (kind, name string) {
	kind, name, ok := strings.Cut(spec, ":")
	if !ok {
		return p.defaultType, spec
	}
	return kind, name
}

// open opens a table for reading.
func (p *postmap) open(spec string) (table.Table, error) {
	kind, name := p.split(spec)
	// The reason is told as a fatal error, not as the opener's error.
	quiet := p.tables.With(maillog.New(withoutErrors{p.log}, "", 0, nil))
	t := quiet.Open(kind+":"+name, table.Use{Fold: !p.keepCase, FileValues: p.files})
	if err := table.Reason(t); err != nil {
		if errors.Is(err, indexed.ErrType) {
			// libdb's own line, which scripts may look for.
			path := indexed.Path(kind, name)
			if !strings.Contains(path, "/") {
				path = "./" + path
			}
			fmt.Fprintf(p.Stderr, "BDB0641 __db_meta_setup: %s: unexpected file type or format\n", path)
		}
		return nil, err
	}
	return t, nil
}

// withoutErrors passes warnings on and drops errors.
type withoutErrors struct{ log *maillog.Logger }

// Write implements maillog.Sink.
func (w withoutErrors) Write(l maillog.Line) {
	if l.Severity == maillog.Warning {
		w.log.Warnf("%s", strings.TrimPrefix(l.Text, maillog.Warning.Prefix()))
	}
}

// keys calls use for every line of standard input.
func (p *postmap) keys(use func(key string) error) error {
	in := bufio.NewReader(p.Stdin)
	for {
		line, err := in.ReadString('\n')
		if line == "" && err != nil {
			return nil // the end of the input, or of the program that makes it
		}
		if err := use(strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
}
