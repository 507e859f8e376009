package pipe

import (
	"context"
	"errors"
	"io"
	"os/user"
	"strings"
	"testing"
	"time"

	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

var users = Users{
	User: func(name string) (*user.User, error) {
		ids := map[string]string{"root": "0", "postfix": "100", "www": "2080", "vmail": "2100"}
		if id, ok := ids[name]; ok {
			return &user.User{Username: name, Uid: id, Gid: id}, nil
		}
		return nil, user.UnknownUserError(name)
	},
	Group: func(name string) (*user.Group, error) {
		if name == "mail" {
			return &user.Group{Name: name, Gid: "8"}, nil
		}
		return nil, user.UnknownGroupError(name)
	},
	Owner: "postfix",
}

func parse(t *testing.T, line string) Settings {
	t.Helper()
	s, err := ParseSettings(strings.Fields(line), users)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseSettings(t *testing.T) {
	t.Parallel()
	s, err := ParseSettings([]string{"flags=DORhu", "user=www:mail", "eol=\\r\\n", "null_sender=", "size=300", "directory=/srv", "chroot=/jail", "argv=/bin/x", "{ a b }", "argv=y", "$$"}, users)
	if err != nil {
		t.Fatal(err)
	}
	if s.Flags != "DORhu" || s.Rights != (worker.Rights{UID: 2080, GID: 8, Chroot: "/jail"}) || s.EOL != "\r\n" || s.NullSender != "" || s.SizeLimit != 300 || s.Directory != "/srv" || strings.Join(s.Argv, "|") != "/bin/x|a b|argv=y|$$" {
		t.Errorf("%+v", s)
	}
	for text, want := range map[string]string{
		"argv=x":                           "missing user= command-line attribute",
		"user=www":                         "missing argv= command-line attribute",
		"user=nosuch argv=x":               "get_service_attr: unknown username: nosuch",
		"user=www:nosuch argv=x":           "get_service_attr: unknown group: nosuch",
		"user=root argv=x":                 "user= command-line attribute specifies root privileges",
		"user=postfix argv=x":              "user= command-line attribute specifies mail system owner postfix",
		"flags=RZ user=www argv=x":         "unknown flag: Z (ignored)",
		"color=red user=www argv=x":        "unknown attribute name: color",
		"verbose user=www argv=x":          "unknown attribute name: verbose",
		"size=many user=www argv=x":        "bad size limit: many",
		"user=www argv=x ${nosuch}":        `unknown macro name: "nosuch"`,
		"user=www argv=x ${recipient?y} b": `unknown macro name: "recipient?y"`,
	} {
		if _, err := ParseSettings(strings.Fields(text), users); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if got := unescape(`a\tb\101\7\\\q\`); got != "a\tbA\a\\q\\" {
		t.Errorf("unescape: %q", got)
	}
}

func request(rcpts ...addr.Address) *transport.Request {
	r := &transport.Request{
		ID: "4XYZ", Transport: "svc", Nexthop: "Next.Example", Size: 1234,
		Envelope: &envelope.Envelope{Sender: "a b@Client.example", EnvID: "env", Client: envelope.Client{Name: "c.example", Address: "192.0.2.7", Port: "99", Helo: "helo", Protocol: "ESMTP"},
			Login: envelope.Login{Method: "PLAIN", Username: "u", Sender: "s"}},
		Open: func() io.ReadSeeker { return strings.NewReader("Subject: x\n\nFrom here\n.dot\n") },
	}
	for i, a := range rcpts {
		r.Recipients = append(r.Recipients, transport.Recipient{Recipient: envelope.Recipient{Address: a, Original: addr.Address("Orig-" + a)}, Index: i})
	}
	return r
}

func TestExpand(t *testing.T) {
	t.Parallel()
	two := request("U 1+Ext@Example.com", "u2@b.example")
	for _, c := range []struct{ flags, argv, want string }{
		{"q", "x ${recipient} z", `x|"U 1+Ext"@Example.com|u2@b.example|z`},
		{"", "x $recipient $(user)-$extension", `x|U 1+Ext@Example.com|u2@b.example|U 1-Ext|u2-`},
		{"hu", "x ${recipient} ${original_recipient} ${nexthop}", `x|u 1+ext@example.com|u2@b.example|orig-u 1+ext@example.com|orig-u2@b.example|next.example`},
		{"h", "x ${domain}", `x|example.com|b.example`},
		{"", "x ${mailbox} $$ ${nexthop}", `x|U 1+Ext|u2|$|Next.Example`},
		{"", "x ${sender}", `x|a b@Client.example`},
		{"q", "x ${sender}", `x|"a b"@Client.example`},
		{"", "x ${size}/${queue_id}/${envid} ${client_hostname}[${client_address}]:${client_port} ${client_helo} ${client_protocol} ${sasl_method}${sasl_username}${sasl_sender}",
			"x|1234/4XYZ/env|c.example[192.0.2.7]:99|helo|ESMTP|PLAINus"},
	} {
		s := parse(t, "flags="+c.flags+" user=www argv="+c.argv)
		e := &expansion{s: &s, r: two, ext: addr.Extensions{Delimiters: "+"}}
		got, err := e.argv()
		if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("flags %q %s: %q, %v\nwant %q", c.flags, c.argv, strings.Join(got, "|"), err, c.want)
		}
	}
	null := request("u@x.example")
	null.Envelope = &envelope.Envelope{}
	for text, want := range map[string]string{"user=www": "MAILER-DAEMON", "flags=q null_sender= user=www": "", "flags=q null_sender=<> user=www": `"<>"`} {
		s := parse(t, text+" argv=x ${sender}")
		got, err := (&expansion{s: &s, r: null}).argv()
		if err != nil || got[1] != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$recipient", "${user}x${domain", "$$$(sender)", "{a}", "\x00${nexthop}", "$"} {
		f.Add(s, "a+b@c.example")
	}
	f.Fuzz(func(t *testing.T, arg, rcpt string) {
		s := Settings{Flags: "hqu", Argv: []string{"x", arg}}
		got, err := (&expansion{s: &s, r: request(addr.Address(rcpt), "second@x.example"), ext: addr.Extensions{Delimiters: "+-"}}).argv()
		if err == nil && (len(got) < 2 || len(got) > 3 || got[0] != "x") {
			t.Errorf("%q for %q: %q", arg, rcpt, got)
		}
		if checkMacros(arg) == nil && err != nil && !strings.Contains(arg+rcpt, "\x00") {
			t.Errorf("%q was accepted, but: %v", arg, err)
		}
	})
}

// script is a Host that runs nothing and remembers what it was asked.
type script struct {
	worker.Host
	as    worker.Rights
	job   worker.Command
	input string
	done  worker.Finished
	err   error
}

func (s *script) Run(_ context.Context, as worker.Rights, j worker.Command) (worker.Finished, error) {
	var b strings.Builder
	if err := j.Body(&b); err != nil {
		return worker.Finished{}, err
	}
	s.as, s.job, s.input = as, j, b.String()
	return s.done, s.err
}

func deliver(t *testing.T, h worker.Host, settings string, r *transport.Request) (lines []string, log string, outcomes []transport.Outcome) {
	t.Helper()
	memory := &maillog.Memory{}
	noon := func() time.Time { return time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC) }
	r.Report = func(o transport.Outcome) {
		outcomes = append(outcomes, o)
		lines = append(lines, string(o.Recipient.Address)+" "+o.Relay+" "+o.Status.Enhanced()+" "+o.Status.Text())
	}
	cfg := Config{TimeLimit: time.Minute, Delimiter: "+", KeepOriginal: true, Export: "LANG", Import: "LANG=C", QueueDir: "/var/spool/postfix"}
	New(cfg, parse(t, settings), Deps{Host: h, Log: maillog.New(memory, "postfix/pipe", 1, nil), Now: noon}).Deliver(context.Background(), r)
	return lines, memory.String(), outcomes
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	h := &script{done: worker.Finished{Output: []byte("fine\n")}}
	got, _, outcomes := deliver(t, h, "flags=DORF.>B user=www argv=/bin/x ${recipient}", request("u@x.example"))
	if strings.Join(got, "\n") != "u@x.example svc 2.0.0 delivered via svc service (fine)" || !outcomes[0].Relayed {
		t.Errorf("got %q", got)
	}
	want := "From \"a b\"@Client.example  Thu Mar  5 12:00:00 2026\nReturn-Path: <\"a b\"@Client.example>\nX-Original-To: Orig-u@x.example\nDelivered-To: u@x.example\nSubject: x\n\n>From here\n..dot\n\n"
	if h.input != want || h.as.UID != 2080 || h.job.Dir != "/var/spool/postfix" || strings.Join(h.job.Env, " ") != "PATH=/usr/bin:/bin LANG=C" {
		t.Errorf("input %q as %+v job %+v", h.input, h.as, h.job)
	}
	h = &script{}
	if _, _, outcomes := deliver(t, h, "flags=X user=www argv=/bin/x", request("u@x.example")); outcomes[0].Relayed {
		t.Error("flag X is not final delivery")
	}
	h.done = worker.Finished{Exit: 67, Output: []byte("text\n")}
	got, _, _ = deliver(t, h, "user=www argv=/bin/x", request("u@x.example", "v@x.example"))
	if strings.Join(got, "\n") != "u@x.example svc 5.1.1 user unknown. Command output: text \nv@x.example svc 5.1.1 user unknown. Command output: text " {
		t.Errorf("got %q", got)
	}
	h.done = worker.Finished{StartError: "execvp /bin/x: No such file or directory"}
	got, log, _ := deliver(t, h, "user=www argv=/bin/x", request("u@x.example"))
	if got[0] != "u@x.example svc 4.3.0 temporary failure. Command output: pipe: fatal: pipe_command: execvp /bin/x: No such file or directory " ||
		log != "postfix/pipe: fatal: pipe_command: execvp /bin/x: No such file or directory" {
		t.Errorf("got %q, log %s", got, log)
	}
	h = &script{err: errors.New("worker died")}
	got, _, _ = deliver(t, h, "user=www argv=/bin/x", request("u@x.example"))
	if !strings.HasPrefix(got[0], "u@x.example svc 4.3.0 ") {
		t.Errorf("got %q", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := &script{}
	got, log, _ := deliver(t, h, "flags=D user=www argv=/bin/x", request("u@x.example", "v@x.example"))
	if len(got) != 2 || got[0] != "u@x.example svc 4.3.5 mail system configuration error" || log != "postfix/pipe: warning: pipe flag `D' requires svc_destination_recipient_limit = 1" {
		t.Errorf("got %q, log %s", got, log)
	}
	got, _, _ = deliver(t, h, "size=1000 user=www argv=/bin/x", request("u@x.example"))
	if got[0] != "u@x.example svc 5.2.3 message too large" {
		t.Errorf("got %q", got)
	}
	r := request("u@x.example")
	r.Open = func() io.ReadSeeker { return strings.NewReader("Delivered-To: U@X.example\n\nx\n") }
	got, _, _ = deliver(t, h, "flags=D user=www argv=/bin/x", r)
	if got[0] != "u@x.example svc 5.4.6 mail forwarding loop for u@x.example" {
		t.Errorf("got %q", got)
	}
	r = request("u@x.example")
	r.Envelope.Trace = envelope.TraceVerify
	got, _, _ = deliver(t, h, "user=www argv=/bin/x y", r)
	if got[0] != "u@x.example svc 2.0.0 delivers to command: /bin/x" {
		t.Errorf("got %q", got)
	}
	if h.job.Argv != nil {
		t.Errorf("a command was run: %+v", h.job)
	}
}
