package cleanup

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

var update = flag.Bool("update", false, "rewrite the expected results in testdata")

// store is a queue.Store that keeps drafts in memory and fails on request.
type store struct {
	queue.Store
	faults
	mu        sync.Mutex
	committed []*draft
	aborted   int
}

// faults are errors of the queue.
type faults struct {
	failBegin, failWrite, failClose error
	failAfter                       int // writes that succeed
}

func (s *store) Begin(context.Context, queue.Hint) (queue.Draft, error) {
	if s.failBegin != nil {
		return nil, s.failBegin
	}
	return &draft{store: s}, nil
}

type draft struct {
	store    *store
	content  bytes.Buffer
	writes   int
	envelope envelope.Envelope
	to       queue.Name
	ended    bool
}

func (d *draft) ID() queue.ID { return "A1B2C3" }
func (d *draft) Size() int64  { return int64(d.content.Len()) }

func (d *draft) Write(p []byte) (int, error) {
	if d.ended {
		return 0, errors.New("write after the end")
	}
	d.writes++
	if d.store.failWrite != nil && d.writes > d.store.failAfter {
		return 0, d.store.failWrite
	}
	return d.content.Write(p)
}

func (d *draft) Commit(_ context.Context, e *envelope.Envelope, to queue.Name) error {
	if d.store.failClose != nil {
		return d.store.failClose
	}
	d.ended, d.envelope, d.to = true, *e, to
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	d.store.committed = append(d.store.committed, d)
	return nil
}

func (d *draft) Abort() {
	if !d.ended {
		d.ended = true
		d.store.mu.Lock()
		defer d.store.mu.Unlock()
		d.store.aborted++
	}
}

// rules is a table of a script: fixed keys, or patterns in order when the name
// begins with "re". The value "FAIL" is an error.
type rules struct {
	name    string
	pattern bool
	keys    []string
	values  []string
}

func (r *rules) Lookup(_ context.Context, key string) (string, bool, error) {
	for i, k := range r.keys {
		value := r.values[i]
		if r.pattern {
			re := regexp.MustCompile("(?is)" + k)
			at := re.FindStringSubmatchIndex(key)
			if at == nil {
				continue
			}
			value = string(re.ExpandString(nil, value, key, at))
		} else if !strings.EqualFold(k, key) {
			continue
		}
		if value == "FAIL" {
			return "", false, errors.New("table is broken")
		}
		return value, true, nil
	}
	return "", false, nil
}

func (r *rules) Fixed() bool  { return !r.pattern }
func (r *rules) Name() string { return "t:" + r.name }
func (r *rules) Close() error { return nil }

// setting puts defaults of Postfix into a Config, then those of the script.
func setting(params map[string]string) Config {
	all := map[string]string{
		"myhostname": "mail.example.com", "message_size_limit": "10240000", "bounce_size_limit": "50000", "hopcount_limit": "50",
		"line_length_limit": "2048", "cleanup_replace_stray_cr_lf": "yes",
		"message_drop_headers": "bcc, content-length, resent-bcc, return-path",
		"header_from_format":   "standard", "full_name_encoding_charset": "utf-8",
		"header_address_token_limit": "10240", "header_size_limit": "102400", "detect_8bit_encoding_header": "yes",
		"mime_boundary_length_limit": "2048", "mime_nesting_limit": "100", "body_checks_size_limit": "51200",
		"canonical_classes":        "envelope_sender, envelope_recipient, header_sender, header_recipient",
		"sender_canonical_classes": "envelope_sender, header_sender", "recipient_canonical_classes": "envelope_recipient, header_recipient",
		"masquerade_classes":             "envelope_sender, header_sender, header_recipient",
		"propagate_unmatched_extensions": "canonical, virtual", "virtual_alias_expansion_limit": "1000",
		"virtual_alias_recursion_limit": "1000", "virtual_alias_address_length_limit": "1000", "duplicate_filter_limit": "1000",
		"enable_original_recipient": "yes", "smtputf8_enable": "yes", "smtputf8_autodetect_classes": "sendmail, verify",
		"delay_logging_resolution_limit": "2", "info_log_address_format": "external",
	}
	for name, value := range params {
		all[name] = value
	}
	var cfg Config
	fill(reflect.ValueOf(&cfg).Elem(), all)
	return cfg
}

