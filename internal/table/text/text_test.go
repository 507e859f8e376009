package text

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// read reads a source and returns what it has, one entry a line, and the log.
func read(kind, text string) (entries, log string) {
	var memory maillog.Memory
	s := Source{Path: "src", Log: maillog.New(&memory, "", 1, nil), UTF8: true}
	parse := s.Map
	if kind == "alias" {
		parse = s.Alias
	}
	var list []string
	err := parse(strings.NewReader(text), func(e Entry) error {
		list = append(list, fmt.Sprintf("%d %s = %s", e.Line, e.Key, e.Value))
		return nil
	})
	if err != nil {
		list = append(list, err.Error())
	}
	return strings.Join(list, "\n"), strings.ReplaceAll(memory.String(), ": warning: ", "")
}

// TestMap has results of Debian's postmap 3.7.11.
func TestMap(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"# c\nkey value\n":                "2 key = value",
		"\"a b\" v1":                      `1 "a b" = v1`,
		"\"a\\\"b\" v2\n x\"":             `1 "a\"b" = v2 x"`,
		"a\"b c\" v3":                     `1 a"b c" = v3`,
		"\"q\"r s":                        `1 "q"r = s`,
		"k\ttwo\twords   \n cont\n":       "1 k = two\twords    cont",
		"k v\n# c\n\n more\n\n\n \t\nl w": "1 k = v more\n8 l = w",
		"c: d":                            "1 c: = d|src, line 1: record is in \"key: value\" format; is this an alias file?",
		"\"unbal x":                       `|src, line 1: unbalanced '"' in '"unbal x' -- ignoring this line`,
		"k\n\n":                           "|src, line 1: expected format: key whitespace value",
		" x y\n":                          `|src: logical line must not start with whitespace: " x y"`,
		"k \xe9\nl m":                     "2 l = m|src, line 1: non-UTF-8 input \"k ?\" -- ignoring this line",
		"":                                "",
	} {
		entries, log := read("map", source)
		want, wantLog, _ := strings.Cut(want, "|")
		if entries != want || log != wantLog {
			t.Errorf("%q:\n%s\n%s\nwant\n%s\n%s", source, entries, log, want, wantLog)
		}
	}
}

// TestAlias has results of Debian's postalias 3.7.11.
func TestAlias(t *testing.T) {
	t.Parallel()
	need := "|src, line 1: need name:value pair"
	for source, want := range map[string]string{
		"a: b,c": "1 a = b, c",
		`b: "b c", |"cmd  arg", /file, :include:/etc/x`: `1 b = "b c", |"cmd  arg", /file, :include:/etc/x`,
		"C: (comment) d (more)":                         "1 C = (comment) d (more)",
		`"x@y": z`:                                      "1 x@y = z",
		"x@y: z":                                        "|src, line 1: name must be local",
		"x%y: z":                                        "|src, line 1: name must be local",
		"d,e: f":                                        need,
		"h:":                                            need,
		": x":                                           need,
		"no colon":                                      need,
		"g : h i":                                       "1 g = h i",
		`i: "foo bar"@example.com,   <x@y>, Bob <b@c>`: `1 i = "foo bar"@example.com, <x@y>, Bob <b@c>`,
		`j: "|cmd a b"`:            `1 j = "|cmd a b"`,
		"k: a\n b":                 "1 k = a b",
		`l: \|x`:                   `1 l = "|x"`,
		"m: :fail: x":              "1 m = :fail:x",
		`n: "a\"b" 'x'`:            `1 n = "a\"b" 'x'`,
		`"": q`:                    "1  = q",
		`o: ""`:                    `1 o = ""`,
		"p: a;b":                   "1 p = a;b",
		"q: [1.2.3.4] x@[1.2.3.4]": "1 q = [1.2.3.4] x@[1.2.3.4]",
		"a b: c":                   "1 a b = c",
		`"a b" c: d`:               "1 a b c = d",
		`a: "x`:                    `1 a = "x"`,
		"(c) a: d":                 "1 (c) a = d",
		`k:"x y"z`:                 `1 k = "x y" z`,
		"l: a   b,,c,":             "1 l = a b, , c, ",
		`m: <a@b> (x "y)`:          `1 m = <a@b>(x "y)`,
		"n: x, y: z":               "1 n = x, y:z",
		`o: p\,q`:                  `1 o = "p,q"`,
		`p: "a"@"b" , a . b @ c`:   `1 p = "a"@"b", a.b@c`,
		`q: a\@b`:                  `1 q = "a@b"`,
		`t: caf\xe9 x`:             "1 t = cafxe9 x",
		"v: $HOME, ${x}":           "1 v = $HOME, ${x}",
		"w: x [a b] ]":             "1 w = x [a b]]",
		"<z>: q":                   "1 <z> = q",
		"a.b: c . d":               "1 a.b = c.d",
	} {
		entries, log := read("alias", source)
		want, wantLog, _ := strings.Cut(want, "|src")
		if wantLog != "" {
			wantLog = "src" + wantLog
		}
		if entries != want || log != wantLog {
			t.Errorf("%q:\n%s\n%s\nwant\n%s\n%s", source, entries, log, want, wantLog)
		}
	}
}

