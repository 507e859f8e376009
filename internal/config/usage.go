package config

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"posthaste/internal/config/macro"
	"posthaste/internal/config/maincf"
	"posthaste/internal/config/params"
)

// Finding is the kind of a Warning.
type Finding uint8

const (
	Unused     Finding = iota // set and read by nobody
	Undefined                 // referred to and not set
	Deprecated                // read, but will not be for ever
	ReadOnly                  // cannot be set
	Odd                       // anything else
)

// Warning is something in the configuration that does not do what its author
// may think.
type Warning struct {
	Finding Finding
	File    string
	Line    int // 0 when not known
	Param   string
	Nearest string // of an unused name: the known name most like it, or ""
	Text    string // in Postfix's words, with the file
}

// String is the text with the line and the nearest name, for logs and postfix
// check. The postconf command prints Text alone.
func (w Warning) String() string {
	text := w.Text
	if w.Line > 0 {
		text = fmt.Sprintf("%s (line %d)", text, w.Line)
	}
	if w.Nearest != "" {
		text += fmt.Sprintf("; did you mean %s?", w.Nearest)
	}
	return text
}

// Check returns what is odd about a configuration, sorted by file, line and
// name. The error is that of a value that must be expanded and cannot.
func Check(s *Snapshot) ([]Warning, error) {
	u, err := Analyse(s, NamesAndTables)
	if err != nil {
		return nil, err
	}
	list := append(u.Warnings, u.MainUnused()...)
	list = append(list, u.MasterUnused()...)
	for i := range list {
		if list[i].Finding == Unused {
			list[i].Nearest = s.nearest(list[i].Param)
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Param < b.Param
	})
	return list, nil
}

// Depth says how far an analysis goes.
type Depth uint8

const (
	NamesOnly      Depth = iota // main.cf and master.cf
	NamesAndTables              // the files of ldap, mysql ... tables, too
)

// Usage is which names of a configuration are used by something: the
// catalogue, a service, a restriction class, a reference, or a table.
type Usage struct {
	snapshot *Snapshot
	depth    Depth
	scopes   []*scope            // of the services with -o settings
	global   map[string]bool     // user-defined names of main.cf in use
	classes  map[string]bool     // smtpd_restriction_classes of main.cf
	dropped  map[string]bool     // read-only names
	visited  map[string]struct{} // table files
	// Warnings are about undefined and read-only names and table files, in
	// the order in which they were found.
	Warnings []Warning
}

// scope is main.cf, or one service's settings in front of it.
type scope struct {
	view    *View // of the service; of main.cf for the global scope
	local   bool
	used    map[string]bool // of the names in options
	options []maincf.Setting
	path    string
}

// Analyse finds out which names are used. The error is a *ParamError; what was
// found before it is in the result.
func Analyse(s *Snapshot, depth Depth) (*Usage, error) {
	u := &Usage{snapshot: s, depth: depth, global: make(map[string]bool), classes: make(map[string]bool),
		dropped: make(map[string]bool), visited: make(map[string]struct{})}
	for _, service := range s.Services() {
		if len(service.Options) == 0 {
			continue
		}
		view := s.newView(&service)
		u.scopes = append(u.scopes, &scope{view: view, local: true, used: make(map[string]bool),
			options: lastOf(service.Options, service.Line), path: service.Path})
	}
	for _, sc := range u.scopes {
		if err := u.scan(sc); err != nil {
			return u, err
		}
	}
	main := &scope{view: s.view, path: s.main.Path, options: s.explicit()}
	if err := u.defaults(main); err != nil {
		return u, err
	}
	return u, u.scan(main)
}

