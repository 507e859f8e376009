package command

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/config/maincf"
	"posthaste/internal/config/mastercf"
)

// showMaster shows entries, fields or parameters of master.cf.
func (p *postconf) showMaster() error {
	s, err := p.snapshot()
	if err != nil {
		return err
	}
	usage, err := p.analyse(s)
	if err != nil {
		return err
	}
	requests, err := p.requests()
	if err != nil {
		return err
	}
	for _, service := range s.Services() {
		for _, r := range requests {
			if !r.pattern.Matches(service.Name, service.Type) {
				continue
			}
			shown, err := p.showService(s, service, r.pattern)
			if err != nil {
				return err
			}
			if shown {
				r.matches++
			}
		}
	}
	for _, r := range requests {
		if r.matches == 0 && len(p.names) > 0 {
			p.Warnf("unmatched request: \"%s\"", r.pattern.Text)
		}
	}
	if !p.quiet {
		p.complain(usage.MasterUnused())
	}
	return nil
}

type masterRequest struct {
	pattern mastercf.Pattern
	matches int
}

// requests reads the operands; without any there is one for everything.
func (p *postconf) requests() ([]*masterRequest, error) {
	texts := p.names
	if len(texts) == 0 {
		texts = []string{"*"}
	}
	most, usage := 3, "-P option requires service_name[/type[/parameter]]"
	switch {
	case p.has(pcEntries):
		most, usage = 2, "-M option requires service_name[/type]"
	case p.has(pcFields):
		usage = "-F option requires service_name[/type[/field]]"
	}
	var list []*masterRequest
	for _, text := range texts {
		pattern, ok := mastercf.ParsePattern(text, 1, most)
		if !ok {
			return nil, errors.New(usage)
		}
		if p.has(pcFields) && !pattern.AnyMember() && mastercf.FieldIndex(pattern.Member) < 0 {
			return nil, fmt.Errorf("invalid service attribute name: \"%s\"", pattern.Member)
		}
		list = append(list, &masterRequest{pattern: pattern})
	}
	return list, nil
}

func (p *postconf) showService(s *config.Snapshot, service mastercf.Service, pattern mastercf.Pattern) (bool, error) {
	view := s.ViewOf(service)
	switch {
	case p.has(pcEntries):
		return true, p.showEntry(view, service)
	case p.has(pcFields):
		return true, p.showFields(view, service, pattern)
	case p.has(pcAllParams):
		return p.showInForce(s, view, service, pattern)
	}
	return p.showOptions(view, service, pattern)
}

// expander returns what replaces the text of an -o setting, and where it
// leaves its error.
func (p *postconf) expander(view *config.View) (func(string) string, *error) {
	var failed error
	if !p.has(pcExpand) {
		return nil, &failed
	}
	return func(setting string) string {
		name, _, _ := strings.Cut(setting, "=")
		text, err := view.Expand(name, setting)
		if err != nil && failed == nil {
			failed = err
		}
		return text
	}, &failed
}

func (p *postconf) layout() mastercf.Layout {
	if p.has(pcFold) {
		return mastercf.Folded
	}
	return mastercf.OneLine
}

type jsonService struct {
	Service      string `json:"service"`
	Type         string `json:"type"`
	Private      string `json:"private"`
	Unprivileged string `json:"unprivileged"`
	Chroot       string `json:"chroot"`
	Wakeup       string `json:"wakeup"`
	ProcessLimit string `json:"process_limit"`
	Command      string `json:"command"`
}

func (p *postconf) showEntry(view *config.View, service mastercf.Service) error {
	value, failed := p.expander(view)
	text := service.Format(p.layout(), value)
	command := service.FormatCommand(mastercf.OneLine, value, mastercf.LineLimit)
	if *failed != nil {
		return *failed
	}
	if p.has(pcJSON) {
		p.json(jsonService{service.Name, service.Type, service.Private, service.Unpriv, service.Chroot,
			service.Wakeup, service.MaxProc, command})
		return nil
	}
	fmt.Fprint(p.Stdout, text)
	return nil
}