func TestTexthashFileValues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "t")
	os.WriteFile(filepath.Join(dir, "one"), []byte("1"), 0o600)
	os.WriteFile(path, []byte("a "+dir+"/one "+dir+"/one\nb /no/such\n"), 0o600)
	var log maillog.Memory
	o := table.NewOpener(table.Setup{Log: maillog.New(&log, "t", 1, nil), Types: []table.Type{{Name: "texthash", Open: Texthash}}})
	tab := o.Open("texthash:"+path, table.Use{FileValues: true})
	if value, found, err := tab.Lookup(t.Context(), "a"); value != "1\n1" || !found || err != nil {
		t.Errorf("%q %v %v", value, found, err)
	}
	if want := "t: warning: " + path + ", line 2: open /no/such: No such file or directory: skipping this entry"; log.String() != want {
		t.Errorf("log %q, want %q", log.String(), want)
	}
	if uid, known := table.OwnerID(tab); uid != os.Getuid() || !known {
		t.Errorf("owner %d, %v", uid, known)
	}
}

func TestBraced(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"{ {a b}, { c } {d{e}f} }": "[a b c d{e}f] <nil>",
		"{}":                       "[] <nil>",
		"{{a}":                     `[] missing '}' in "{{a}"`,
		"{a}":                      `[] no '{' at start of text in "a"`,
		"{{a}} x":                  `[] syntax error after '}' in "{{a}} x"`,
	} {
		texts, err := Braced(s)
		if got := fmt.Sprint(texts, " ", err); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// FuzzSource: whatever a source holds, keys and values are clean and a value
// that is written again reads the same.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"key value\n", "a: b, \"c d\" (e)\n", "\"a b\" c\n d\n", "x: |\"y\n", "a: \\", "k:\"(", "a: b@[c", "# x\n y", "q: a;b:c<d>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := Source{Path: "x"}
		err := s.Map(strings.NewReader(text), func(e Entry) error {
			if e.Key == "" || e.Value == "" || strings.Trim(e.Value, space) != e.Value {
				t.Errorf("map entry %q = %q", e.Key, e.Value)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		err = s.Alias(strings.NewReader(text), func(e Entry) error {
			again := write(tokens(e.Value), externalForm)
			if !strings.ContainsAny(e.Value, "()[]\r\\\"\v\f\n") && again != e.Value && strings.Trim(again, space) != strings.Trim(e.Value, space) {
				t.Errorf("%q reads as %q", e.Value, again)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func FuzzBraced(f *testing.F) {
	f.Add("{ {a b}, { c } {d{e}f} }")
	f.Fuzz(func(t *testing.T, s string) {
		texts, err := Braced(s)
		if err == nil && slices.ContainsFunc(texts, func(x string) bool { return !strings.Contains(s, x) }) {
			t.Errorf("%q has %q", s, texts)
		}
	})
}
