package command

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// specOf tells which commands the Getopt calls of a function are for, where
// the function does not have the command's name. With several specs in one
// function, each has its own command, in order.
var specOf = map[string][]string{
	"command.childConfig":       {"posthaste-mail"},
	"command.postconf.parse":    {"postconf"},
	"command.postmap.parse":     {"postmap", "postalias"},
	"submission.sendmail.parse": {"sendmail"},
	"greylisting.tool.parse":    {"greylist"},
	"command.Env.Getopt":        {}, // passes the spec on
}

// hidden are options that are read only to be refused.
var hidden = map[string]string{"postconf": "E"}

// pageOf is the manual page of a command whose page has another name.
var pageOf = map[string]string{
	"try": "posthaste.1", "version": "posthaste.1",
	"master": "master.8", "posthaste-mail": "master.8", "posthaste-delivery": "master.8",
	"spf": "posthaste-spf.1", "postfix-policyd-spf-perl": "policyd-spf.1",
	"postgrey": "postgrey.8", "greylist": "posthaste-greylist.1",
	"mailq": "sendmail.1", "newaliases": "sendmail.1",
}

const pages = "../../docs/man/"

func page(t *testing.T, name string) string {
	t.Helper()
	file, ok := pageOf[name]
	if !ok {
		file = name + ".1"
	}
	text, err := os.ReadFile(pages + file)
	if err != nil {
		t.Errorf("command %s: %v", name, err)
	}
	return string(text)
}

func helpText(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints strings.Builder
	env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &complaints, Getenv: func(string) string { return "" }}
	status = Dispatch(context.Background(), args, env)
	return status, out.String(), complaints.String()
}

func TestHelp(t *testing.T) {
	t.Parallel()
	overview := func() string { _, text, _ := helpText(t, "posthaste", "--help"); return text }()
	for name := range commands {
		direct, text, complaints := helpText(t, "/usr/sbin/"+name, "--help")
		if direct != 0 || complaints != "" {
			t.Errorf("%s --help: status %d, %s", name, direct, complaints)
		}
		if status, same, _ := helpText(t, "posthaste", name, "--help"); status != 0 || same != text {
			t.Errorf("posthaste %s --help: status %d\n%s", name, status, same)
		}
		if !strings.HasPrefix(text, "usage: ") || !strings.Contains(text, name) || !strings.Contains(text, "\n  --help  ") {
			t.Errorf("%s --help:\n%s", name, text)
		}
		for _, line := range strings.Split(text, "\n") {
			if len(line) > 100 || strings.Contains(line, "\t") {
				t.Errorf("%s --help: %q is too long or has a tab", name, line)
			}
		}
		if internal := strings.HasPrefix(name, "posthaste-") || name == "master"; !internal && !strings.Contains(overview, "\n  "+name+" ") {
			t.Errorf("posthaste --help does not list %s", name)
		}
	}
}

func TestHelpOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	if status, out, complaints := helpText(t, "posthaste", "nosuch", "--help"); status != 64 || out != "" || !strings.Contains(complaints, `"nosuch"`) {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, complaints)
	}
	if status, out, _ := helpText(t, "renamed", "--help"); status != 0 || !strings.HasPrefix(out, "usage: posthaste command") {
		t.Errorf("status %d, stdout %q", status, out)
	}
	if status, out, _ := helpText(t, "postmap", "-v", "--help"); status != 1 || out != "" {
		t.Errorf("not the first argument: status %d, stdout %q", status, out)
	}
}

func TestPageOfEveryCommand(t *testing.T) {
	t.Parallel()
	for name := range commands {
		if text := page(t, name); !strings.Contains(text, "\n.Nm "+name) && !strings.Contains(text, "Cm "+name) && !strings.Contains(text, "Nm "+name) {
			t.Errorf("the manual page of %s does not name it", name)
		}
	}
}

var helpOption = regexp.MustCompile(`(?m)^  -([^-\s])( \S|)`)

