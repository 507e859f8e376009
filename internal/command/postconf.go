package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/config/maincf"
	"posthaste/internal/config/mastercf"
)

// pcOption is an option of postconf that has no value of its own, and the bit
// that stands for it.
type pcOption uint32

const (
	pcServerSASL pcOption = 1 << iota
	pcClientSASL
	pcExpandedTemplates
	pcDefaults
	pcEdit
	pcFold
	pcFields
	pcNoName
	pcNoValue
	pcLocks
	pcMaps
	pcEntries
	pcNonDefault
	pcOverride
	pcMain
	pcParams
	pcTemplates
	pcTLS
	pcExpand
	pcRemove
	pcComment
	pcJSON
	pcAllParams // -PP
)

// pcNames are the letters of the options, in the order of messages.
const pcNames = "aAbdefFhHlmMnopPtTxX#j"

func (o pcOption) String() string {
	var names []string
	for i, letter := range pcNames {
		if o&(1<<i) != 0 {
			names = append(names, "-"+string(letter))
		}
	}
	return strings.Join(names, " ")
}

// pcModes are the modes of which one can be chosen; the other sets are
// options that exclude each other.
const pcModes = pcServerSASL | pcClientSASL | pcExpandedTemplates | pcLocks | pcMaps | pcTemplates | pcMain |
	pcEntries | pcFields | pcParams | pcTLS

const pcEditing = pcEdit | pcComment | pcRemove

var pcExclusive = [...]pcOption{
	pcModes,
	pcDefaults | pcNonDefault | pcEditing,
	pcFold | pcEditing,
	pcExpand | pcEditing,
	pcOverride | pcDefaults | pcEditing,
	pcNoName | pcNoValue | pcEditing,
	pcJSON | pcEditing,
}

// pcCompatible are the options that each mode goes with.
var pcCompatible = [...]struct{ mode, with pcOption }{
	{pcServerSASL, 0}, {pcClientSASL, 0}, {pcExpandedTemplates, 0}, {pcLocks, 0}, {pcMaps, 0}, {pcTLS, 0}, {pcTemplates, 0},
	{pcMain, pcEditing | pcFold | pcNoName | pcExpand | pcDefaults | pcNonDefault | pcOverride | pcNoValue | pcJSON},
	{pcEntries, pcEditing | pcFold | pcOverride | pcExpand | pcJSON},
	{pcFields, pcEdit | pcFold | pcNoName | pcOverride | pcExpand | pcNoValue | pcJSON},
	{pcParams, pcEdit | pcRemove | pcFold | pcNoName | pcOverride | pcExpand | pcNoValue | pcJSON | pcAllParams},
}

// postconf is one run of the command.
type postconf struct {
	*Env
	options  pcOption
	dir      string
	dirGiven bool
	classes  map[string]bool
	over     []maincf.Setting
	tlsMode  string
	quiet    bool
	names    []string
	system   config.System
}

// Postconf shows and edits main.cf and master.cf: postconf(1).
func Postconf(_ context.Context, env *Env) int { return runPostconf(env, config.System{}) }

// runPostconf is Postconf on a given host.
func runPostconf(env *Env, host config.System) int {
	p := &postconf{Env: env, system: host, classes: map[string]bool{"builtin": true, "service": true, "user": true}}
	p.system.ProcessName = "postconf"
	if err := p.parse(); err != nil {
		return p.fatal(err)
	}
	if err := p.run(); err != nil {
		return p.fatal(err)
	}
	return 0
}

// errSilent ends the command after a message was written.
var errSilent = errors.New("failed")

func (p *postconf) fatal(err error) int {
	if errors.Is(err, errSilent) {
		return 1
	}
	text := err.Error()
	var bad *config.ParamError
	if errors.As(err, &bad) {
		for _, warning := range bad.Warnings {
			p.Warnf("%s", warning)
		}
		if strings.HasSuffix(text, "macro processing error") {
			text = "macro processing error"
		}
	}
	return p.Fatalf("%s", text)
}

const pcUsage = "usage: %s [-a (server SASL types)] [-A (client SASL types)] [-b (bounce templates)] [-c config_dir]" +
	" [-c param_class] [-d (parameter defaults)] [-e (edit configuration)] [-f (fold lines)] [-F (master.cf fields)]" +
	" [-h (no names)] [-H (no values)] [-j (streaming JSON) ] [-l (lock types)] [-m (map types)] [-M (master.cf)]" +
	" [-n (non-default parameters)] [-o name=value (override parameter value)] [-p (main.cf, default)]" +
	" [-P (master.cf parameters)] [-t (bounce templates)] [-T compile-version|run-version|public-key-algorithms]" +
	" [-v (verbose)] [-x (expand parameter values)] [-X (exclude)] [-# (comment-out)] [name...]"

