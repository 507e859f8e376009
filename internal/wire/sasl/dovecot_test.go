package sasl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"posthaste/internal/sys/maillog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const greeting = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tEXTERNAL\tprivate\nSPID\t7\nCUID\t1\nCOOKIE\tabc\nDONE\n"

// fake is an auth service that answers the n-th connection with a script: what
// it says at first, and after each line about a request. "#" is its number.
type fake struct {
	greeting string
	answers  []string // "" hangs up, "-" says nothing

	mu    sync.Mutex
	dials int
	lines []string
	open  []net.Conn
	down  bool
}

func (f *fake) dial(context.Context, string, string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	if f.down {
		return nil, &net.OpError{Op: "dial", Err: io.ErrClosedPipe}
	}
	near, far := net.Pipe()
	f.open = append(f.open, far)
	go f.serve(far)
	return near, nil
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	wrote := make(chan struct{})
	go func() { defer close(wrote); io.WriteString(c, f.greeting) }()
	defer func() { <-wrote }()
	in := bufio.NewReader(c)
	for n := 0; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "VERSION\t") || strings.HasPrefix(line, "CPID\t") {
			continue
		}
		f.mu.Lock()
		f.lines = append(f.lines, strings.TrimSuffix(line, "\n"))
		answer := f.answers[min(n, len(f.answers)-1)]
		f.mu.Unlock()
		n++
		id := strings.Split(strings.TrimSpace(line), "\t")[1]
		switch answer {
		case "":
			return
		case "-":
			continue
		}
		if _, err := io.WriteString(c, strings.ReplaceAll(answer, "#", id)); err != nil {
			return
		}
	}
}

// restart closes all connections, as a server that is restarted does.
func (f *fake) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.open {
		c.Close()
	}
	f.open = nil
}

func newFake(f *fake) (*Dovecot, *maillog.Memory) {
	if f.greeting == "" {
		f.greeting = greeting
	}
	log := &maillog.Memory{}
	d := NewDovecot("private/auth", "/queue", maillog.New(log, "t", 1, nil))
	d.dial = f.dial
	return d, log
}

var plain = Request{Mechanism: "PLAIN", Initial: "AGEAYg==", HasInitial: true, Service: "smtp", Peer: Peer{
	ServerAddress: "192.0.2.1", ServerPort: "25", ClientAddress: "192.0.2.9", ClientPort: "4711", Encrypted: true, Certified: true,
}}

func TestDovecotAddresses(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"private/auth": "unix /queue/private/auth", "unix:private/auth": "unix /queue/private/auth",
		"/run/auth": "unix /run/auth", "inet:localhost:12345": "tcp localhost:12345", "inet:[::1]:12345": "tcp [::1]:12345",
	} {
		if d := NewDovecot(path, "/queue", nil); d.network+" "+d.address != want {
			t.Errorf("%s: %s %s", path, d.network, d.address)
		}
	}
}

