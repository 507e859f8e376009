package mastercf

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/config/maincf"
)

// Target is what an edit changes in the entries it matches.
type Target uint8

const (
	Entries    Target = iota // whole entries: -M
	OneField                 // a column: -F
	Parameters               // an -o setting: -P
)

// Edit is a change of master.cf.
type Edit struct {
	target   Target
	action   maincf.Action
	requests []*request
	// Warnings are about the requests, in Postfix's words.
	Warnings []string
}

type request struct {
	text    string
	pattern Pattern
	value   string
	matches int
	entry   *Service // of Entries and Set
}

const editOptions = "-Me, -Fe, -Pe, -X, or -#"

// ParseEdit reads requests as the postconf command takes them, such as
// "smtp/inet/chroot=n". The error has Postfix's words.
func ParseEdit(target Target, action maincf.Action, requests []string) (*Edit, error) {
	e := &Edit{target: target, action: action}
	for _, text := range requests {
		r, err := e.parse(text)
		if err != nil {
			return nil, err
		}
		e.requests = append(e.requests, r)
	}
	return e, nil
}

func (e *Edit) parse(text string) (*request, error) {
	if strings.Contains(text, "\n") {
		return nil, fmt.Errorf("%s accept no multi-line input", editOptions)
	}
	trimmed := strings.TrimLeft(text, blanks)
	if strings.HasPrefix(trimmed, "#") {
		return nil, fmt.Errorf("%s accept no comment input", editOptions)
	}
	r := &request{text: text}
	pattern := strings.TrimRight(trimmed, blanks)
	if e.action == maincf.Set {
		setting, err := maincf.ParseSetting(trimmed)
		if err != nil {
			return nil, err
		}
		pattern, r.value = setting.Name, setting.Value
	} else if strings.Contains(trimmed, "=") {
		return nil, errors.New("-X or -# requires names without value")
	}
	var ok bool
	parts := 3
	if e.target == Entries {
		parts = 2
	}
	if r.pattern, ok = ParsePattern(pattern, parts, parts); !ok {
		return nil, [...]error{
			errors.New("-Me, -MX or -M# requires service_name/type"),
			errors.New("-Fe or -FX requires service_name/type/field_name"),
			errors.New("-Pe or -PX requires service_name/type/parameter"),
		}[e.target]
	}
	return r, e.check(r)
}

func (e *Edit) check(r *request) error {
	switch e.target {
	case Entries:
		if e.action != maincf.Set {
			return nil
		}
		entry, err := ParseService(r.value)
		if errors.Is(err, ErrFieldCount) {
			return fmt.Errorf("%w: \"%s\"", err, r.text)
		}
		r.entry = entry
		return err
	case OneField:
		if r.pattern.AnyMember() {
			return errors.New("-Fe does not accept wild-card field name")
		}
		column := FieldIndex(r.pattern.Member)
		if column < 0 {
			return fmt.Errorf("invalid service attribute name: \"%s\"", r.pattern.Member)
		}
		if column < len(Fields)-1 && strings.ContainsAny(r.value, blanks) {
			return errors.New("-Fe does not accept whitespace in non-command field")
		}
	case Parameters:
		if r.pattern.AnyMember() {
			return errors.New("-Pe does not accept wild-card parameter name")
		}
		if strings.ContainsAny(r.value, blanks) {
			return errors.New("-Pe does not accept whitespace in parameter value")
		}
	}
	return nil
}

// Apply returns the changed text of the file at path, which is for messages.
func (e *Edit) Apply(text []byte, path string) ([]byte, error) {
	w := &editing{Edit: e, path: path, rest: text}
	for len(w.rest) > 0 {
		if err := w.next(); err != nil {
			return nil, err
		}
	}
	for _, r := range e.requests {
		switch {
		case r.matches > 0:
		case r.entry != nil:
			w.out.WriteString(r.entry.Format(Folded, nil))
		case e.target != Entries:
			e.Warnings = append(e.Warnings, fmt.Sprintf("unmatched service_name/type: \"%s\"", r.text))
		}
	}
	return w.out.Bytes(), nil
}

// editing is one pass over the file.
type editing struct {
	*Edit
	path    string
	rest    []byte
	line    int
	matched bool // the entry at hand
	out     bytes.Buffer
}

func (w *editing) cut() []byte {
	end := bytes.IndexByte(w.rest, '\n')
	line := w.rest
	if w.line++; end >= 0 {
		line, w.rest = w.rest[:end+1], w.rest[end+1:]
		return line
	}
	w.rest = nil
	return append(append([]byte(nil), line...), '\n')
}

