package policyd

import (
	"context"
	"os"
	"strings"
	"testing"

	"posthaste/internal/sys/dns/dnstest"
	"posthaste/internal/sys/maillog"
)

// play feeds the requests of a recording to a daemon and compares answers and
// log lines with the recorded ones. A recording has sections: "== zone" in the
// format of dnstest, configuration, and "== requests" for a fresh daemon with
// requests, each with its answer behind "< " and log lines behind "| ".
func play(t *testing.T, file string, start func(Setup, map[string]string) Handler) int {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	count, sections := 0, map[string]string{}
	for _, section := range strings.Split("\n"+string(data), "\n== ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		sections[name] = body
		if name != "requests" {
			continue
		}
		sink := &maillog.Memory{}
		setup := Setup{DNS: zone(t, sections["zone"]), Host: "mail.example.com"}
		tag := map[string]string{"plain.txt": "postfix/policy-spf", "configured.txt": "policyd-spf"}[file]
		setup.Log = maillog.New(sink, tag, 0, nil)
		h := start(setup, sections)
		for _, entry := range strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n") {
			count++
			request, recorded, _ := strings.Cut("\n"+entry, "\n< ")
			var out strings.Builder
			if err := Serve(context.Background(), strings.NewReader(strings.TrimPrefix(request, "\n")+"\n\n"), &out, h); err != nil {
				t.Fatal(err)
			}
			got := strings.TrimSuffix(out.String(), "\n\n")
			for _, line := range strings.Split(sink.String(), "\n") {
				if line != "" {
					got += "\n| " + line
				}
			}
			*sink = maillog.Memory{}
			if got != strings.TrimSuffix(recorded, "\n") {
				t.Errorf("%s, %s%s\ngives\n%s\nwant\n%s", file, sections["config"], request, got, recorded)
			}
		}
	}
	return count
}

// zone reads zone data, with addresses reversed in PTR records undone.
func zone(t *testing.T, text string) *dnstest.Zone {
	t.Helper()
	return dnstest.Parse(strings.ReplaceAll(text, "9.100.51.198.in-addr.arpa", "198.51.100.9"))
}

// TestPlain compares with postfix-policyd-spf-perl 2.011.
func TestPlain(t *testing.T) {
	t.Parallel()
	n := play(t, "plain.txt", func(s Setup, sections map[string]string) Handler {
		exempt, bad := ParseExempt(sections["domains"], sections["addresses"])
		if len(bad) > 0 {
			t.Errorf("bad: %q", bad)
		}
		return Plain(s, exempt)
	})
	if n < 60 {
		t.Errorf("only %d requests", n)
	}
}

// TestConfigured compares with policyd-spf 3.0.4.
func TestConfigured(t *testing.T) {
	t.Parallel()
	n := play(t, "configured.txt", func(s Setup, sections map[string]string) Handler {
		c, err := ReadConfig(sections["config"], "/etc/policyd.conf", s.Host, s.Log)
		if err != nil {
			t.Fatal(err)
		}
		return Configured(s, c)
	})
	if n < 130 {
		t.Errorf("only %d requests", n)
	}
}