func TestDovecotConversation(t *testing.T) {
	t.Parallel()
	f := &fake{answers: []string{"NOTFIND\tx\nOK\t99\tuser=eve\nCONT\t#\tVXNlcm5hbWU6\n", "CONT\t#\tUGFzc3dvcmQ6\n", "OK\t#\tuser=al\x01tice\tresp=x\n", "FAIL\t#\tuser=bob\treason=too late\n", "OK\t#\tuser=carol\n"}}
	d, log := newFake(f)
	defer d.Close()
	mechanisms, err := d.Mechanisms(t.Context())
	if err != nil || fmt.Sprint(mechanisms) != "[{PLAIN 2} {LOGIN 2} {EXTERNAL 64}]" {
		t.Fatalf("%v %v", mechanisms, err)
	}
	login := plain
	login.Mechanism, login.HasInitial, login.Peer = "LOGIN", false, Peer{}
	talk, step := d.Begin(t.Context(), login)
	if step != (Step{Outcome: More, Challenge: "VXNlcm5hbWU6"}) {
		t.Fatalf("%+v", step)
	}
	if step = talk.Next(t.Context(), "YWxpY2U="); step.Challenge != "UGFzc3dvcmQ6" {
		t.Fatalf("%+v", step)
	}
	if step = talk.Next(t.Context(), "c2VjcmV0"); step != (Step{Outcome: Done, Username: "al?ice"}) {
		t.Fatalf("%+v", step)
	}
	if _, step = d.Begin(t.Context(), plain); step != (Step{Outcome: Failed, Username: "bob", Reason: "too late"}) {
		t.Fatalf("%+v", step)
	}
	if _, step = d.Begin(t.Context(), plain); step.Username != "carol" {
		t.Fatalf("%+v", step)
	}
	want := []string{
		"AUTH\t1\tLOGIN\tservice=smtp\tnologin", "CONT\t1\tYWxpY2U=", "CONT\t1\tc2VjcmV0",
		"AUTH\t2\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.9\tlport=25\trport=4711\tsecured\tvalid-client-cert\tresp=AGEAYg==",
		"AUTH\t3\tPLAIN\tservice=smtp\tnologin\tlip=192.0.2.1\trip=192.0.2.9\tlport=25\trport=4711\tsecured\tvalid-client-cert\tresp=AGEAYg==",
	}
	if got := strings.Join(f.lines, "\n"); got != strings.Join(want, "\n") || f.dials != 1 || log.String() != "" {
		t.Errorf("%d dials, said\n%s\nlog %s", f.dials, got, log)
	}
}

func TestDovecotIsBroken(t *testing.T) {
	t.Parallel()
	const head = "VERSION\t1\t1\nMECH\tPLAIN\nDONE\n"
	for name, f := range map[string]*fake{
		"hangs up":                   {answers: []string{""}},
		"no user":                    {answers: []string{"OK\t#\tresp=x\n"}},
		"empty user":                 {answers: []string{"OK\t#\tuser=\n"}},
		"challenge of something":     {answers: []string{"CONT\t#\t334 x\r250 y\n"}},
		"endless line":               {answers: []string{strings.Repeat("x", 2*maxLine)}},
		"about others":               {answers: []string{strings.Repeat("OK\t77\tuser=eve\n", maxStray+1)}},
		"wrong version":              {greeting: "VERSION\t2\t0\nMECH\tPLAIN\nDONE\n", answers: []string{"-"}},
		"no version":                 {greeting: "MECH\tPLAIN\nDONE\n", answers: []string{"-"}},
		"not a server of this kind":  {greeting: strings.Repeat("* OK IMAP ready\r\n", maxHandshake), answers: []string{"-"}},
		"endless greeting":           {greeting: strings.Repeat("x", 2*maxLine), answers: []string{"-"}},
		"silent":                     {answers: []string{"-"}},
		"silent from the beginning":  {greeting: "VERSION\t1\t1\n", answers: []string{"-"}},
		"half a line":                {answers: []string{"OK\t#\tuser=alice"}},
		"not there":                  {greeting: head, down: true, answers: []string{"-"}},
		"temporary failure":          {answers: []string{"FAIL\t#\tuser=a\ttemp\n"}},
		"temporary failure, new way": {answers: []string{"FAIL\t#\tcode=temp_fail\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, _ := newFake(f)
				began := time.Now()
				talk, step := d.Begin(t.Context(), plain)
				if talk != nil || step.Outcome != Temporary {
					t.Errorf("%+v", step)
				}
				if took := time.Since(began); took > exchangeTimeout+time.Second {
					t.Errorf("took %v", took)
				}
				d.Close()
				f.restart()
				synctest.Wait()
			})
		})
	}
}

func TestDovecotIsRestarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answers: []string{"OK\t#\tuser=alice\n"}}
		d, _ := newFake(f)
		for range 3 {
			if _, step := d.Begin(t.Context(), plain); step.Outcome != Done {
				t.Errorf("%+v", step)
			}
			f.restart()
			synctest.Wait()
		}
		if f.dials != 3 {
			t.Errorf("%d dials", f.dials)
		}
		f.down = true
		if _, step := d.Begin(t.Context(), plain); step != (Step{Outcome: Temporary, Reason: reasonConnect}) {
			t.Errorf("%+v", step)
		}
		if _, err := d.Mechanisms(t.Context()); err == nil {
			t.Error("mechanisms of nobody")
		}
		d.Close()
	})
}

