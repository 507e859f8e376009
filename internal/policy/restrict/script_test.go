package restrict

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/config/maincf"
	"posthaste/internal/mail/addr"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/all"
)

var update = flag.Bool("update", false, "rewrite the expected output of testdata scripts")

// script runs the blocks of a file: lines, "----" and what they print, with
// what was logged in between.
//
//	set PARAMETER = VALUE
//	file NAME LINE              adds a line to a file of $config_directory
//	zone RECORD
//	answer RECIPIENT ACTION     of the policy server unix:policy
//	verify ADDRESS STATE TEXT   what verify(8) knows
//	connect ADDRESS [NAME [REVERSE]]
//	helo|ehlo NAME, mail <A>, rcpt <A>, vrfy A, data, end, etrn NAME, rset
//	login USER, tls, pipelining, explain
type script struct {
	t        *testing.T
	settings map[string]string
	dir      string
	zone     string
	mu       sync.Mutex
	answers  map[string]string // under mu
	verified map[addr.Address]Verification
	sink     *maillog.Memory
	seen     int
	checker  *Checker
	view     View
	out      strings.Builder
}

func (s *script) run(block string) string {
	s.out.Reset()
	for line := range strings.SplitSeq(strings.TrimSpace(block), "\n") {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !s.prepare(verb, rest) && !s.session(verb, rest) && verb != "#" {
			s.t.Errorf("bad line %q", line)
		}
		for _, text := range s.sink.Lines()[s.seen:] {
			s.out.WriteString(strings.TrimPrefix(text, "postfix/smtpd: ") + "\n")
			s.seen++
		}
	}
	return strings.TrimSpace(s.out.String())
}

