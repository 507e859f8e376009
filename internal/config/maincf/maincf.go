package maincf

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Setting is name = value.
type Setting struct {
	Name  string
	Value string // as written, physical lines joined, outer white space removed
	Line  int    // where it begins; 0 when it is not from a file
}

// File is main.cf as read.
type File struct {
	Path     string
	Settings []Setting // in the order of the file, overridden ones included
	Warnings []Warning
	index    map[string]int
}

// Warning is something odd that does not keep the file from being used.
type Warning struct {
	Line int // 0 if the text says it all
	Text string
	// Overridden marks a setting that a later line replaces.
	Overridden bool
}

// Get returns the setting that counts: the last one of that name.
func (f *File) Get(name string) (Setting, bool) {
	i, ok := f.index[name]
	if !ok {
		return Setting{}, false
	}
	return f.Settings[i], true
}

// Names lists every name once, in the order of first appearance.
func (f *File) Names() []string {
	seen := make(map[string]bool, len(f.Settings))
	var names []string
	for _, s := range f.Settings {
		if !seen[s.Name] {
			seen[s.Name] = true
			names = append(names, s.Name)
		}
	}
	return names
}

// SyntaxError is a line that is not name = value.
type SyntaxError struct {
	Path string
	Line int
	Text string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("%s, line %d: %s", e.Path, e.Line, e.Text)
}

// Load reads the file at path.
func Load(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, OpenError(path, err)
	}
	defer file.Close()
	return Read(file, path)
}

// Read reads settings; path is for messages.
func Read(from io.Reader, path string) (*File, error) {
	f := &File{Path: path, index: make(map[string]int)}
	lines := NewLines(from, path)
	lines.Warn = func(text string) { f.Warnings = append(f.Warnings, Warning{Text: text}) }
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		setting, err := ParseSetting(line.Text)
		if err != nil {
			return nil, &SyntaxError{Path: path, Line: line.Number, Text: err.Error()}
		}
		setting.Line = line.Number
		if old, ok := f.index[setting.Name]; ok {
			f.override(f.Settings[old], setting, line.Last)
		}
		f.index[setting.Name] = len(f.Settings)
		f.Settings = append(f.Settings, setting)
	}
}

func (f *File) override(old, now Setting, line int) {
	if old.Value == now.Value {
		return
	}
	f.Warnings = append(f.Warnings, Warning{Line: line, Overridden: true,
		Text: fmt.Sprintf("%s, line %d: overriding earlier entry: %s=%s", f.Path, line, old.Name, old.Value)})
}

// ParseSetting reads "name = value". The error has Postfix's words.
func ParseSetting(text string) (Setting, error) {
	name := strings.TrimLeft(text, space)
	if name == "" {
		return Setting{}, fmt.Errorf("missing attribute name: \"%s\"", text)
	}
	end := strings.IndexAny(name, "="+space)
	if end == 0 {
		return Setting{}, fmt.Errorf("missing attribute name: \"%s\"", text)
	}
	if end < 0 {
		return Setting{}, fmt.Errorf("missing '=' after attribute name: \"%s\"", text)
	}
	rest := strings.TrimLeft(name[end:], space)
	if !strings.HasPrefix(rest, "=") {
		return Setting{}, fmt.Errorf("missing '=' after attribute name: \"%s\"", text)
	}
	return Setting{Name: name[:end], Value: strings.Trim(rest[1:], space)}, nil
}

// OpenError words a failure to open a file as Postfix does: "open PATH: No
// such file or directory".
func OpenError(path string, err error) error {
	return &openError{path: path, err: err}
}

type openError struct {
	path string
	err  error
}

func (e *openError) Error() string { return "open " + e.path + ": " + Reason(e.err) }
func (e *openError) Unwrap() error { return e.err }