func (p *postconf) showFields(view *config.View, service mastercf.Service, pattern mastercf.Pattern) error {
	value, failed := p.expander(view)
	for i, field := range mastercf.Fields {
		if !pattern.AnyMember() && pattern.Member != field {
			continue
		}
		name := service.Key() + "/" + field
		text, first := service.Field(i), ""
		if !p.has(pcNoName | pcNoValue | pcJSON) {
			first = name + " = "
			if len(first)+len(text) > mastercf.LineLimit {
				first += "\n" + mastercf.Indent
			}
		}
		if field == "command" {
			text = service.FormatCommand(p.layout(), value, len(first[strings.LastIndexByte(first, '\n')+1:]))
		}
		switch {
		case *failed != nil:
			return *failed
		case p.has(pcJSON):
			p.json(jsonPair{name, text})
		case p.has(pcNoValue):
			fmt.Fprintln(p.Stdout, name)
		default:
			fmt.Fprintln(p.Stdout, first+text)
		}
	}
	return nil
}

// showOptions shows the -o settings of a service in order.
func (p *postconf) showOptions(view *config.View, service mastercf.Service, pattern mastercf.Pattern) (bool, error) {
	values := make(map[string]string)
	for _, o := range service.Options {
		values[o.Name] = o.Value
	}
	var names []string
	for name := range values {
		if pattern.AnyMember() || pattern.Member == name {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		if err := p.scoped(view, service, name, values[name]); err != nil {
			return false, err
		}
	}
	return len(names) > 0, nil
}

// showInForce shows every parameter as the service sees it.
func (p *postconf) showInForce(s *config.Snapshot, view *config.View, service mastercf.Service, pattern mastercf.Pattern) (bool, error) {
	seen := make(map[string]bool)
	names := append([]string(nil), s.Catalogue().Names()...)
	names = append(names, s.ServiceParams()...)
	for _, o := range service.Options {
		names = append(names, o.Name)
	}
	sort.Strings(names)
	shown := false
	for _, name := range names {
		if seen[name] || !pattern.AnyMember() && pattern.Member != name {
			continue
		}
		seen[name], shown = true, true
		value, err := view.Value(name)
		if err != nil {
			return shown, err
		}
		if err := p.scoped(view, service, name, value); err != nil {
			return shown, err
		}
	}
	return shown, nil
}

func (p *postconf) scoped(view *config.View, service mastercf.Service, name, value string) error {
	if p.has(pcExpand) {
		var err error
		if value, err = view.Expand(name, value); err != nil {
			return err
		}
	}
	p.pair(service.Key()+"/"+name, value)
	return nil
}

// action is what an editing option does.
func (p *postconf) action() maincf.Action {
	switch {
	case p.has(pcComment):
		return maincf.Comment
	case p.has(pcRemove):
		return maincf.Remove
	}
	return maincf.Set
}

func (p *postconf) editMain() error {
	edit, err := maincf.ParseEdit(p.action(), p.names)
	if err != nil {
		return err
	}
	path := p.path("main.cf")
	err = maincf.Rewrite(path, func(text []byte) ([]byte, error) { return edit.Apply(text, path), nil })
	for _, warning := range edit.Warnings {
		p.Warnf("%s", warning)
	}
	return err
}

func (p *postconf) editMaster() error {
	target := mastercf.Entries
	switch {
	case p.has(pcFields):
		target = mastercf.OneField
	case p.has(pcParams):
		target = mastercf.Parameters
	}
	edit, err := mastercf.ParseEdit(target, p.action(), p.names)
	if err != nil {
		return err
	}
	path := p.path("master.cf")
	err = maincf.Rewrite(path, func(text []byte) ([]byte, error) { return edit.Apply(text, path) })
	for _, warning := range edit.Warnings {
		p.Warnf("%s", warning)
	}
	return err
}
