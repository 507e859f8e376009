package route

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"posthaste/internal/mail/addr"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

var update = flag.Bool("update", false, "rewrite the expected output of testdata scripts")

type nameSet []string

func names(n ...string) nameSet { return n }

func (n nameSet) Match(_ context.Context, name string) (bool, error) {
	for _, s := range n {
		if strings.EqualFold(s, name) {
			return true, nil
		}
	}
	return false, nil
}

// memory is a table of a script.
type memory struct {
	name    string
	entries map[string]string
}

func (m memory) Lookup(_ context.Context, key string) (string, bool, error) {
	if _, broken := m.entries["BROKEN"]; broken {
		return "", false, errors.New("table is broken")
	}
	value, ok := m.entries[strings.ToLower(key)]
	return value, ok, nil
}
func (m memory) Fixed() bool  { return true }
func (m memory) Name() string { return "mem:" + m.name }
func (m memory) Close() error { return nil }

// script runs one file: a block is lines, "----" and the expected output.
//
//	set PARAMETER = VALUE
//	entry TABLE KEY VALUE      entry of table mem:TABLE
//	resolve SENDER RECIPIENT   "<>" is the null sender
//	verify SENDER RECIPIENT    the same with address_verify_* parameters
type script struct {
	params map[string]string
	tables map[string]map[string]string
}

func (s *script) run(block string) string {
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		switch verb {
		case "set":
			name, value, _ := strings.Cut(rest, "=")
			s.params[strings.TrimSpace(name)] = strings.TrimSpace(value)
		case "entry":
			f := strings.SplitN(rest, " ", 3)
			if s.tables[f[0]] == nil {
				s.tables[f[0]] = map[string]string{}
			}
			s.tables[f[0]][f[1]] = f[2]
		case "resolve", "verify":
			s.resolve(&out, verb, strings.Fields(rest))
		case "#":
		default:
			fmt.Fprintf(&out, "bad line %q\n", line)
		}
	}
	return out.String()
}

func (s *script) resolve(out *strings.Builder, verb string, f []string) {
	sink := &maillog.Memory{}
	log := maillog.New(sink, "rewrite", 0, nil)
	opener := table.NewOpener(table.Setup{Log: log, Types: []table.Type{{
		Name: "mem", Open: func(_ *table.Opener, name string, _ table.Use) (table.Table, error) {
			return memory{name, s.tables[name]}, nil
		}}}})
	var cfg Config
	fill(&cfg, s.params)
	if verb == "verify" {
		var v VerifyRouting
		fill(&v, s.params)
		cfg.Routing = v.Routing()
	}
	own := func(ip netip.Addr) bool { return ip == netip.MustParseAddr("192.0.2.1") }
	r, lists := Open(cfg, opener, own)
	defer lists.Close()
	rcpt := addr.Address(strings.Join(f[1:], " "))
	sender := addr.Address(strings.Trim(f[0], "<>"))
	got, err := r.Resolve(context.Background(), sender, r.Rewriter().Rewrite(context.Background(), ContextLocal, rcpt))
	for _, line := range sink.Lines() {
		fmt.Fprintln(out, line)
	}
	switch {
	case err != nil:
		fmt.Fprintf(out, "error: %v\n", err)
	case !got.Problem.IsZero():
		fmt.Fprintf(out, "%s: %s\n", got.Recipient, got.Problem)
	default:
		class := []string{"default", "local", "virtual alias", "virtual mailbox", "relay"}[got.Class]
		routed := ""
		if got.Routed {
			routed = " routed"
		}
		fmt.Fprintf(out, "%s: %s:%s (%s%s)\n", got.Recipient, got.Transport, got.Nexthop, class, routed)
	}
}

// fill sets the fields that a script's parameters name by tag.
func fill(dst any, params map[string]string) {
	v := reflect.ValueOf(dst).Elem()
	for i := range v.NumField() {
		field := v.Field(i)
		if field.Kind() == reflect.Struct {
			fill(field.Addr().Interface(), params)
			continue
		}
		value, ok := params[v.Type().Field(i).Tag.Get("param")]
		if !ok {
			continue
		}
		if field.Kind() == reflect.Bool {
			field.SetBool(value == "yes")
		} else {
			field.SetString(value)
		}
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{params: map[string]string{}, tables: map[string]map[string]string{}}
			var out strings.Builder
			for i, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				commands, want, _ := strings.Cut(block, "\n----")
				got := strings.TrimSpace(s.run(commands))
				if want = strings.TrimSpace(want); got != want && !*update {
					t.Errorf("block %d:\n%s\ngot:\n%s\nwant:\n%s", i+1, commands, got, want)
				}
				if i > 0 {
					out.WriteString("\n\n")
				}
				out.WriteString(commands)
				if got != "" {
					out.WriteString("\n----\n" + got)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