// explicit are the settings of main.cf and of the command line that count.
func (s *Snapshot) explicit() []maincf.Setting {
	var list []maincf.Setting
	for _, name := range s.main.Names() {
		if _, ok := s.over[name]; !ok {
			setting, _ := s.main.Get(name)
			list = append(list, setting)
		}
	}
	for _, setting := range s.over {
		list = append(list, setting)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

func lastOf(settings []maincf.Setting, line int) []maincf.Setting {
	at := make(map[string]int)
	var list []maincf.Setting
	for _, s := range settings {
		s.Line = line
		if i, ok := at[s.Name]; ok {
			list[i] = s
			continue
		}
		at[s.Name] = len(list)
		list = append(list, s)
	}
	return list
}

// defaults scans the defaults of what is not set.
func (u *Usage) defaults(main *scope) error {
	for _, name := range u.snapshot.catalogue.Names() {
		p, _ := u.snapshot.catalogue.Lookup(name)
		if p.Kind == params.Raw || main.view.Explicit(name) {
			continue
		}
		value, _, err := main.view.lookup(name)
		if err != nil {
			return main.view.failedDefault(name, err)
		}
		u.references(value, main, true)
	}
	return nil
}

// scan looks at the settings of a scope.
func (u *Usage) scan(sc *scope) error {
	if err := u.restrictionClasses(sc); err != nil {
		return err
	}
	for _, setting := range sc.options {
		if sc.local && u.classes[setting.Name] {
			sc.used[setting.Name] = true
		}
		p, known := u.snapshot.Param(setting.Name)
		if params.ReadOnly(setting.Name) {
			u.dropped[setting.Name] = true
			u.warn(Warning{Finding: ReadOnly, File: sc.path, Line: setting.Line, Param: setting.Name,
				Text: fmt.Sprintf("%s: read-only parameter assignment: %s=%s", sc.path, setting.Name, setting.Value)})
			continue
		}
		if known && p.Kind == params.Raw {
			continue
		}
		u.references(setting.Value, sc, false)
		if err := u.tables(setting, sc); err != nil {
			return err
		}
	}
	return nil
}

func (u *Usage) warn(w Warning) { u.Warnings = append(u.Warnings, w) }

// restrictionClasses marks the names in smtpd_restriction_classes.
func (u *Usage) restrictionClasses(sc *scope) error {
	const name = "smtpd_restriction_classes"
	if sc.local {
		if _, ok := sc.view.options[name]; !ok {
			return nil
		}
	} else if !sc.view.Explicit(name) {
		return nil
	}
	classes, err := sc.view.Words(name)
	if err != nil {
		return err
	}
	for _, class := range classes {
		if !sc.local {
			u.classes[class] = true
		}
		u.use(class, sc, false)
	}
	return nil
}

// references marks the names that a value refers to.
func (u *Usage) references(value string, sc *scope, quiet bool) {
	err := macro.Names(value, func(name string) { u.use(name, sc, quiet) })
	if err != nil && !quiet {
		u.warn(Warning{Finding: Odd, File: sc.path, Text: err.Error()})
	}
}

// use marks a name as used where it is set; quiet does not complain when it is
// set nowhere.
func (u *Usage) use(name string, sc *scope, quiet bool) {
	found := false
	if _, ok := sc.view.options[name]; sc.local && ok {
		sc.used[name], found = true, true
	} else if u.snapshot.view.Explicit(name) {
		u.global[name], found = true, true
	}
	if !sc.local {
		for _, other := range u.scopes {
			if _, ok := other.view.options[name]; ok {
				other.used[name], found = true, true
			}
		}
	}
	if _, known := u.snapshot.Param(name); found || quiet || known || params.Legacy(name) {
		return
	}
	u.warn(Warning{Finding: Undefined, File: sc.path, Param: name,
		Text: fmt.Sprintf("%s: undefined parameter: %s", sc.path, name)})
}

// tables looks for table:name in a value, and marks name_setting as used.
func (u *Usage) tables(setting maincf.Setting, sc *scope) error {
	value, err := sc.view.Expand(setting.Name, setting.Value)
	if err != nil {
		return err
	}
	u.tableWords(value, sc, 0)
	return nil
}

func (u *Usage) tableWords(value string, sc *scope, depth int) {
	if depth > 20 {
		return
	}
	words := SplitWords(value)
	for i, word := range words {
		if word[0] == '#' {
			u.comment(strings.Join(words[i+1:], " "), word, sc)
			return
		}
		if word[0] == '{' {
			u.tableWords(inBraces(word), sc, depth+1)
			continue
		}
		kind, name, ok := strings.Cut(word, ":")
		for ok && kind == "proxy" {
			kind, name, ok = strings.Cut(name, ":")
		}
		switch {
		case !ok || name == "" || name[0] == '.':
		case name[0] == '{':
			if kind != "regexp" && kind != "pcre" { // patterns may contain #
				u.tableWords(inBraces(name), sc, depth+1)
			}
		case name[0] == '/':
			u.tableFile(kind, name)
		default:
			for _, suffix := range params.TableSettings(kind) {
				u.use(name+"_"+suffix, sc, true)
			}
		}
	}
}

func inBraces(word string) string {
	word = strings.TrimPrefix(word, "{")
	return strings.TrimSuffix(word, "}")
}

func (u *Usage) comment(after, word string, sc *scope) {
	if len(after) > 20 {
		after = after[:20]
	}
	u.warn(Warning{Finding: Odd, File: sc.path,
		Text: fmt.Sprintf("%s: #comment after other text is not allowed: %s %s...", sc.path, word, after)})
}

// tableFile looks for settings in a table's own file that nobody reads.
func (u *Usage) tableFile(kind, path string) {
	known := params.TableSettings(kind)
	if known == nil || u.depth == NamesOnly {
		return
	}
	table := kind + ":" + path
	if _, done := u.visited[table]; done {
		return
	}
	u.visited[table] = struct{}{}
	odd := func(text string) { u.warn(Warning{Finding: Odd, File: path, Text: text}) }
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		odd(fmt.Sprintf("open \"%s\" configuration \"%s\": not a regular file", kind, path))
		return
	}
	file, err := maincf.Load(filepath.Clean(path))
	if err != nil {
		if !os.IsPermission(err) {
			odd(fmt.Sprintf("open \"%s\" configuration \"%s\": %s", kind, path, maincf.Reason(err)))
		}
		return
	}
	for _, name := range file.Names() {
		setting, _ := file.Get(name)
		if !contains(known, name) {
			u.warn(Warning{Finding: Unused, File: path, Line: setting.Line, Param: name,
				Text: fmt.Sprintf("%s: unused parameter: %s=%s", table, name, setting.Value)})
		}
	}
}

func contains(list []string, name string) bool {
	for _, item := range list {
		if item == name {
			return true
		}
	}
	return false
}

// UserDefined are the user's own names of main.cf that something uses, sorted.
func (u *Usage) UserDefined() []string {
	var names []string
	for _, setting := range u.snapshot.explicit() {
		if params.Legacy(setting.Name) {
			u.global[setting.Name] = true
		}
	}
	for name := range u.global {
		if _, builtin := u.snapshot.Param(name); !builtin && !u.dropped[name] {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// Dropped tells whether a setting is ignored because the name is read-only.
func (u *Usage) Dropped(name string) bool { return u.dropped[name] }

// MainUnused are the settings of main.cf that nothing uses, or that should no
// longer be used.
func (u *Usage) MainUnused() []Warning {
	var list []Warning
	for _, s := range u.snapshot.explicit() {
		if u.dropped[s.Name] {
			continue
		}
		_, builtin := u.snapshot.Param(s.Name)
		list = appendUnused(list, s, u.snapshot.main.Path, builtin || u.global[s.Name] || params.Legacy(s.Name))
	}
	return list
}

// MasterUnused is MainUnused for the -o settings of master.cf.
func (u *Usage) MasterUnused() []Warning {
	var list []Warning
	for _, sc := range u.scopes {
		for _, s := range sc.options {
			if u.dropped[s.Name] {
				continue
			}
			_, builtin := u.snapshot.Param(s.Name)
			list = appendUnused(list, s, sc.path, builtin || sc.used[s.Name] || u.global[s.Name] || params.Legacy(s.Name))
		}
	}
	return list
}

func appendUnused(list []Warning, s maincf.Setting, path string, used bool) []Warning {
	w := Warning{File: path, Line: s.Line, Param: s.Name}
	instead, deprecated := params.Deprecated(s.Name)
	switch {
	case !used && deprecated:
		w.Finding = Deprecated
		w.Text = fmt.Sprintf("%s: support for parameter \"%s\" has been removed; instead, %s", path, s.Name, instead)
	case !used:
		w.Finding = Unused
		w.Text = fmt.Sprintf("%s: unused parameter: %s=%s", path, s.Name, s.Value)
	case deprecated:
		w.Finding = Deprecated
		w.Text = fmt.Sprintf("%s: support for parameter \"%s\" will be removed; instead, %s", path, s.Name, instead)
	default:
		return list
	}
	return append(list, w)
}