// TestOptionsAreDescribed: the options that a command reads are those of its
// help text and of its manual page.
func TestOptionsAreDescribed(t *testing.T) {
	t.Parallel()
	for where, specs := range getoptSpecs(t) {
		names, ok := specOf[where]
		_, function, _ := strings.Cut(where, ".")
		if _, err := fs.Stat(helpTexts, "help/"+strings.ToLower(function)+".txt"); !ok && err == nil {
			names, ok = []string{strings.ToLower(function)}, true
		}
		if !ok || len(names) != len(specs) {
			t.Errorf("%s reads options (%q); say in specOf for which commands", where, specs)
			continue
		}
		for i, spec := range specs {
			if commands[names[i]] != nil {
				checkOptions(t, names[i], spec)
			}
		}
	}
}

func checkOptions(t *testing.T, name, spec string) {
	t.Helper()
	_, text, _ := helpText(t, "posthaste", name, "--help")
	manual := page(t, name)
	described := map[string]bool{}
	for _, m := range helpOption.FindAllStringSubmatch(text, -1) {
		described[m[1]] = true
	}
	for i := 0; i < len(spec); i++ {
		letter := string(spec[i])
		if letter == ":" || strings.Contains(hidden[name], letter) {
			continue
		}
		if !described[letter] {
			t.Errorf("%s --help has no line for -%s", name, letter)
		}
		delete(described, letter)
		if !regexp.MustCompile(`\bFl ` + regexp.QuoteMeta(letter) + `(\s|$)`).MatchString(manual) {
			t.Errorf("the manual page of %s does not describe -%s", name, letter)
		}
	}
	if len(described) > 0 {
		t.Errorf("%s --help tells of options that there are not: %v", name, slices.Collect(maps.Keys(described)))
	}
}

// getoptSpecs finds the option specs of every function below here that calls
// Getopt: those that it passes, or those of the constant or variable it passes.
func getoptSpecs(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]*ast.File{} // by directory
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		dir := filepath.Dir(path)
		files[dir] = append(files[dir], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, pkg := range files {
		constants := constants(pkg)
		for _, file := range pkg {
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				if specs, calls := specsOf(f, constants); calls {
					name := file.Name.Name + "." + f.Name.Name
					if f.Recv != nil {
						name = file.Name.Name + "." + receiver(f.Recv.List[0].Type) + "." + f.Name.Name
					}
					found[name] = specs
				}
			}
		}
	}
	if len(found) < 5 {
		t.Fatalf("found only %v: the walk is broken", found)
	}
	return found
}

// constants are those of a package whose values are literals.
func constants(pkg []*ast.File) map[string]string {
	values := map[string]string{}
	for _, file := range pkg {
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for i, name := range v.Names {
					if i < len(v.Values) {
						if lit, ok := v.Values[i].(*ast.BasicLit); ok {
							values[name.Name] = literal(lit)
						}
					}
				}
			}
		}
	}
	return values
}

func receiver(t ast.Expr) string {
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	return t.(*ast.Ident).Name
}

func specsOf(f *ast.FuncDecl, constants map[string]string) (specs []string, calls bool) {
	variable := ""
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Getopt" {
			return true
		}
		calls = true
		switch arg := call.Args[0].(type) {
		case *ast.BasicLit:
			specs = append(specs, literal(arg))
		case *ast.Ident:
			if spec, ok := constants[arg.Name]; ok {
				specs = append(specs, spec)
			} else {
				variable = arg.Name
			}
		}
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && variable != "" && len(a.Lhs) == 1 {
			if id, ok := a.Lhs[0].(*ast.Ident); ok && id.Name == variable {
				if lit, ok := a.Rhs[0].(*ast.BasicLit); ok {
					specs = append(specs, literal(lit))
				}
			}
		}
		return true
	})
	return slices.Compact(specs), calls // options that are read twice are still the same
}

func literal(l *ast.BasicLit) string {
	text, _ := strconv.Unquote(l.Value)
	return text
}
