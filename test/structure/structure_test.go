package structure

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// floors, from the ground up; a package may import only from lower floors, or
// from its own without making a circle (the compiler sees to circles).
var floors = []string{
	"internal/sys", "internal/mail", "internal/wire", "internal/table", "internal/config",
	"internal/queue", "internal/qmgr", "internal/delivery internal/cleanup internal/policy",
	"internal/inbound", "internal/master", "internal/command", "cmd bench test",
}

// What a room may grow to. Tables of data and tests do not count.
const (
	maxFunction   = 80
	maxFile       = 600
	maxPackage    = 3000
	maxParameters = 5
)

// source is one parsed Go file.
type source struct {
	path string // slash separated, from the root of the module
	file *ast.File
	fset *token.FileSet
}

func (s source) dir() string          { return path.Dir(s.path) }
func (s source) isTest() bool         { return strings.HasSuffix(s.path, "_test.go") }
func (s source) lines() int           { return s.fset.File(s.file.Pos()).LineCount() }
func (s source) line(p token.Pos) int { return s.fset.Position(p).Line }

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(name, "go.mod")); d.IsDir() && name != root && err == nil {
			return filepath.SkipDir // a module of its own
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && name != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		all = append(all, source{path: filepath.ToSlash(rel), file: file, fset: fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d files: the walk is broken", len(all))
	}
	return all
}

func floorOf(dir string) int {
	for i, names := range floors {
		for _, name := range strings.Fields(names) {
			if dir == name || strings.HasPrefix(dir, name+"/") {
				return i
			}
		}
	}
	return -1
}

func TestImportsRunDownward(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		own := floorOf(s.dir())
		if own < 0 {
			t.Errorf("%s: this directory has no floor; see docs/ARCHITECTURE.md", s.path)
			continue
		}
		for _, spec := range s.file.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			target, ours := strings.CutPrefix(target, "posthaste/")
			if ours && floorOf(target) > own {
				t.Errorf("%s imports %s, which is on a higher floor", s.path, target)
			}
		}
	}
}

func TestDNSLibraryStaysInItsRoom(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			if strings.Contains(spec.Path.Value, "miekg/dns") && !strings.HasPrefix(s.path, "internal/sys/dns/") {
				t.Errorf("%s imports the DNS library; only internal/sys/dns does", s.path)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	said, files := map[string]bool{}, map[string]string{}
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		files[s.dir()] = s.path
		if s.file.Doc != nil && len(strings.Fields(s.file.Doc.Text())) >= 10 {
			said[s.dir()] = true
		}
	}
	for dir, file := range files {
		if !said[dir] {
			t.Errorf("%s: package without a comment that says what it is (see %s)", dir, file)
		}
	}
}

func TestGoroutinesHaveAnOwner(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.isTest() || strings.HasPrefix(s.path, "internal/sys/lifecycle/") || !strings.HasPrefix(s.path, "internal/") || isTestSupport(s.dir()) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s:%d: go statement outside package lifecycle", s.path, s.line(g.Pos()))
			}
			return true
		})
	}
}

func TestNoSleepAndNoInit(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.isTest() || !strings.HasPrefix(s.path, "internal/") || isTestSupport(s.dir()) {
			continue
		}
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s:%d: init function", s.path, s.line(f.Pos()))
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s:%d: time.Sleep; wait for an event or a timer and a context", s.path, s.line(n.Pos()))
				}
			}
			return true
		})
	}
}

// isTestSupport reports packages that only tests import.
func isTestSupport(dir string) bool { return strings.HasSuffix(dir, "test") }

func TestRoomsStaySmall(t *testing.T) {
	t.Parallel()
	waived := waivers(t)
	used := map[string]bool{}
	complain := func(key, format string, args ...any) {
		if waived[key] {
			used[key] = true
			return
		}
		t.Errorf(format, args...)
	}
	packages := map[string]int{}
	for _, s := range sources(t) {
		if s.isTest() || isTestSupport(s.dir()) || s.dir() == "test/structure" {
			continue
		}
		code := s.lines() - dataLines(s)
		packages[s.dir()] += code
		if code > maxFile {
			complain(s.path, "%s has %d lines, more than %d", s.path, code, maxFile)
		}
		checkFunctions(s, complain)
	}
	for dir, lines := range packages {
		if lines > maxPackage {
			complain(dir, "package %s has %d lines, more than %d", dir, lines, maxPackage)
		}
	}
	for key := range waived {
		if !used[key] {
			t.Errorf("waivers.txt: %s is not needed any more", key)
		}
	}
}

func checkFunctions(s source, complain func(key, format string, args ...any)) {
	for _, decl := range s.file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		key := s.path + ":" + f.Name.Name
		if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > maxFunction {
			complain(key, "%s has %d lines, more than %d", key, n, maxFunction)
		}
		n := f.Type.Params.NumFields()
		if n > 0 && isContext(f.Type.Params.List[0].Type) {
			n-- // a context is a circumstance, not an input
		}
		if n > maxParameters {
			complain(key, "%s has %d parameters, more than %d", key, n, maxParameters)
		}
	}
}

func isContext(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Context"
}

// dataLines counts the lines of package-level tables of data.
func dataLines(s source) int {
	n := 0
	for _, decl := range s.file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR && g.Tok != token.CONST {
			continue
		}
		if lines := s.line(g.End()) - s.line(g.Pos()); lines > 20 {
			n += lines
		}
	}
	return n
}

// waivers reads the rooms that may be too big, "what reason"; the list may
// only shrink.
func waivers(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("waivers.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for n, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, reason, _ := strings.Cut(line, " ")
		if reason == "" {
			t.Errorf("waivers.txt:%d: %s has no reason", n+1, key)
		}
		all[key] = true
	}
	return all
}
