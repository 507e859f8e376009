package command

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/config/params"
)

// showMain shows parameters of main.cf.
func (p *postconf) showMain() error {
	s, err := p.snapshot()
	if err != nil {
		return err
	}
	var usage *config.Usage
	if !p.has(pcDefaults) {
		if usage, err = p.analyse(s); err != nil {
			return err
		}
	}
	if err := p.parameters(s, usage); err != nil {
		return err
	}
	if usage == nil || p.quiet {
		return nil
	}
	p.complain(append(usage.MainUnused(), usage.MasterUnused()...))
	return nil
}

// deprecation is where to read about old settings.
const deprecation = "See https://www.postfix.org/DEPRECATION_README.html for details"

// complain warns about settings, and says where to read about the old ones.
func (p *postconf) complain(list []config.Warning) {
	old := false
	for _, w := range list {
		p.Warnf("%s", w.Text)
		old = old || w.Finding == config.Deprecated
	}
	if old {
		p.Warnf("%s", deprecation)
	}
}

func (p *postconf) parameters(s *config.Snapshot, usage *config.Usage) error {
	user := make(map[string]bool)
	if usage != nil {
		for _, name := range usage.UserDefined() {
			user[name] = true
		}
	}
	if len(p.names) == 0 {
		for _, name := range p.allNames(s, user) {
			if err := p.parameter(s, usage, name); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range p.names {
		if _, known := s.Param(name); !known && !user[name] {
			p.Warnf("%s: unknown parameter", name)
			continue
		}
		if err := p.parameter(s, usage, name); err != nil {
			return err
		}
	}
	return nil
}

// allNames are the names of the chosen classes in order.
func (p *postconf) allNames(s *config.Snapshot, user map[string]bool) []string {
	var names []string
	for _, name := range s.Catalogue().Names() {
		class := "builtin"
		if params.OfLocal(name) {
			class = "service"
		}
		if p.classes[class] {
			names = append(names, name)
		}
	}
	for _, name := range s.Catalogue().Own() {
		// Without a setting, only who knows the name gets to see it.
		if p.classes["builtin"] && !p.has(pcDefaults) && s.Main().Explicit(name) {
			names = append(names, name)
		}
	}
	if p.classes["service"] {
		names = append(names, s.ServiceParams()...)
	}
	if p.classes["user"] {
		for name := range user {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// parameter shows one parameter, unless it has no value in this mode.
func (p *postconf) parameter(s *config.Snapshot, usage *config.Usage, name string) error {
	view := s.Main()
	if p.has(pcNonDefault) && (!view.Explicit(name) || usage.Dropped(name)) {
		return nil
	}
	value, err := view.Value(name)
	if err != nil {
		return err
	}
	if usage != nil && usage.Dropped(name) {
		def, _ := s.Param(name)
		value = def.Default
	}
	if param, ok := s.Param(name); p.has(pcExpand) && !(ok && param.Kind == params.Raw) {
		if value, err = view.Expand(name, value); err != nil {
			return err
		}
	}
	p.pair(name, value)
	return nil
}

// pair shows a name and its value.
func (p *postconf) pair(name, value string) {
	switch {
	case p.has(pcJSON):
		p.json(jsonPair{name, squeeze(value)})
	case p.has(pcNoName):
		p.line(value)
	case p.has(pcNoValue):
		p.line(name)
	default:
		p.line(name + " = " + value)
	}
}

type jsonPair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// json writes one object on one line.
func (p *postconf) json(value any) {
	encoder := json.NewEncoder(p.Stdout)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // a closed pipe ends us elsewhere
}

const pcSpace = " \t\r\n"

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(pcSpace, r) })
}

func squeeze(text string) string { return strings.Join(words(text), " ") }

// line writes words with single spaces between them, and folded on request.
func (p *postconf) line(text string) {
	var out strings.Builder
	length := 0
	for _, word := range words(text) {
		switch {
		case length == 0:
		case !p.has(pcFold) || length+len(word) < mastercf.LineLimit:
			out.WriteByte(' ')
			length++
		default:
			out.WriteString("\n" + mastercf.Indent)
			length = len(mastercf.Indent)
		}
		out.WriteString(word)
		length += len(word)
	}
	fmt.Fprintln(p.Stdout, out.String())
}
