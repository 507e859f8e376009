package maincf

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Action is what an edit does with the entries it matches.
type Action uint8

const (
	Set     Action = iota // replace the value, add what is not there
	Comment               // put # in front of every line
	Remove
)

// Edit is a change of settings. The zero value changes nothing.
type Edit struct {
	action  Action
	changes map[string]*change
	// Warnings are about the requests, in Postfix's words.
	Warnings []string
}

type change struct {
	value string
	found int
}

// ParseEdit reads requests as the postconf command takes them: "name = value"
// for Set, names for the others. The error has Postfix's words.
func ParseEdit(action Action, requests []string) (*Edit, error) {
	e := &Edit{action: action, changes: make(map[string]*change)}
	for _, text := range requests {
		setting, err := parseRequest(action, text)
		if err != nil {
			return nil, err
		}
		if old, ok := e.changes[setting.Name]; ok {
			e.Warnings = append(e.Warnings, fmt.Sprintf("ignoring earlier request: '%s = %s'", setting.Name, old.value))
		}
		e.changes[setting.Name] = &change{value: setting.Value}
	}
	return e, nil
}

func parseRequest(action Action, text string) (Setting, error) {
	if strings.Contains(text, "\n") {
		return Setting{}, errors.New("-e, -X, or -# accepts no multi-line input")
	}
	text = strings.TrimLeft(text, space)
	if strings.HasPrefix(text, "#") {
		return Setting{}, errors.New("-e, -X, or -# accepts no comment input")
	}
	if action == Set {
		return ParseSetting(text)
	}
	if text == "" {
		return Setting{}, errors.New("-X or -# requires non-blank parameter names")
	}
	if strings.Contains(text, "=") {
		return Setting{}, errors.New("-X or -# requires parameter names without value")
	}
	return Setting{Name: strings.TrimRight(text, space)}, nil
}

// Apply returns the changed text of the file at path, which is for messages.
// Comments, empty lines and the order of entries stay.
func (e *Edit) Apply(text []byte, path string) []byte {
	var out bytes.Buffer
	matched := false
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		switch kind := kindOf(line); {
		case kind == blankLine:
			out.Write(line)
			continue
		case kind == firstLine:
			matched = e.first(&out, line, path)
		case matched && e.action == Comment:
			out.WriteString("#")
			out.Write(line)
		case !matched:
			out.Write(line)
		}
	}
	if e.action == Set {
		for _, name := range e.missing() {
			fmt.Fprintf(&out, "%s = %s\n", name, e.changes[name].value)
		}
	}
	return out.Bytes()
}

// first writes the first line of an entry and tells whether it is one to change.
func (e *Edit) first(out *bytes.Buffer, line []byte, path string) bool {
	name := string(line)
	if end := strings.IndexAny(name, "="+space); end >= 0 {
		name = name[:end]
	}
	c, ok := e.changes[name]
	if !ok {
		out.Write(line)
		return false
	}
	if c.found++; c.found == 2 {
		e.Warnings = append(e.Warnings, fmt.Sprintf("%s: multiple entries for \"%s\"", path, name))
	}
	switch e.action {
	case Set:
		fmt.Fprintf(out, "%s = %s\n", name, c.value)
	case Comment:
		out.WriteString("#")
		out.Write(line)
	}
	return true
}

// missing are the names to set that the file does not have, in order.
func (e *Edit) missing() []string {
	var names []string
	for name, c := range e.changes {
		if c.found == 0 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

type lineKind uint8

const (
	blankLine lineKind = iota // empty or comment
	firstLine
	nextLine // continues an entry
)

func kindOf(line []byte) lineKind {
	trimmed := bytes.TrimLeft(line, space)
	switch {
	case len(trimmed) == 0 || trimmed[0] == '#':
		return blankLine
	case len(trimmed) < len(line):
		return nextLine
	}
	return firstLine
}

// cutLine returns the first line with its line feed, which is added if the
// last line has none.
func cutLine(text []byte) (line, rest []byte) {
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		return text[:end+1], text[end+1:]
	}
	return append(append([]byte(nil), text...), '\n'), nil
}