func isText(line []byte) bool {
	trimmed := bytes.TrimLeft(line, blanks)
	return len(trimmed) > 0 && trimmed[0] != '#'
}

func isContinuation(line []byte) bool {
	return strings.IndexByte(blanks, line[0]) >= 0
}

func (w *editing) next() error {
	line := w.cut()
	switch {
	case !isText(line):
		w.out.Write(line)
	case !isContinuation(line):
		return w.entry(line)
	case w.matched && w.action == maincf.Comment:
		w.out.WriteString("#")
		w.out.Write(line)
	case !w.matched:
		w.out.Write(line)
	}
	return nil
}

// entry handles the first line of an entry.
func (w *editing) entry(line []byte) error {
	words := strings.Fields(string(line))
	if err := w.checkName(words); err != nil {
		return err
	}
	w.matched = false
	var changed *Service
	for _, r := range w.requests {
		own := r.entry != nil && r.entry.Name == words[0] && r.entry.Type == words[1]
		if !own && !r.pattern.Matches(words[0], words[1]) {
			continue
		}
		w.matched = true
		r.matches++
		if r.entry != nil {
			if r.matches == 1 {
				changed = r.entry
			}
			continue
		}
		if w.target == Entries {
			continue
		}
		if changed == nil {
			full, err := ParseService(w.gather(line))
			if err != nil {
				return fmt.Errorf("file %s: line %d: %w", w.path, w.line, err)
			}
			changed = full
		}
		if err := w.change(changed, r); err != nil {
			return err
		}
	}
	switch {
	case changed != nil:
		w.out.WriteString(changed.Format(Folded, nil))
	case !w.matched:
		w.out.Write(line)
	case w.action == maincf.Comment:
		w.out.WriteString("#")
		w.out.Write(line)
	}
	return nil
}

func (w *editing) checkName(words []string) error {
	switch {
	case len(words) < 2:
		return fmt.Errorf("file %s: line %d: specify service name and type on the same line", w.path, w.line)
	case strings.Contains(words[0], "="):
		return fmt.Errorf("file %s: line %d: service name syntax \"%s\" is unsupported with %s", w.path, w.line, words[0], editOptions)
	case strings.ContainsAny(words[1], "=/"):
		return fmt.Errorf("file %s: line %d: service type syntax \"%s\" is unsupported with %s", w.path, w.line, words[1], editOptions)
	}
	return nil
}

// gather joins an entry's continuation lines; comments between them go out.
func (w *editing) gather(first []byte) string {
	text := string(first)
	for len(w.rest) > 0 && (w.rest[0] == '#' || isContinuation(w.rest)) {
		line := w.cut()
		if isText(line) {
			text += string(line)
		} else {
			w.out.Write(line)
		}
	}
	return text
}

func (w *editing) change(s *Service, r *request) error {
	if w.target == Parameters {
		s.setOption(r.pattern.Member, r.value, w.action)
		return nil
	}
	return s.setField(FieldIndex(r.pattern.Member), r.value)
}

// setField replaces a column; the last is the command with its arguments.
func (s *Service) setField(column int, value string) error {
	switch column {
	case 0:
		s.Name = value
	case 1:
		s.Type = value
	case 2:
		s.Private = value
	case 3:
		s.Unpriv = value
	case 4:
		s.Chroot = value
	case 5:
		s.Wakeup = value
	case 6:
		s.MaxProc = value
	default:
		words := splitWords(value)
		if len(words) == 0 {
			words = []string{""}
		}
		s.Command = words[0]
		s.SetArgs(words[1:])
	}
	return s.check(value)
}

// setOption sets or removes an -o setting; a new one goes behind the others.
func (s *Service) setOption(name, value string, action maincf.Action) {
	options := s.optionCount()
	var args []string
	found := false
	for i := 0; i < options; i++ {
		if s.Args[i] != "-o" || i+1 >= options || !strings.HasPrefix(s.Args[i+1], name+"=") {
			args = append(args, s.Args[i])
			if s.Args[i] == "-o" && i+1 < options {
				i++
				args = append(args, s.Args[i])
			}
			continue
		}
		i++
		if action == maincf.Set {
			args = append(args, "-o", name+"="+value)
		}
		found = true
	}
	if action == maincf.Set && !found {
		args = append(args, "-o", name+"="+value)
	}
	s.Args = append(args, s.Args[options:]...)
}
