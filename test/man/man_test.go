package man

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const dir = "../../docs/man"

// source is one manual page, or a link (".so man1/sendmail.1") to one.
type source struct {
	name, section string
	text          string
	lines         []string
	link          string
}

// readPages reads all pages by name.section.
func readPages(t *testing.T) map[string]source {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.[158]"))
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]source{}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Base(path)
		p := source{name: file[:len(file)-2], section: file[len(file)-1:], text: string(text)}
		p.lines = strings.Split(strings.TrimSuffix(p.text, "\n"), "\n")
		if rest, ok := strings.CutPrefix(p.text, ".so "); ok {
			p.link = strings.TrimSpace(rest)
		}
		pages[file] = p
	}
	if len(pages) < 40 {
		t.Fatalf("found only %d pages in %s", len(pages), dir)
	}
	return pages
}

// TestLinks: a link leads to a page that has its name.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages := readPages(t)
	for file, p := range pages {
		if p.link == "" {
			continue
		}
		target, ok := pages[filepath.Base(p.link)]
		switch {
		case !ok || target.link != "":
			t.Errorf("%s: .so %s: there is no such page", file, p.link)
		case p.link != "man"+target.section+"/"+target.name+"."+target.section:
			t.Errorf("%s: .so %s: need manN/name.N", file, p.link)
		case !slices.Contains(target.names(), p.name):
			t.Errorf("%s: %s does not have this name in NAME", file, p.link)
		}
	}
}

// names are those in the section NAME.
func (p source) names() []string {
	var names []string
	for _, line := range p.part("NAME") {
		if rest, ok := strings.CutPrefix(line, ".Nm "); ok {
			names = append(names, strings.TrimSuffix(rest, " ,"))
		}
	}
	return names
}

// part is the lines of a section.
func (p source) part(title string) []string {
	start := slices.Index(p.lines, ".Sh "+title)
	if start < 0 {
		return nil
	}
	rest := p.lines[start+1:]
	if end := slices.IndexFunc(rest, func(l string) bool { return strings.HasPrefix(l, ".Sh ") }); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// order is that of the sections of mdoc(7), with LOG and PARAMETERS where
// ours stand.
var order = []string{"NAME", "SYNOPSIS", "DESCRIPTION", "SIGNALS", "LOG", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES",
	"PARAMETERS", "SEE ALSO", "BUGS"}

func TestStructure(t *testing.T) {
	t.Parallel()
	for file, p := range readPages(t) {
		if p.link != "" {
			continue
		}
		if len(p.lines) < 10 || !regexp.MustCompile(`^\.Dd (January|February|March|April|May|June|July|August|September|October|November|December) \d{1,2}, \d{4}$`).MatchString(p.lines[0]) ||
			p.lines[1] != ".Dt "+strings.ToUpper(p.name)+" "+p.section || p.lines[2] != ".Os" {
			t.Errorf("%s: has to begin with .Dd Month day, year; .Dt %s %s; .Os", file, strings.ToUpper(p.name), p.section)
			continue
		}
		last := -1
		for n, line := range p.lines {
			title, ok := strings.CutPrefix(line, ".Sh ")
			if !ok {
				continue
			}
			at := slices.Index(order, title)
			if at <= last {
				t.Errorf("%s:%d: section %q is unknown or out of order", file, n+1, title)
			}
			last = at
		}
		for _, needed := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"} {
			if len(p.part(needed)) == 0 {
				t.Errorf("%s: no section %s", file, needed)
			}
		}
		if names := p.names(); !slices.Contains(names, p.name) {
			t.Errorf("%s: .Nm in NAME is %v", file, names)
		}
		if at := slices.IndexFunc(p.part("NAME"), func(l string) bool { return strings.HasPrefix(l, ".Nd ") }); at < 0 {
			t.Errorf("%s: no .Nd in NAME", file)
		}
	}
}

