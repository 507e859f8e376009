package man

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"posthaste/internal/config/params"
)

var update = flag.Bool("update", false, "write the lists of parameters in docs/man")

// rooms are the packages (or, with .go, files) below internal whose parameters
// a page lists.
var rooms = map[string][]string{
	"smtpd.8":           {"inbound/smtpd", "policy/restrict", "policy/spf/checkspf", "policy/greylist/checkgreylist"},
	"cleanup.8":         {"cleanup", "cleanup/rewrite", "cleanup/content"},
	"qmgr.8":            {"qmgr", "qmgr/schedule", "queue/spool"},
	"trivial-rewrite.8": {"qmgr/route"},
	"local.8":           {"delivery/local", "delivery/mailbox"},
	"virtual.8":         {"delivery/virtual", "delivery/mailbox"},
	"pipe.8":            {"delivery/pipe"},
	"smtp.8":            {"delivery/smtp"},
	"bounce.8":          {"delivery/bounce"},
	"master.8":          {"master"},
	"postfix.1":         {"command/postfix.go"},
	"postqueue.1":       {"command/mailqueue"},
	"sendmail.1":        {"command/submission"},
	"pickup.8":          {"inbound/pickup"},
}

const (
	beginMark = `.\" begin parameters`
	endMark   = `.\" end parameters`
)

// tagged finds the parameters in the struct tags of a room: names, and names
// with NAME_ in front for those of a transport.
func tagged(t *testing.T, room string) []string {
	t.Helper()
	path := filepath.Join("../../internal", room)
	files := []string{path}
	if !strings.HasSuffix(room, ".go") {
		files, _ = filepath.Glob(filepath.Join(path, "*.go"))
	}
	var names []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			text, _ := strconv.Unquote(field.Tag.Value)
			tag := reflect.StructTag(text)
			if param, ok := tag.Lookup("param"); ok {
				param, _, _ = strings.Cut(param, ",")
				names = append(names, param)
			}
			if suffix, ok := tag.Lookup("transport"); ok {
				names = append(names, "NAME_"+suffix)
			}
			return true
		})
	}
	return names
}

// read are the parameters of a page, sorted.
func read(t *testing.T, page string) []string {
	t.Helper()
	var names []string
	for _, room := range rooms[page] {
		names = append(names, tagged(t, room)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// meanings reads docs/man/parameters.
func meanings(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "parameters"))
	if err != nil {
		t.Fatal(err)
	}
	catalogue := params.New()
	texts := map[string]string{}
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		name, meaning, ok := strings.Cut(line, ": ")
		_, isParam := catalogue.Lookup(name)
		if _, isLMTP := catalogue.Lookup("lmtp_" + strings.TrimPrefix(name, "smtp_")); !isParam && !isLMTP {
			_, isParam = catalogue.Lookup(params.TransportFallback(name))
			isParam = isParam || name == "time_limit"
			if !isParam {
				t.Errorf("parameters, line %d: there is no parameter %q", n+1, name)
			}
		}
		if !ok || !strings.HasSuffix(meaning, ".") {
			t.Errorf("parameters, line %d: need \"name: Text.\"", n+1)
		}
		if texts[name] != "" {
			t.Errorf("parameters, line %d: %s was there before", n+1, name)
		}
		texts[name] = meaning
	}
	return texts
}

func meaning(texts map[string]string, name string) (string, bool) {
	if rest, ok := strings.CutPrefix(name, "lmtp_"); ok && texts[name] == "" {
		name = "smtp_" + rest
	}
	text, ok := texts[strings.TrimPrefix(name, "NAME_")]
	return text, ok
}

// mdoc protects what the formatter would take for its own.
func mdoc(text string) string {
	text = strings.ReplaceAll(text, `\`, `\e`)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// list is the text of a list of parameters.
func list(t *testing.T, page string, names []string, texts map[string]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, name := range names {
		text, ok := meaning(texts, name)
		if !ok {
			t.Errorf("%s: parameter %s is read, and docs/man/parameters does not say what it means", page, name)
			continue
		}
		fmt.Fprintf(&b, ".It Va %s\n%s\n", name, mdoc(text))
	}
	b.WriteString(".El\n")
	return b.String()
}

// between replaces what is between the marks of a page.
func between(text, list string) (string, bool) {
	head, rest, ok := strings.Cut(text, beginMark+"\n")
	_, tail, ok2 := strings.Cut(rest, endMark+"\n")
	return head + beginMark + "\n" + list + endMark + "\n" + tail, ok && ok2
}

// TestParameters: a page lists the parameters that its role reads.
func TestParameters(t *testing.T) {
	texts := meanings(t)
	for page := range rooms {
		names := read(t, page)
		if len(names) == 0 {
			t.Errorf("%s: no parameters found in %v", page, rooms[page])
		}
		compare(t, page, list(t, page, names, texts))
	}
}

// compare checks, or with -update writes, the list of a page.
func compare(t *testing.T, page, list string) {
	t.Helper()
	path := filepath.Join(dir, page)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	want, ok := between(string(text), list)
	switch {
	case !ok:
		t.Errorf("%s: no lines %q and %q", page, beginMark, endMark)
	case string(text) == want || t.Failed():
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("%s: its list of parameters is not that of the code; run go test ./test/man -update", page)
	}
}

// TestPostconf: postconf.5 lists all parameters that anything reads.
func TestPostconf(t *testing.T) {
	texts := meanings(t)
	readers := map[string][]string{}
	for page := range rooms {
		for _, name := range read(t, page) {
			if !strings.HasPrefix(name, "NAME_") {
				readers[name] = append(readers[name], page)
			}
		}
	}
	catalogue := params.New()
	for name, pages := range readers {
		if other := catalogue.ForLMTP(name); other != name {
			readers[other] = pages
		}
	}
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, name := range slices.Sorted(maps.Keys(readers)) {
		p, ok := catalogue.Lookup(name)
		text, described := meaning(texts, name)
		if !ok || !described {
			continue // TestParameters complains
		}
		b.WriteString(".It Va " + name)
		if p.Default != "" {
			b.WriteString(" No = Li " + quote(p.Default))
		}
		fmt.Fprintf(&b, "\n%s\n", mdoc(text))
		b.WriteString("Read by\n")
		slices.Sort(readers[name])
		for i, page := range readers[name] {
			mark := " ,"
			if i == len(readers[name])-1 {
				mark = " ."
			}
			file, section := page[:len(page)-2], page[len(page)-1:]
			fmt.Fprintf(&b, ".Xr %s %s%s\n", file, section, mark)
		}
	}
	b.WriteString(".El\n")
	compare(t, "postconf.5", b.String())
}

// maxDefault keeps lines that nobody reads out of the page.
const maxDefault = 100

// quote makes a default value one argument of a macro.
func quote(value string) string {
	value = strings.Join(strings.Fields(value), " ")
	if len(value) > maxDefault {
		value = value[:maxDefault] + " ..."
	}
	return `"` + strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\e`), `"`, `\(dq`) + `"`
}