// ask sends one request, "name=value" words, and returns the answer.
func ask(t *testing.T, h Handler, words string) string {
	t.Helper()
	var out strings.Builder
	if err := Serve(context.Background(), strings.NewReader(strings.ReplaceAll(words, " ", "\n")+"\n\n"), &out, h); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

const small = "down.example SERVFAIL\nfail.example TXT v=spf1 -all exp=why.example\nwhy.example TXT a%0aaction=OK\npass.example TXT v=spf1 +all\n"

func TestTempError(t *testing.T) {
	t.Parallel()
	c, err := ReadConfig("TempError_Defer = True\n", "x", "mail.example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := Configured(Setup{DNS: dnstest.Parse(small), Host: "mail.example.com"}, c)
	want := "action=defer_if_permit 4.7.24 Message deferred due to: SPF Temporary Error: 'SERVFAIL' error on DNS 'TXT' lookup of 'down.example'. " +
		"Please see http://www.openspf.net/Why?s=mfrom;id=a@down.example;ip=198.51.100.7;r=none"
	if got := ask(t, h, "client_address=198.51.100.7 helo_name=x.example sender=a@down.example"); got != want {
		t.Errorf("%s", got)
	}
}

func TestPerUser(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/users"
	if err := os.WriteFile(file, []byte("# comment\nalice@example.com,Mail_From_reject=False|Header_Type=AR|Lookup_Time=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig("Per_User = text,"+file+"\nAuthserv_Id = HOSTNAME", "x", "mail.example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := Configured(Setup{DNS: dnstest.Parse(small), Host: "mail.example.com"}, c)
	const request = "client_address=198.51.100.7 helo_name=x.example sender=a@fail.example instance=1 recipient="
	if got := ask(t, h, request+"Alice@example.com"); !strings.HasPrefix(got, "action=prepend Authentication-Results: mail.example.com; spf=fail ") {
		t.Error(got)
	}
	if got := ask(t, h, request+"bob@example.com"); !strings.HasPrefix(got, "action=550 5.7.23 ") {
		t.Error(got)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	if _, err := ReadConfig("debugLevel = much", "x", "", nil); err == nil {
		t.Error("no error")
	}
	sink := &maillog.Memory{}
	c, err := ReadConfig("a = b = c\nUMask = 7\ndefaultSeedOnly = 0\nMock = False\nHeader_Type\n", "file", "", maillog.New(sink, "policyd-spf", 0, nil))
	if err != nil || c.IsReal || c.Mock || c.Header != "SPF" {
		t.Errorf("%+v %v", c, err)
	}
	if log := sink.String(); log != "policyd-spf: ERROR parsing line \"a = b = c\" from file \"file\"" {
		t.Error(log)
	}
}

func TestOneAnswerForOneRequest(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]Handler{
		"plain":      Plain(Setup{DNS: dnstest.Parse(small), Host: "h"}, Exempt{}),
		"configured": Configured(Setup{DNS: dnstest.Parse(small), Host: "h"}, DefaultConfig("h")),
	} {
		var out strings.Builder
		in := "client_address=198.51.100.7\nhelo_name=fail.example\nsender=" + strings.Repeat("x", 3*maxLine) + "\n\nclient_address=1\nhalf a request"
		if err := Serve(context.Background(), strings.NewReader(in), &out, h); err != nil || strings.Count(out.String(), "\n") != 2 {
			t.Errorf("%s: %q %v", name, out.String(), err)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var m memory[int]
	*m.of("first") = 1
	for i := range 3 * maxInstance {
		m.of(strings.Repeat("x", i+1))
	}
	if len(m.known) > maxInstance || len(m.order) > maxInstance || *m.of("first") != 0 {
		t.Errorf("%d messages, %d in order", len(m.known), len(m.order))
	}
}

func FuzzServe(f *testing.F) {
	f.Add("client_address=198.51.100.7\nhelo_name=fail.example\nsender=a@b@c\ninstance=1\n\nsender=\n\n")
	f.Add("client_address=::1\n\n\n\x00=\r\n\n")
	f.Add("client_address=fe80::1%eth0\nsender=@\nhelo_name=[::1]\nrecipient=@@\n\n")
	f.Fuzz(func(t *testing.T, in string) {
		for _, h := range []Handler{
			Plain(Setup{DNS: dnstest.Parse(small), Host: "h"}, Exempt{}),
			Configured(Setup{DNS: dnstest.Parse(small), Host: "h"}, DefaultConfig("h")),
		} {
			var out strings.Builder
			if err := Serve(context.Background(), strings.NewReader(in), &out, h); err != nil {
				t.Fatal(err)
			}
			for _, answer := range strings.SplitAfter(out.String(), "\n\n") {
				if answer != "" && (!strings.HasPrefix(answer, "action=") || strings.Count(answer, "\n") != 2) {
					t.Errorf("%q is answered %q", in, answer)
				}
			}
		}
	})
}
