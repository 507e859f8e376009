package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// postmapFiles are the files that testdata/postmap.txt was recorded with.
var postmapFiles = map[string]string{
	"main.cf": "compatibility_level=3.6\nmyhostname=mail.example.com\nalias_database=hash:DIR/aliases\n" +
		"default_database_type=hash\n",
	"src":     "# comment\nkey value\nAbc x\n\"a b\" v1\n\"unbal x\nc: d\nempty\nkey again\nlong line\n continued\n",
	"long":    strings.Repeat("y", 600) + " v\n",
	"one.txt": "content of one",
	"files":   "one DIR/one.txt\nbad /no/such\n",
	"checks":  "/^$/ EMPTY\n/./ M\n",
	"aliases": "Name: value one\nlist: a, b\nbroken line\nname: again\nx@y: z\n",
	"latin":   "caf\xe9 x\nok y\n",
}

// TestPostmapAsRecorded runs the commands of testdata/postmap.txt and compares
// with what Postfix answered.
func TestPostmapAsRecorded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range postmapFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(content, "DIR", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("testdata/postmap.txt")
	if err != nil {
		t.Fatal(err)
	}
	steps := strings.Split(string(script), "\n$ ")[1:]
	for _, step := range steps {
		line, want, _ := strings.Cut(strings.TrimRight(step, "\n"), "\n")
		if got := postmapStep(t, dir, line); got != sorted(line, want) {
			t.Errorf("$ %s\n%s\nwant\n%s", line, got, want)
		}
	}
}

// postmapStep runs one command line and returns what a recording of it says.
func postmapStep(t *testing.T, dir, line string) string {
	t.Helper()
	command, input, piped := strings.Cut(line, " <")
	if input = strings.TrimPrefix(input, " "); piped && input != "" {
		input = strings.ReplaceAll(input, "|", "\n") + "\n"
	}
	var stdout, stderr bytes.Buffer
	env := &Env{Stdin: strings.NewReader(input), Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }}
	status := Dispatch(t.Context(), strings.Split(strings.ReplaceAll(command, "DIR", dir), " "), env)
	got := stdout.String()
	if got != "" && !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	for message := range strings.Lines(stderr.String()) {
		got += "! " + message
	}
	got += fmt.Sprintf("[%d]", status)
	return sorted(line, strings.ReplaceAll(got, dir, "DIR"))
}

// sorted puts the lines of a listing in order: Postfix has the order of its
// hash table, we that of the source.
func sorted(command, output string) string {
	if !strings.Contains(command, " -s ") {
		return output
	}
	lines := strings.Split(output, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestPostmapJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte("myhostname=h.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := "{\"a\": \"<b \\\"c\\\">\"}\n[0]"
	if got := postmapStep(t, dir, `postmap -c DIR -jq - inline:{{a=<b_"c">}} < a`); strings.ReplaceAll(got, "_", " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
}
