// Package config turns main.cf and master.cf into an immutable snapshot, and
// gives each service its view of it.
//
// It promises one evaluation rule for every reader: a service's -o settings,
// then main.cf, then the catalogue's default; references are expanded when a
// value is asked for, once. A value that cannot be used is an error that
// names file, line and parameter in Postfix's words. Reload makes a new
// snapshot; nobody changes one. Package master fills the roles' Config
// structs from it; the commands read single parameters. Roles do not import
// it.
package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"posthaste/internal/config/maincf"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/config/params"
)

// DefaultDir is where the configuration is unless told otherwise.
const DefaultDir = "/etc/postfix"

// Dir is the configuration directory: the value of option -c, else of
// MAIL_CONFIG, else DefaultDir.
func Dir(flagC string, getenv func(string) string) string {
	if flagC != "" {
		return flagC
	}
	if dir := getenv("MAIL_CONFIG"); dir != "" {
		return dir
	}
	return DefaultDir
}

// Snapshot is the configuration at one moment. It is immutable and safe for
// concurrent use.
type Snapshot struct {
	dir       string
	main      *maincf.File
	over      map[string]maincf.Setting
	master    *mastercf.File
	catalogue *params.Catalogue
	extra     map[string]*params.Param // of the services
	system    System
	view      *View
}

// Load reads main.cf and master.cf of dir. over replaces settings of main.cf,
// as option -o of a command does. The error is a *ParamError, a
// *maincf.SyntaxError, a *mastercf.Error, or one of the file system.
func Load(dir string, over ...maincf.Setting) (*Snapshot, error) {
	return load(dir, over, true)
}

// LoadMain is Load without master.cf, for commands that do not need it.
func LoadMain(dir string, over ...maincf.Setting) (*Snapshot, error) {
	return load(dir, over, false)
}

func load(dir string, over []maincf.Setting, withMaster bool) (*Snapshot, error) {
	main, err := maincf.Load(filepath.Join(dir, "main.cf"))
	if err != nil {
		return nil, err
	}
	var master *mastercf.File
	if withMaster {
		if master, err = mastercf.Load(filepath.Join(dir, "master.cf")); err != nil {
			return nil, err
		}
	}
	s := Assemble(Parts{Dir: dir, Main: main, Master: master, Over: over})
	return s, s.validate()
}

// Parts are what a snapshot is made of.
type Parts struct {
	Dir    string
	Main   *maincf.File   // nil: defaults only
	Master *mastercf.File // nil: no services
	Over   []maincf.Setting
	System System // the zero value is this host
}

// Assemble makes a snapshot without reading or validating anything: for
// postconf, which must show a configuration that is not valid, and tests.
func Assemble(p Parts) *Snapshot {
	s := &Snapshot{
		dir: p.Dir, main: p.Main, master: p.Master, system: p.System.orHost(),
		over:      make(map[string]maincf.Setting, len(p.Over)),
		extra:     make(map[string]*params.Param),
		catalogue: params.New(),
	}
	if s.main == nil {
		s.main = &maincf.File{Path: filepath.Join(p.Dir, "main.cf")}
	}
	for _, o := range p.Over {
		s.over[o.Name] = o
	}
	for _, service := range s.Services() {
		list := s.catalogue.ForService(service.Name, service.Program())
		for i := range list {
			s.extra[list[i].Name] = &list[i]
		}
	}
	s.view = s.newView(nil)
	return s
}

// Dir is the configuration directory.
func (s *Snapshot) Dir() string { return s.dir }

// Main is the view without a service: main.cf and the defaults.
func (s *Snapshot) Main() *View { return s.view }

// Services are the entries of master.cf in their order. The slice is shared.
func (s *Snapshot) Services() []mastercf.Service {
	if s.master == nil {
		return nil
	}
	return s.master.Services
}