// A conversation that is given up or cut off leaves no connection behind that
// would answer the next one.
func TestDovecotConversationIsGivenUp(t *testing.T) {
	t.Parallel()
	f := &fake{answers: []string{"CONT\t#\t\n", "-"}}
	d, _ := newFake(f)
	talk, step := d.Begin(t.Context(), plain)
	if step.Outcome != More {
		t.Fatalf("%+v", step)
	}
	talk.Close()
	if step := talk.Next(t.Context(), "x"); step.Outcome != Temporary {
		t.Errorf("%+v", step)
	}
	talk, _ = d.Begin(t.Context(), plain)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if step := talk.Next(ctx, "x"); step.Outcome != Temporary {
		t.Errorf("%+v", step)
	}
	if f.dials != 2 || len(d.idle) != 0 {
		t.Errorf("%d dials, %d idle", f.dials, len(d.idle))
	}
	d.Close()
}

func TestDeadConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, talks := range []bool{false, true} {
		near, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !alive(near) {
			t.Error("dead at once")
		}
		if talks {
			io.WriteString(far, "x")
		} else {
			far.Close()
		}
		if alive(near) {
			t.Errorf("alive when the server talks %v", talks)
		}
		near.Close()
		far.Close()
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options string
		m       Property
		want    bool
	}{
		{"", Anonymous, true}, {"noanonymous", Anonymous, false}, {"noanonymous, noplaintext", Plaintext, false},
		{"noactive,nodictionary", Plaintext, true}, {"noactive", Active, false}, {"NODICTIONARY", Dictionary | MutualAuth, false},
		{"mutual_auth", 0, false}, {"mutual_auth", MutualAuth, true}, {"forward_secrecy", MutualAuth, false},
		{"forward_secrecy mutual_auth", MutualAuth | ForwardSecrecy, true}, {"", Private, false},
	} {
		o, err := ParseOptions(c.options)
		if got := o.Allow(Mechanism{Name: "X", Properties: c.m}); err != nil || got != c.want {
			t.Errorf("%q allows %b: %v %v", c.options, c.m, got, err)
		}
	}
	if _, err := ParseOptions("noanonymous bogus"); err == nil || err.Error() != `unknown xsasl_dovecot_server_create value "bogus" in "noanonymous bogus"` {
		t.Error(err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{"OK\t1\tuser=a", "CONT\t1\tabc=", "FAIL\t1\tuser=x\treason=\x01t", "FAIL\t1", "OK\t2\tuser=x", "\t\t\t", "CONT\t1\t\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		step, ok, err := parseAnswer(line, "1")
		switch {
		case ok && err != nil, err != nil && step.Outcome == Done && step.Username != "":
			t.Errorf("%+v %v", step, err)
		case ok && step.Outcome == Done && step.Username == "":
			t.Error("nobody is logged in")
		case ok && !ValidBase64(step.Challenge), strings.ContainsAny(step.Username+step.Reason, "\r\n\x00"):
			t.Errorf("%+v", step)
		case ok && step.Outcome == Done && !strings.HasPrefix(line, "OK\t1\t"):
			t.Errorf("%q logs in %+v", line, step)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add(greeting)
	f.Add("VERSION\t1\t1\nMECH\t\nMECH\ta b\nMECH\tX\r\nDONE\n")
	f.Fuzz(func(t *testing.T, text string) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() { io.Copy(io.Discard, far); close(done) }()
		go func() { io.WriteString(far, text); far.Close() }()
		c := &dovecotConn{Conn: near, in: bufio.NewReaderSize(near, maxLine)}
		err := c.shakeHands()
		near.Close()
		<-done
		for _, m := range c.mechanisms {
			if err == nil && (m.Name == "" || strings.ContainsAny(m.Name, " \r\n\t")) {
				t.Errorf("%q", m.Name)
			}
		}
	})
}