func fill(v reflect.Value, params map[string]string) {
	for i := range v.NumField() {
		field, param := v.Field(i), v.Type().Field(i).Tag.Get("param")
		value := params[param]
		switch {
		case field.Kind() == reflect.Struct:
			fill(field, params)
		case value == "":
		case field.Kind() == reflect.String:
			field.SetString(value)
		case field.Kind() == reflect.Bool:
			field.SetBool(value == "yes")
		default:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				panic(err)
			}
			field.SetInt(n)
		}
	}
}

// bouncer records reports.
type bouncer struct {
	notices []string
	err     error
}

func (b *bouncer) Notify(_ context.Context, n *qmgr.Notice) error {
	if b.err != nil {
		return b.err
	}
	content, _ := io.ReadAll(n.Open())
	for _, r := range n.Results {
		b.notices = append(b.notices, fmt.Sprintf("%s %s: %s, %q", r.Action, r.Recipient.Address, r.Status, content))
	}
	return nil
}

// bench is a service with everything around it.
type bench struct {
	store   *store
	log     *maillog.Memory
	bouncer *bouncer
	svc     *Service
}

func now() time.Time { return time.Date(2026, 3, 5, 9, 8, 7, 0, time.UTC) }

func newBench(t testing.TB, params map[string]string, tables map[string]*rules) *bench {
	t.Helper()
	b := &bench{store: &store{}, log: &maillog.Memory{}, bouncer: &bouncer{}}
	log := maillog.New(b.log, "postfix/cleanup", 1, now)
	opener := table.NewOpener(table.Setup{Log: log, Types: []table.Type{{Name: "t", Open: func(_ *table.Opener, name string, _ table.Use) (table.Table, error) {
		if r := tables[name]; r != nil {
			return r, nil
		}
		return nil, fmt.Errorf("no table %s", name)
	}}}})
	rewriter := route.NewRewriter(route.RewriteConfig{MyOrigin: "example.com", MyDomain: "example.com", AppendAtMyOrigin: true,
		AppendDotMyDomain: params["append_dot_mydomain"] != "no", SwapBangPath: true, PercentHack: true, RemoteDomain: params["remote_header_rewrite_domain"]})
	search := table.Search{Keys: table.AddressKeys, Delimiters: params["recipient_delimiter"],
		IsLocal: func(_ context.Context, domain string) (bool, error) { return domain == "example.com", nil }}
	svc, err := New(setting(params), Deps{Store: b.store, Standard: rewriter, Search: search, Tables: opener, Bouncer: b.bouncer, Log: log, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close() })
	b.svc = svc
	return b
}

// script is one text script: settings and envelope, content, expectation.
type script struct {
	params map[string]string
	tables map[string]*rules
	opt    Options
	env    envelope.Envelope
	trace  string
	data   string
}

func parseScript(text string) *script {
	head, data, _ := strings.Cut(text, "data\n")
	s := &script{params: map[string]string{}, tables: map[string]*rules{}, data: data}
	s.opt = Options{Flags: External, Origin: "client.example.net[198.51.100.7]", Proto: "ESMTP", Helo: "c.example"}
	s.env.RewriteContext = "remote"
	for line := range strings.SplitSeq(head, "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		words := strings.Fields(rest)
		switch verb {
		case "set":
			name, value, _ := strings.Cut(rest, " ")
			s.params[name] = value
		case "rule":
			name, rest, _ := strings.Cut(rest, " ")
			key, value, _ := strings.Cut(rest, " -> ")
			if s.tables[name] == nil {
				s.tables[name] = &rules{name: name, pattern: strings.HasPrefix(name, "re")}
			}
			s.tables[name].keys = append(s.tables[name].keys, key)
			s.tables[name].values = append(s.tables[name].values, value)
		case "local":
			s.env.RewriteContext = "local"
		case "sendmail":
			s.env.RewriteContext = "local"
			s.env.FullName = rest
			s.opt = Options{Flags: External | Bounce | DetectUTF8, Origin: "local"}
		case "override":
			s.opt.Flags, _ = s.opt.Flags.Override(rest)
		case "internal":
			s.opt.Flags = Internal
		case "sender":
			s.env.Sender = addr.Address(rest)
		case "rcpt":
			r := envelope.Recipient{Address: addr.Address(words[0])}
			if len(words) > 1 {
				r.ORCPT = words[1]
			}
			if len(words) > 2 {
				r.Notify = envelope.NotifySuccess | envelope.NotifyFailure
			}
			s.env.Recipients = append(s.env.Recipients, r)
		case "trace":
			s.trace += strings.ReplaceAll(rest, `\n`, "\n") + "\n"
		case "hold":
			s.env.Hold = true
		}
	}
	s.data = strings.NewReplacer(`\r`, "\r", `\0`, "\x00", `\x`, "\xe9").Replace(s.data)
	return s
}