// Service is the view of one service: with its -o settings and its name.
func (s *Snapshot) Service(service mastercf.Service) (*View, error) {
	v := s.newView(&service)
	if bad := service.BadOption(); bad != "" {
		return nil, &ParamError{File: service.Path, Line: service.Line, Text: bad}
	}
	for _, name := range []string{"myhostname", "mydomain"} {
		if _, ok := v.options[name]; ok {
			if err := v.checkHostname(name); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// ViewOf is Service without any check: for showing what is there.
func (s *Snapshot) ViewOf(service mastercf.Service) *View { return s.newView(&service) }

// MainFile is main.cf as read. It is shared and must not be changed.
func (s *Snapshot) MainFile() *maincf.File { return s.main }

// MasterFile is master.cf as read, nil when it was not. It is shared.
func (s *Snapshot) MasterFile() *mastercf.File { return s.master }

// Catalogue is the catalogue of built-in parameters.
func (s *Snapshot) Catalogue() *params.Catalogue { return s.catalogue }

// Param finds a parameter of the catalogue or of a service of master.cf.
func (s *Snapshot) Param(name string) (*params.Param, bool) {
	if p, ok := s.catalogue.Lookup(name); ok {
		return p, true
	}
	p, ok := s.extra[name]
	return p, ok
}

// ServiceParams are the names of the parameters that services bring along.
func (s *Snapshot) ServiceParams() []string {
	names := make([]string, 0, len(s.extra))
	for name := range s.extra {
		names = append(names, name)
	}
	return names
}

func (s *Snapshot) newView(service *mastercf.Service) *View {
	v := &View{snapshot: s, service: service, cache: make(map[string]cached)}
	if service != nil {
		v.options = make(map[string]maincf.Setting, len(service.Options))
		for _, o := range service.Options {
			o.Line = service.Line
			v.options[o.Name] = o
		}
	}
	return v
}

// View is the configuration as one service sees it. It is safe for concurrent
// use.
type View struct {
	snapshot *Snapshot
	service  *mastercf.Service
	options  map[string]maincf.Setting

	mu    sync.Mutex
	cache map[string]cached
}

type cached struct {
	value string
	err   error
}

// Snapshot is what the view is of.
func (v *View) Snapshot() *Snapshot { return v.snapshot }

// setting is the explicit setting of a parameter and the file it is in.
func (v *View) setting(name string) (s maincf.Setting, path string, ok bool) {
	if s, ok = v.options[name]; ok {
		return s, v.service.Path, true
	}
	if s, ok = v.snapshot.over[name]; ok {
		return s, v.snapshot.main.Path, true
	}
	s, ok = v.snapshot.main.Get(name)
	return s, v.snapshot.main.Path, ok
}

// Explicit tells whether the parameter is set in main.cf, on the command line
// or with -o in master.cf.
func (v *View) Explicit(name string) bool {
	_, _, ok := v.setting(name)
	return ok
}

// Raw is the unexpanded value, or "" when the name is not known.
func (v *View) Raw(name string) string {
	value, _, _ := v.lookup(name)
	return value
}

// lookup finds the unexpanded value.
func (v *View) lookup(name string) (value string, ok bool, err error) {
	if s, _, ok := v.setting(name); ok {
		return s.Value, true, nil
	}
	if value, ok, err := v.computed(name); ok || err != nil {
		return value, ok, err
	}
	if p, ok := v.snapshot.Param(name); ok {
		return p.Default, true, nil
	}
	return "", false, nil
}

// Known tells whether the name has a value: set somewhere or in the catalogue.
func (v *View) Known(name string) bool {
	_, ok, err := v.lookup(name)
	return ok || err != nil
}

// String is the expanded value; "" for a name that is not known. The error is
// a *ParamError.
func (v *View) String(name string) (string, error) {
	v.mu.Lock()
	c, ok := v.cache[name]
	v.mu.Unlock()
	if ok {
		return c.value, c.err
	}
	c.value, c.err = v.evaluate(name)
	v.mu.Lock()
	v.cache[name] = c
	v.mu.Unlock()
	return c.value, c.err
}

func (v *View) evaluate(name string) (string, error) {
	raw, ok, err := v.lookup(name)
	if err != nil {
		return "", v.failedDefault(name, err)
	}
	if !ok || !strings.Contains(raw, "$") {
		return raw, nil
	}
	return v.Expand(name, raw)
}

// failedDefault is an error in computing a default.
func (v *View) failedDefault(name string, err error) error {
	var bad *ParamError
	if errors.As(err, &bad) {
		return bad
	}
	return v.fail(name, "%s", err)
}

// ParamError is a parameter whose value cannot be used.
type ParamError struct {
	File     string
	Line     int // 0: a default, or given on the command line
	Param    string
	Text     string   // Postfix's words
	Warnings []string // what is logged in front of it
}

func (e *ParamError) Error() string { return e.Text }

// At is the text with the place of the setting, for logs and postfix check.
func (e *ParamError) At() string {
	text := e.Text
	if lead := "parameter " + e.Param + ": "; !strings.HasPrefix(text, lead) {
		text = lead + text
	}
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s, line %d: %s", e.File, e.Line, text)
	case e.File != "":
		return fmt.Sprintf("%s: %s", e.File, text)
	}
	return text
}

func (v *View) fail(name, format string, args ...any) *ParamError {
	s, path, _ := v.setting(name)
	return &ParamError{File: path, Line: s.Line, Param: name, Text: fmt.Sprintf(format, args...)}
}

// Value is Raw with the error of a default that cannot be computed.
func (v *View) Value(name string) (string, error) {
	value, _, err := v.lookup(name)
	if err != nil {
		return "", v.failedDefault(name, err)
	}
	return value, nil
}

// Expand expands text as the value of the named parameter.
func (v *View) Expand(name, text string) (string, error) {
	value, err := v.Expander().Expand(text)
	var bad *ParamError
	if errors.As(err, &bad) {
		return "", bad // of a default that is computed from others
	}
	if err != nil {
		bad = v.fail(name, "dictionary mail_dict: macro processing error")
		bad.Warnings = append(bad.Warnings, err.Error())
		return "", bad
	}
	return value, nil
}
