package command

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/config"
	"posthaste/internal/config/version"
)

var updatePostconf = flag.Bool("update-postconf", false, "write the answers of postconf into testdata")

// testHost is the host of the recordings.
var testHost = config.System{
	Hostname: func() (string, error) { return "mail.example.com", nil },
	Interfaces: func() ([]netip.Prefix, error) {
		var list []netip.Prefix
		for _, text := range []string{"127.0.0.1/8", "192.0.2.1/24", "192.0.2.2/24", "::1/128", "2001:db8:1::1/64", "fe80::1/64"} {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list, nil
	},
	Resolve: func(name string) ([]netip.Addr, error) { return nil, fmt.Errorf("no such host: %s", name) },
}

// TestPostconf replays scripts: two files, then commands with their answers.
func TestPostconf(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/postconf-*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if *updatePostconf {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("answers differ (-want +got):\n%s", diff)
			}
		})
	}
}

// replay runs the commands of a script and returns it with fresh answers.
func replay(t *testing.T, script string) string {
	dir := t.TempDir()
	head, commands, ok := strings.Cut(script, "-- commands --\n")
	if !ok {
		t.Fatal("script has no commands")
	}
	_, files, _ := strings.Cut(head, "-- main.cf --\n")
	main, master, _ := strings.Cut(files, "-- master.cf --\n")
	for name, text := range map[string]string{"main.cf": main, "master.cf": master} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	out := head + "-- commands --\n"
	for _, line := range strings.Split(commands, "\n") {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			out += line + "\n" + answer(t, dir, command)
		}
	}
	return out
}

func answer(t *testing.T, dir, command string) string {
	args := shellWords(command)
	if args[0] == "cat" {
		text, err := os.ReadFile(filepath.Join(dir, args[1]))
		if err != nil {
			t.Fatal(err)
		}
		return indent(string(text))
	}
	var stdout, stderr bytes.Buffer
	env := &Env{Name: "postconf", Args: args[1:], Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }}
	if !strings.Contains(command, "-c ") {
		env.Args = append([]string{"-c", dir}, env.Args...)
	}
	code := runPostconf(env, testHost)
	text := indent(stdout.String())
	said := strings.SplitAfter(stderr.String(), "\n")
	sort.Strings(said) // Postfix has no fixed order
	for _, line := range said {
		if line != "" {
			text += "  stderr: " + line
		}
	}
	if code != 0 {
		text += fmt.Sprintf("  exit %d\n", code)
	}
	text = strings.ReplaceAll(text, version.Mail, "VERSION")
	return strings.ReplaceAll(text, dir, "/etc/postfix")
}

func indent(text string) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		if line != "" {
			out.WriteString("  " + line)
		}
	}
	return out.String()
}

// shellWords splits at blanks, outside of quotes.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, started := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, started = c, true
		case quote == 0 && c == ' ':
			if started {
				words = append(words, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words
}