func (p *postconf) parse() error {
	options := p.Getopt("aAbc:C:deEfFhHjlmMno:pPqtT:vxX#")
	directory := ""
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case '?', 'E':
			return fmt.Errorf(pcUsage, p.Name)
		case 'c':
			directory = value
		case 'q':
			p.quiet = true
		case 'v':
		case 'C':
			if err := p.class(value); err != nil {
				return err
			}
		default:
			if err := p.option(letter, value); err != nil {
				return err
			}
		}
	}
	p.names = options.Operands()
	p.dir = config.Dir(directory, p.Getenv)
	p.dirGiven = directory != "" || p.Getenv("MAIL_CONFIG") != ""
	return p.check()
}

func (p *postconf) option(letter byte, value string) error {
	bit := pcOption(1) << strings.IndexByte(pcNames, letter)
	switch {
	case (bit|p.options)&(pcExpandedTemplates|pcTemplates) == pcExpandedTemplates|pcTemplates:
		return errors.New("specify one of -b and -t")
	case bit == pcTLS && p.options&pcTLS != 0:
		return errors.New("At most one -T <mode> option may be specified")
	case bit == pcParams && p.options&pcParams != 0:
		bit = pcAllParams
	}
	p.options |= bit
	switch bit {
	case pcOverride:
		setting, err := maincf.ParseSetting(value)
		if err != nil {
			reason, _, _ := strings.Cut(err.Error(), ": \"")
			return fmt.Errorf("invalid parameter override: %s: %s", value, reason)
		}
		p.over = append(p.over, setting)
	case pcTLS:
		p.tlsMode = value
	}
	return nil
}

func (p *postconf) class(list string) error {
	clear(p.classes)
	for _, word := range config.SplitWords(list) {
		switch name := strings.ToLower(word); name {
		case "builtin", "service", "user":
			p.classes[name] = true
		case "all":
			p.classes["builtin"], p.classes["service"], p.classes["user"] = true, true, true
		default:
			return fmt.Errorf("unknown -C option value \"%s\" in \"%s\"", word, list)
		}
	}
	return nil
}

// check completes the options and refuses what does not go together.
func (p *postconf) check() error {
	if p.options&pcModes == 0 {
		p.options |= pcMain
	}
	const files = pcMain | pcEntries | pcFields | pcParams
	if p.options&files != 0 && len(p.names) > 0 && strings.Contains(p.names[0], "=") {
		p.options |= pcEdit
	}
	for _, set := range pcExclusive {
		if both := p.options & set; both&(both-1) != 0 {
			return fmt.Errorf("specify one of %s", both)
		}
	}
	for _, c := range pcCompatible {
		if p.options&c.mode == 0 {
			continue
		}
		if excess := p.options &^ (c.mode | c.with); excess != 0 {
			return fmt.Errorf("with option %s, do not specify %s", c.mode, excess)
		}
	}
	if p.options&pcEdit != 0 && len(p.names) == 0 {
		return errors.New("-e requires name=value argument")
	}
	if p.options&pcEditing != 0 && len(p.names) == 0 {
		return errors.New("missing service argument")
	}
	return nil
}

func (p *postconf) has(o pcOption) bool { return p.options&o != 0 }

func (p *postconf) run() error {
	switch {
	case p.has(pcExpandedTemplates | pcTemplates):
		return p.templates()
	case p.has(pcMaps | pcLocks | pcServerSASL | pcClientSASL):
		return p.lists()
	case p.has(pcTLS):
		return p.tls()
	case p.has(pcEditing) && p.has(pcMain):
		return p.editMain()
	case p.has(pcEditing):
		return p.editMaster()
	case p.has(pcMain):
		return p.showMain()
	}
	return p.showMaster()
}

func (p *postconf) path(name string) string { return filepath.Join(p.dir, name) }

// snapshot reads both files, as far as they are needed, and reports what is
// odd about their text.
func (p *postconf) snapshot() (*config.Snapshot, error) {
	parts := config.Parts{Dir: p.dir, System: p.system}
	master, masterErr := mastercf.Load(p.path("master.cf"))
	if masterErr != nil && !p.has(pcMain) {
		return nil, masterErr
	}
	if p.has(pcDefaults) {
		parts.Dir = config.DefaultDir
	} else {
		main, err := maincf.Load(p.path("main.cf"))
		if err != nil {
			return nil, err
		}
		for _, warning := range main.Warnings {
			p.Warnf("%s", warning.Text)
		}
		parts.Main = main
		parts.Over = p.over
		if p.dirGiven {
			given := maincf.Setting{Name: "config_directory", Value: p.dir}
			parts.Over = append([]maincf.Setting{given}, parts.Over...)
		}
	}
	switch {
	case masterErr == nil:
		for _, warning := range master.Warnings {
			p.Warnf("%s", warning)
		}
		parts.Master = master
	case isOpenError(masterErr):
		p.Warnf("%s", masterErr)
	default:
		return nil, masterErr
	}
	return config.Assemble(parts), nil
}

func isOpenError(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission)
}

// analyse finds the user's own names and reports what is odd about values.
func (p *postconf) analyse(s *config.Snapshot) (*config.Usage, error) {
	depth := config.NamesAndTables
	if p.quiet {
		depth = config.NamesOnly
	}
	usage, err := config.Analyse(s, depth)
	if usage != nil {
		for _, w := range usage.Warnings {
			p.Warnf("%s", w.Text)
		}
	}
	return usage, err
}
