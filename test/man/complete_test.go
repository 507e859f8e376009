package man

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"posthaste/internal/table/all"
)

// TestTableTypes: tables.5 has every type of table, and no others.
func TestTableTypes(t *testing.T) {
	t.Parallel()
	var types []string
	for _, kind := range all.Types() {
		types = append(types, kind.Name)
	}
	var described []string
	for _, line := range readPages(t)["tables.5"].lines {
		if name, ok := strings.CutPrefix(line, ".It Cm "); ok {
			described = append(described, name)
		}
	}
	differences(t, "tables.5", types, described)
}

// programs are the names in the map that function agents of package master
// returns, and in the cases of method start.
func programs(t *testing.T) []string {
	t.Helper()
	files, _ := filepath.Glob("../../internal/master/*.go")
	var names []string
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !(f.Name.Name == "agents" || f.Name.Name == "start" && f.Recv != nil) {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					names = append(names, words(n.Key)...)
				case *ast.CaseClause:
					names = append(names, words(n.List...)...)
				}
				return true
			})
		}
	}
	if !slices.Contains(names, "smtpd") || !slices.Contains(names, "virtual") {
		t.Fatalf("found only %v: look for where package master has its programs", names)
	}
	return names
}

func words(list ...ast.Expr) []string {
	var texts []string
	for _, e := range list {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			texts = append(texts, strings.Trim(lit.Value, `"`))
		}
	}
	return texts
}

// inside are programs of master.cf that no socket and no transport leads to.
var inside = []string{"cleanup", "trivial-rewrite", "bounce", "postlogd", "anvil"}

// TestPrograms: master.cf.5 has every program that a service can run, and each
// has a page.
func TestPrograms(t *testing.T) {
	t.Parallel()
	var described []string
	for _, line := range readPages(t)["master.cf.5"].part("DESCRIPTION") {
		if ref, ok := strings.CutPrefix(line, ".It Xr "); ok {
			described = append(described, strings.TrimSuffix(ref, " 8"))
		}
	}
	differences(t, "master.cf.5", append(programs(t), inside...), described)
}

func differences(t *testing.T, page string, there, described []string) {
	t.Helper()
	for _, name := range there {
		if !slices.Contains(described, name) {
			t.Errorf("%s does not have %s", page, name)
		}
	}
	for _, name := range described {
		if !slices.Contains(there, name) {
			t.Errorf("%s has %s, which there is not", page, name)
		}
	}
}