// known are the macros that the pages may use; all are in mandoc and groff.
var known = strings.Fields(`Dd Dt Os Sh Ss Nm Nd Op Oo Oc Ar Fl Cm Pa Xr Va Ev Dv Li Em Dq Ql Sq Pp Bl It El Bd Ed Dl In Ns No`)

// TestMacros: macros are known, lists and displays are closed, nothing looks
// like a macro by accident.
func TestMacros(t *testing.T) {
	t.Parallel()
	for file, p := range readPages(t) {
		if p.link != "" {
			continue
		}
		var open []string
		for n, line := range p.lines {
			complain := func(format string) { t.Errorf("%s:%d: %s: %s", file, n+1, format, line) }
			literal := len(open) > 0 && open[len(open)-1] == "Bd"
			switch {
			case line == "" && !literal:
				complain("empty line; use .Pp")
			case strings.TrimRight(line, " \t") != line:
				complain("blank at the end")
			case len(line) > 160:
				complain("too long")
			case strings.HasPrefix(line, "'"):
				complain("begins with a quote, which makes it a macro")
			}
			if strings.HasPrefix(line, `.\"`) || !strings.HasPrefix(line, ".") {
				continue
			}
			macro, rest, _ := strings.Cut(line[1:], " ")
			if !slices.Contains(known, macro) {
				complain("unknown macro")
			}
			switch macro {
			case "Bl", "Bd":
				open = append(open, macro)
				if !strings.HasPrefix(rest, "-") {
					complain("needs a type")
				}
			case "El", "Ed":
				want := "B" + macro[1:]
				if len(open) == 0 || open[len(open)-1] != want {
					complain("closes nothing")
					continue
				}
				open = open[:len(open)-1]
			case "It":
				if len(open) == 0 || open[len(open)-1] != "Bl" {
					complain("outside of a list")
				}
			case "Sh", "Ss":
				for _, word := range strings.Fields(rest) {
					if slices.Contains(known, word) {
						complain("a word of the title is a macro: " + word)
					}
				}
				if len(open) > 0 {
					complain("inside of .Bl or .Bd")
				}
			case "Nd":
				if rest == "" || strings.HasSuffix(rest, ".") {
					complain("needs a text without a period")
				}
			}
		}
		if len(open) > 0 {
			t.Errorf("%s: not closed: %v", file, open)
		}
	}
}

var reference = regexp.MustCompile(`^(?:\.Xr|\.It Xr) (\S+) (\d)( [.,;:)]+| Ns .*)?$`)

// TestReferences: each page that is named is one of ours, or known to be on
// every system; SEE ALSO is in order and does not name the page itself.
func TestReferences(t *testing.T) {
	t.Parallel()
	others := []string{"mdoc.7", "strftime.3", "comsat.8"}
	pages := readPages(t)
	named := map[string]bool{}
	for file, p := range pages {
		var also []string
		inAlso := false
		for n, line := range p.lines {
			inAlso = inAlso && !strings.HasPrefix(line, ".Sh ") || line == ".Sh SEE ALSO"
			if !strings.Contains(line, "Xr ") {
				continue
			}
			m := reference.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s:%d: write .Xr name section: %s", file, n+1, line)
				continue
			}
			target := m[1] + "." + m[2]
			named[target] = true
			if _, ok := pages[target]; !ok && !slices.Contains(others, target) {
				t.Errorf("%s:%d: there is no page %s", file, n+1, target)
			}
			if inAlso {
				also = append(also, m[2]+" "+m[1])
			}
		}
		if !slices.IsSorted(also) {
			t.Errorf("%s: SEE ALSO is not sorted by section and name: %v", file, also)
		}
		if slices.Contains(also, p.section+" "+p.name) {
			t.Errorf("%s: SEE ALSO names the page itself", file)
		}
	}
	for file := range pages {
		if !named[file] && pages[file].link == "" && file != "posthaste.1" {
			t.Errorf("%s: no other page refers to it", file)
		}
	}
}