func (s *script) run(t testing.TB, piece int) string {
	b := newBench(t, s.params, s.tables)
	ctx := context.Background()
	m, err := b.svc.Begin(ctx, s.opt)
	if err != nil {
		return err.Error()
	}
	*m.Envelope() = s.env
	m.Envelope().Recipients = nil
	m.SetSender(ctx, s.env.Sender)
	for _, r := range s.env.Recipients {
		m.AddRecipient(ctx, r)
	}
	m.Trace(ctx, []byte(s.trace))
	for data := []byte(s.data); len(data) > 0; {
		n := min(piece, len(data))
		if _, err := m.Write(data[:n]); err != nil {
			t.Error(err)
		}
		data = data[n:]
	}
	status := m.Commit(ctx)
	m.Abort()
	return b.report(status.Reply())
}

func (b *bench) report(status string) string {
	var out strings.Builder
	fmt.Fprintln(&out, status)
	for _, line := range b.log.Lines() {
		fmt.Fprintln(&out, "log", strings.TrimPrefix(line, "postfix/cleanup: "))
	}
	for _, n := range b.bouncer.notices {
		fmt.Fprintln(&out, "report", n)
	}
	for _, d := range b.store.committed {
		e := d.envelope
		fmt.Fprintf(&out, "%s from=<%s> encoding=%d utf8=%t", d.to, e.Sender.External(), e.Encoding, e.SMTPUTF8)
		if e.Filter != "" {
			fmt.Fprintf(&out, " filter=%s", e.Filter)
		}
		if e.Redirect != "" {
			fmt.Fprintf(&out, " redirect=%s", e.Redirect)
		}
		out.WriteByte('\n')
		for _, r := range e.Recipients {
			fmt.Fprintf(&out, "to=<%s> orig=<%s> orcpt=%s notify=%d\n", r.Address.External(), r.Original, r.ORCPT, r.Notify)
		}
		for line := range strings.SplitAfterSeq(d.content.String(), "\n") {
			if line != "" {
				shown := strings.NewReplacer("\r", `\r`, "\x00", `\0`, "\t", `\t`).Replace(strings.TrimSuffix(line, "\n"))
				fmt.Fprintln(&out, strings.TrimRight("| "+shown, " "))
			}
		}
	}
	return out.String()
}

// TestScripts runs testdata/*.txt, blocks of script, "----", expectation,
// "====". -update rewrites what is expected.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var result strings.Builder
			for block := range strings.SplitSeq(strings.TrimSuffix(string(data), "====\n"), "====\n") {
				input, want, _ := strings.Cut(block, "----\n")
				s := parseScript(input)
				got := s.run(t, 1<<20)
				if got != want && !*update {
					t.Errorf("%s\n got\n%s\nwant\n%s", input, got, want)
				}
				for _, piece := range []int{1, 13} {
					if again := s.run(t, piece); again != got {
						t.Errorf("%s\nin pieces of %d\n%s\nas a whole\n%s", input, piece, again, got)
					}
				}
				result.WriteString(input + "----\n" + got + "====\n")
			}
			if *update {
				if err := os.WriteFile(file, []byte(result.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
