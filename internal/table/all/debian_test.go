package all

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// recorded is a table with what "postmap -q" of Debian's Postfix 3.7.11 (GNU C
// library 2.36, PCRE2 10.42) answered, and its standard error.
type recorded struct {
	Kind, Table, Log string
	Answers          map[string]*string
}

// known are the deviations, with their reasons.
var known = map[string]string{
	"~(a*)*~ [$1]\n": "an empty last repetition: PCRE's group is empty then, Go's is the one before",
	"~(a*)+~ [$1]\n": "the same",
	"~(?|~ M\n":      "branch reset is refused before its end is looked for",
}

func TestDebian(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/debian.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []recorded
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Kind+" "+c.Table, func(t *testing.T) {
			t.Parallel()
			if reason := known[c.Table]; reason != "" {
				t.Skip(reason)
			}
			compareRecorded(t, c)
		})
	}
}

func compareRecorded(t *testing.T, c recorded) {
	dir := t.TempDir()
	path := filepath.Join(dir, "TABLE")
	if err := os.WriteFile(path, []byte(c.Table), 0o644); err != nil {
		t.Fatal(err)
	}
	var log maillog.Memory
	o := table.NewOpener(table.Setup{Types: Types(), Log: maillog.New(&log, "", 1, nil), UTF8: true})
	tab := o.Open(c.Kind+":"+path, table.FoldedKeys)
	defer tab.Close()
	got := strings.ReplaceAll(log.String(), dir+"/", "")
	got = strings.ReplaceAll(got, ": warning:", "warning:")
	// postmap's own words about an empty result.
	want, _, _ := strings.Cut(strings.TrimSuffix(c.Log, "\n"), "\nwarning: table ")
	if got != want {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
	for key, want := range c.Answers {
		if key == "-" {
			continue // postmap read its standard input
		}
		value, found, err := tab.Lookup(t.Context(), key)
		if err != nil || found != (want != nil) || want != nil && value != *want {
			t.Errorf("%q: %q %v %v, want %s", key, value, found, err, show(want))
		}
	}
}

func show(s *string) string {
	if s == nil {
		return "nothing"
	}
	return *s
}