// prepare changes the configuration and the world; a new checker is made when
// it is needed.
func (s *script) prepare(verb, rest string) bool {
	first, other, _ := strings.Cut(rest, " ")
	switch verb {
	case "set":
		name, value, _ := strings.Cut(rest, "=")
		s.settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
	case "file":
		f, err := os.OpenFile(filepath.Join(s.dir, first), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintln(f, other)
		f.Close()
	case "zone":
		s.zone += rest + "\n"
	case "answer":
		s.mu.Lock()
		s.answers[first] = other
		s.mu.Unlock()
	case "verify":
		state, text, _ := strings.Cut(other, " ")
		states := map[string]VerificationState{"pending": VerifyPending, "ok": VerifyOK, "deferred": VerifyDeferred, "bounced": VerifyBounced}
		s.verified[addr.Address(first)] = Verification{states[state], text}
	default:
		return false
	}
	s.checker = nil
	return true
}

func (s *script) session(verb, rest string) bool {
	ctx := s.t.Context()
	if s.checker == nil && verb != "#" {
		s.configure()
		if s.checker == nil {
			return true
		}
	}
	v := &s.view
	a := addr.Address(strings.TrimSuffix(strings.TrimPrefix(rest, "<"), ">"))
	switch verb {
	case "connect":
		s.connect(strings.Fields(rest))
		s.say(s.checker.Client(ctx, v))
	case "helo", "ehlo":
		v.NewGreeting()
		v.Helo, v.HeloVerb = rest, strings.ToUpper(verb)
		s.say(s.checker.Helo(ctx, v))
	case "mail":
		v.NewTransaction()
		v.Sender, v.HasSender = a, true
		s.say(s.checker.Mail(ctx, v))
	case "rcpt", "vrfy":
		s.recipient(verb, a)
	case "data":
		s.say(s.checker.Data(ctx, v))
	case "end":
		s.say(s.checker.EndOfData(ctx, v))
	case "etrn":
		v.ETRN = rest
		s.say(s.checker.Etrn(ctx, v))
	case "rset":
		v.NewTransaction()
	case "login":
		v.SASLUsername, v.SASLMethod = rest, "PLAIN"
	case "tls":
		v.TLS = TLS{Active: true, HasCertificate: true, Trusted: true, Fingerprint: rest, PubkeyFingerprint: "key-" + rest}
	case "pipelining":
		v.IllegalPipelining = true
	case "explain":
		v.Explain = true
	default:
		return false
	}
	return true
}

// recipient keeps the first accepted recipient, as smtpd does.
func (s *script) recipient(verb string, a addr.Address) {
	v := &s.view
	was, had := v.Recipient, v.HasRecipient
	v.Recipient, v.HasRecipient = a, true
	var verdict Verdict
	if verb == "vrfy" {
		verdict = s.checker.Vrfy(s.t.Context(), v)
	} else {
		verdict = s.checker.Rcpt(s.t.Context(), v)
	}
	if !verdict.Refused() && verb == "rcpt" {
		v.RecipientCount++
	}
	if had || verdict.Refused() || verb == "vrfy" {
		v.Recipient, v.HasRecipient = was, had
	}
	s.say(verdict)
	if !verdict.Refused() {
		s.out.WriteString("ok <" + string(a) + ">\n")
	}
	if a := v.Actions; a.Filter != "" || a.Redirect != "" || len(a.BCC)+len(a.Prepend) > 0 || a.Hold || a.Discard {
		fmt.Fprintf(&s.out, "actions %+v\n", a)
	}
}

func (s *script) say(verdict Verdict) {
	for _, step := range verdict.Trace {
		fmt.Fprintf(&s.out, "%s%s[%d] %s: %s\n", strings.Repeat("  ", step.Depth+1), step.Item.Param, step.Item.Index, step.Item.Text, step.Result)
	}
	switch {
	case verdict.Hangup:
		s.out.WriteString("hangup\n")
	case verdict.Refused():
		trouble := ""
		if verdict.Status.Cause() != nil {
			trouble = " (trouble)"
		}
		fmt.Fprintf(&s.out, "%s%s\n", verdict.Status.Reply(), trouble)
	}
	if s.view.Explain && verdict.By.Text != "" {
		fmt.Fprintf(&s.out, "by %s:%d %s %q\n", filepath.Base(verdict.By.File), verdict.By.Line, verdict.By.Param, verdict.By.Text)
	}
}

func (s *script) connect(f []string) {
	c := Client{Name: "unknown", NameStatus: NamePerm, ReverseName: "unknown", ReverseStatus: NamePerm, Address: f[0], Port: "40000"}
	if len(f) > 1 && f[1] != "unknown" {
		c.Name, c.NameStatus, c.ReverseName, c.ReverseStatus = f[1], NameOK, f[1], NameOK
	}
	if len(f) > 2 {
		c.ReverseName, c.ReverseStatus = f[2], NameOK
		if f[2] == "tempfail" {
			c.ReverseName, c.NameStatus, c.ReverseStatus = "unknown", NameTemp, NameTemp
		}
	}
	s.view = View{Client: c, ServerAddress: "192.0.2.1", ServerPort: "25", Protocol: "SMTP", Explain: s.view.Explain}
}

// configure makes a checker from main.cf's defaults and the settings.
func (s *script) configure() {
	var over []maincf.Setting
	line := 1
	for name, value := range s.settings {
		over = append(over, maincf.Setting{Name: name, Value: strings.ReplaceAll(value, "$TABLES", s.dir), Line: line})
	}
	view := config.Assemble(config.Parts{Dir: s.dir, Over: over, System: config.System{
		Hostname:   func() (string, error) { return "mail.example.com", nil },
		Interfaces: func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, nil },
	}}).Main()
	var cfg Config
	var routing route.Config
	for _, dst := range []any{&cfg, &routing} {
		if err := view.Fill(dst); err != nil {
			s.t.Fatal(err)
		}
	}
	cfg.Policy.QueueDir = s.dir
	log := maillog.New(s.sink, "postfix/smtpd", 0, nil)
	tables := table.NewOpener(table.Setup{Log: log, Types: all.Types(), UTF8: true})
	own := func(ip netip.Addr) bool { return ip == netip.MustParseAddr("192.0.2.1") }
	resolver, lists := route.Open(routing, tables, own)
	checker, err := New(cfg, Setup{
		Log: log, Tables: tables, Route: resolver, DNS: dnstest.Parse(s.zone), Own: own, Verifier: s,
		Parameter: func(name string) (string, bool) {
			value, err := view.String(name)
			return value, err == nil && view.Explicit(name)
		},
		Position: func(param string) (string, int) {
			if view.Explicit(param) {
				return "/etc/postfix/main.cf", 7
			}
			return "", 0
		},
		Now: func() time.Time { return time.Unix(0, 0).UTC() },
	})
	s.t.Cleanup(func() { lists.Close() })
	if err != nil {
		fmt.Fprintf(&s.out, "fatal: %v\n", err)
		return
	}
	s.t.Cleanup(func() { checker.Close() })
	s.checker = checker
}

// Query implements Verifier.
func (s *script) Query(_ context.Context, a addr.Address) (Verification, error) {
	v, ok := s.verified[a]
	if !ok {
		return v, fmt.Errorf("no verification of <%s> in the script", a)
	}
	return v, nil
}

// servePolicy answers at unix:policy, and hangs up where there is no answer.
func (s *script) servePolicy(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for {
				attributes := map[string]string{}
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
					if !ok {
						break
					}
					attributes[name] = value
				}
				user, _, _ := strings.Cut(attributes["recipient"], "@")
				s.mu.Lock()
				action, ok := s.answers[user]
				s.mu.Unlock()
				if !ok {
					return
				}
				io.WriteString(conn, "action="+action+"\n\n")
			}
		}()
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			runFile(t, file)
		})
	}
}

func runFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, settings: map[string]string{"compatibility_level": "3.11"}, dir: t.TempDir(), answers: map[string]string{},
		verified: map[addr.Address]Verification{}, sink: &maillog.Memory{}}
	l, err := net.Listen("unix", filepath.Join(s.dir, "policy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.servePolicy(l)
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		commands, want, _ := strings.Cut(block, "\n----")
		got := strings.ReplaceAll(s.run(commands), s.dir, "$TABLES")
		if want = strings.TrimSpace(want); got != want && !*update {
			t.Errorf("block %d:\n%s\ngot:\n%s\nwant:\n%s", i+1, commands, got, want)
		}
		if i > 0 {
			out.WriteString("\n\n")
		}
		out.WriteString(strings.TrimSpace(commands))
		if got != "" {
			out.WriteString("\n----\n" + got)
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
