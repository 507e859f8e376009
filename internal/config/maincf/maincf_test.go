package maincf_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"posthaste/internal/config/maincf"
)

func TestRead(t *testing.T) {
	t.Parallel()
	_, err := maincf.Read(strings.NewReader("  early = x\n# comment\na = 1\n\n  # inside\n\tmore  words\nb=\n c = d\n=end\ne = # not a comment\na = 2\na = 2\nlast=x"), "main.cf")
	if err == nil || err.Error() != `main.cf, line 9: missing attribute name: "=end"` {
		t.Errorf("got %v", err)
	}
	f, err := maincf.Read(strings.NewReader("  early = x\n# comment\na = 1\n\n  # inside\n\tmore  words\nb=\n c = d\n\ne = # text\na = 2\na = 2\nlast=x"), "main.cf")
	if err != nil {
		t.Fatal(err)
	}
	want := []maincf.Setting{{"a", "1\tmore  words", 3}, {"b", "c = d", 7}, {"e", "# text", 10}, {"a", "2", 11}, {"a", "2", 12}, {"last", "x", 13}}
	if got := fmt.Sprint(f.Settings); got != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	if s, ok := f.Get("a"); !ok || s.Line != 12 {
		t.Errorf("got %v", s)
	}
	var said []string
	for _, w := range f.Warnings {
		said = append(said, w.Text)
	}
	if got := strings.Join(said, "\n"); got != `main.cf: logical line must not start with whitespace: "  early = x"`+"\n"+
		"main.cf, line 11: overriding earlier entry: a=1\tmore  words" {
		t.Errorf("got %s", got)
	}
}

func TestReadBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a = " + strings.Repeat("x", maincf.MaxLine+1), "a = x\n" + strings.Repeat(" yyyyyyyy\n", maincf.MaxLine/8)} {
		if _, err := maincf.Read(strings.NewReader(text), "main.cf"); err == nil || !strings.Contains(err.Error(), "main.cf, line 1") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := maincf.Load(t.TempDir() + "/none"); !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "/none: No such file or directory") {
		t.Errorf("got %v", err)
	}
	if _, err := maincf.Load(t.TempDir()); err == nil {
		t.Error("read a directory")
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real, path := filepath.Join(dir, "real.cf"), filepath.Join(dir, "main.cf")
	if err := os.WriteFile(real, []byte("a = 1\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.cf", path); err != nil {
		t.Fatal(err)
	}
	fail := errors.New("no")
	if err := maincf.Rewrite(path, func([]byte) ([]byte, error) { return nil, fail }); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	if err := maincf.Rewrite(path, func(text []byte) ([]byte, error) { return append(text, "b = 2\n"...), nil }); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(real)
	info, _ := os.Lstat(real)
	if string(text) != "a = 1\nb = 2\n" || info.Mode() != 0o640 {
		t.Errorf("got %q, %v", text, info.Mode())
	}
	if info, _ = os.Lstat(path); info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
	if left, _ := filepath.Glob(dir + "/*.tmp"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if err := maincf.Rewrite(dir+"/none", func(text []byte) ([]byte, error) { return text, nil }); err == nil ||
		err.Error() != "open "+dir+"/none for reading: No such file or directory" {
		t.Errorf("got %v", err)
	}
}

// TestRewriteRefusesLink keeps a planted link from being written through.
func TestRewriteRefusesLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	for path, text := range map[string]string{victim: "mine", filepath.Join(dir, "main.cf"): "a = 1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(victim, filepath.Join(dir, "main.cf.tmp")); err != nil {
		t.Fatal(err)
	}
	err := maincf.Rewrite(filepath.Join(dir, "main.cf"), func(text []byte) ([]byte, error) { return text, nil })
	if text, _ := os.ReadFile(victim); err == nil || string(text) != "mine" {
		t.Errorf("got %v, %q", err, text)
	}
}

// TestRewriteTogether has many editors at once, none of which may be lost.
func TestRewriteTogether(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "main.cf")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			edit, err := maincf.ParseEdit(maincf.Set, []string{fmt.Sprintf("p%d = x", i)})
			if err == nil {
				err = maincf.Rewrite(path, func(text []byte) ([]byte, error) { return edit.Apply(text, path), nil })
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if f, err := maincf.Load(path); err != nil || len(f.Names()) != 16 {
		t.Errorf("got %v, %v", f, err)
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	if got := maincf.Reason(&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}); got != "Permission denied" {
		t.Errorf("got %s", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("a = b\n c\n#d\n\ne=f", "a", "x")
	f.Add("  a = b", "new", "")
	f.Add("a=1\na=2\n", "a", "y z")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		file, err := maincf.Read(strings.NewReader(text), "main.cf")
		if err != nil {
			return
		}
		for _, s := range file.Settings {
			again, err := maincf.ParseSetting(s.Name + " = " + s.Value)
			if err != nil || again.Name != s.Name || again.Value != s.Value {
				t.Errorf("%v became %v, %v", s, again, err)
			}
		}
		edit, err := maincf.ParseEdit(maincf.Set, []string{name + " = " + value})
		if err != nil {
			return
		}
		changed, err := maincf.Read(strings.NewReader(string(edit.Apply([]byte(text), "main.cf"))), "main.cf")
		if err != nil {
			t.Fatalf("edit broke the file: %v", err)
		}
		want, err := maincf.ParseSetting(name + " = " + value)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := changed.Get(want.Name); !ok || got.Value != want.Value {
			t.Errorf("set %v, got %v", want, got)
		}
		for _, name := range file.Names() {
			before, _ := file.Get(name)
			if after, ok := changed.Get(name); name != want.Name && (!ok || after.Value != before.Value) {
				t.Errorf("%s changed from %q to %q", name, before.Value, after.Value)
			}
		}
		remove, err := maincf.ParseEdit(maincf.Remove, []string{want.Name})
		if err != nil {
			return
		}
		gone, err := maincf.Read(strings.NewReader(string(remove.Apply([]byte(text), "main.cf"))), "main.cf")
		if err != nil {
			t.Fatalf("removal broke the file: %v", err)
		}
		if _, ok := gone.Get(want.Name); ok {
			t.Errorf("%s is still there", want.Name)
		}
	})
}
