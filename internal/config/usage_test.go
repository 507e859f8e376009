package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/config"
	"posthaste/internal/config/maincf"
	"posthaste/internal/config/params"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := write(t, `myhostname = mail.example.com
smptd_sender_restrictions = reject
smtpd_restriction_classes = strict
strict = reject
helper = $other
other = 1
nobody = $missing
virtual_alias_maps = mysql:users, proxy:ldap:people
users_query = select
users_quary = select
people_server_host = x
smtpd_use_tls = yes
process_id = 7
relay_domains = a # b
`, "smtp inet n - n - - smtpd -o smtpd_baner=x -o strict=permit -o local_name=1 -o smtpd_banner=$local_name\n")
	s, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := config.Check(s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, strings.ReplaceAll(w.String(), dir+"/", ""))
	}
	want := []string{
		"main.cf: #comment after other text is not allowed: # b...",
		"main.cf: undefined parameter: missing",
		"main.cf: unused parameter: smptd_sender_restrictions=reject (line 2); did you mean smtpd_sender_restrictions?",
		"main.cf: unused parameter: helper=$other (line 5)",
		"main.cf: unused parameter: nobody=$missing (line 7)",
		"main.cf: unused parameter: users_quary=select (line 10)",
		"main.cf: support for parameter \"smtpd_use_tls\" will be removed; instead, specify \"smtpd_tls_security_level\" (line 12)",
		"main.cf: read-only parameter assignment: process_id=7 (line 13)",
		"master.cf: unused parameter: smtpd_baner=x (line 1); did you mean smtpd_banner?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCheckTableFiles(t *testing.T) {
	t.Parallel()
	dir := write(t, "", "")
	table := dir + "/main.cf.table"
	if err := maincf.Rewrite(dir+"/main.cf", func([]byte) ([]byte, error) {
		return []byte("myhostname = a.b\nalias_maps = ldap:" + table + ", pgsql:" + dir + "/none, ldap:" + dir + "\n"), nil
	}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, table, "server_host = x\nserver_hoost = y\n")
	s, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := config.Check(s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, strings.ReplaceAll(w.Text, dir, "D"))
	}
	want := []string{
		`open "ldap" configuration "D": not a regular file`,
		"ldap:D/main.cf.table: unused parameter: server_hoost=y",
		`open "pgsql" configuration "D/none": No such file or directory`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLoadErrors has what Postfix's programs say, and the place.
func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ setting, err, warning string }{
		{"myhostname = a b c", "file D/main.cf: parameter myhostname: bad parameter value: a b c", "valid_hostname: invalid character 32(decimal): a b c"},
		{"myhostname = -a.b", "file D/main.cf: parameter myhostname: bad parameter value: -a.b", "valid_hostname: misplaced hyphen: -a.b"},
		{"myhostname = 1.2", "file D/main.cf: parameter myhostname: bad parameter value: 1.2", "valid_hostname: numeric hostname: 1.2"},
		{"mydomain = a..b", "file D/main.cf: parameter mydomain: bad parameter value: a..b", "valid_hostname: misplaced delimiter: a..b"},
		{"myhostname =", "bad string length 0 < 1: myhostname = ", ""},
		{"compatibility_level = x", `malformed compatibility level syntax: "x"`, ""},
		{"compatibility_level = ${", "dictionary mail_dict: macro processing error", `truncated macro reference: "${"`},
	} {
		main := test.setting + "\n"
		if !strings.HasPrefix(main, "myhostname") {
			main += "myhostname = ok.example\n"
		}
		dir := write(t, "# comment\n"+main, "")
		_, err := config.Load(dir)
		var bad *config.ParamError
		if !errors.As(err, &bad) || strings.ReplaceAll(bad.Error(), dir, "D") != test.err ||
			strings.Join(bad.Warnings, "\n") != test.warning || bad.Line != 2 || bad.Param == "" {
			t.Errorf("%s: got %+v", test.setting, err)
		}
	}
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ setting, err string }{
		{"max_use = 0", "invalid max_use parameter value 0 < 1"},
		{"max_use = x", "bad numerical configuration: max_use = x"},
		{"max_use = 5x", "bad numerical configuration: max_use = 5x"},
		{"max_use = 99999999999", "bad numerical configuration: max_use = 99999999999"},
		{"max_idle = 0", "invalid max_idle: 0 (min 1)"},
		{"max_idle = 1y", "parameter max_idle: bad time value or unit: 1y"},
		{"max_idle = 3M", "parameter max_idle: bad time value or unit: 3M"},
		{"max_idle =", "parameter max_idle: bad time value or unit: "},
		{"max_idle = -3", "parameter max_idle: bad time value or unit: -3"},
		{"max_idle = 99999999999", "parameter max_idle: bad time value or unit: 99999999999"},
		{"in_flow_delay = 20", "invalid in_flow_delay: 20 (max 10)"},
		{"soft_bounce = maybe", "bad boolean configuration: soft_bounce = maybe"},
		{"myorigin =", "bad string length 0 < 1: myorigin = "},
		{"mynetworks_style = foo", `unknown mynetworks mask style value "foo" in "foo"`},
		{"inet_interfaces = nohost.invalid", "config variable inet_interfaces: host not found: nohost.invalid"},
	} {
		main, err := maincf.Read(strings.NewReader(test.setting), "main.cf")
		if err != nil {
			t.Fatal(err)
		}
		system := host()
		system.Resolve = noResolve
		s := config.Assemble(config.Parts{Dir: "/etc/postfix", Main: main, System: system})
		var all struct {
			Use      int    `param:"max_use"`
			Idle     string `param:"max_idle,raw"`
			Soft     bool   `param:"soft_bounce"`
			Origin   string `param:"myorigin"`
			Networks string `param:"mynetworks"`
		}
		err = s.Main().Fill(&all)
		if err == nil {
			_, err = s.Main().Duration("max_idle")
		}
		if err == nil {
			_, err = s.Main().Duration("in_flow_delay")
		}
		var bad *config.ParamError
		if !errors.As(err, &bad) || bad.Error() != test.err || bad.Line != 1 || !strings.HasPrefix(bad.At(), "main.cf, line 1: parameter ") {
			t.Errorf("%s: got %#v", test.setting, err)
		}
	}
}

// TestDefaultsHaveTheirKind evaluates every default, without and with stress,
// at the oldest and the newest compatibility level.
func TestDefaultsHaveTheirKind(t *testing.T) {
	t.Parallel()
	for _, over := range [][]maincf.Setting{nil, {{Name: "stress", Value: "yes"}, {Name: "compatibility_level", Value: "3.11"}}} {
		s := config.Assemble(config.Parts{Dir: "/etc/postfix", Over: over, System: host()})
		for _, name := range s.Catalogue().Names() {
			p, _ := s.Param(name)
			var err error
			switch p.Kind {
			case params.Int:
				_, err = s.Main().Int(name)
			case params.Long:
				_, err = s.Main().Int64(name)
			case params.Bool:
				_, err = s.Main().Bool(name)
			case params.Time:
				_, err = s.Main().Duration(name)
			case params.String:
				_, err = s.Main().String(name)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ settings, want string }{
		{"", "127.0.0.1/8 192.0.2.1/24 192.0.2.2/24 ::1/128 2001:db8:1::1/64 fe80::1/64"},
		{"inet_interfaces = loopback-only", "127.0.0.1/8 ::1/128"},
		{"inet_interfaces = 192.0.2.2, [::1]", "192.0.2.2/24 ::1/128"},
		{"inet_protocols = ipv4", "127.0.0.1/8 192.0.2.1/24 192.0.2.2/24"},
	} {
		main, err := maincf.Read(strings.NewReader(test.settings), "main.cf")
		if err != nil {
			t.Fatal(err)
		}
		list, err := config.Assemble(config.Parts{Main: main, System: host()}).Main().Interfaces()
		var got []string
		for _, p := range list {
			got = append(got, p.String())
		}
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %v, %v", test.settings, got, err)
		}
	}
}

func TestServiceView(t *testing.T) {
	t.Parallel()
	dir := write(t, "myhostname = main.example\nsyslog_name = mta/$service_name\n",
		"a unix - - n - - smtp -o myhostname=other.example\nb unix - - n - - smtp -o myhostname=a_b..c\nc unix - - n - - smtp -o bad\n")
	s, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Service(s.Services()[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"myorigin": "other.example", "mydomain": "example", "syslog_name": "mta/a", "process_name": "smtp"} {
		if got, err := v.String(name); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if got, _ := s.Main().String("syslog_name"); got != "mta/amnesiac" {
		t.Errorf("got %s", got)
	}
	for i, want := range []string{"parameter myhostname: bad parameter value: a_b..c", `invalid "-o bad" option value: missing '=' after attribute name`} {
		if _, err := s.Service(s.Services()[i+1]); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFillMistakes(t *testing.T) {
	t.Parallel()
	v := config.Assemble(config.Parts{System: host()}).Main()
	for _, dst := range []any{
		&struct {
			A string `param:"no_such_parameter"`
		}{},
		&struct {
			A complex64 `param:"mail_name"`
		}{},
		struct{}{}, nil,
	} {
		if err := v.Fill(dst); err == nil {
			t.Errorf("%T: no error", dst)
		}
	}
	var nested struct {
		Inner struct {
			Name string `param:"mail_name"`
		}
	}
	if err := v.Fill(&nested); err != nil || nested.Inner.Name != "Postfix" {
		t.Errorf("got %+v, %v", nested, err)
	}
}

func TestCheckAccounts(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"mail_owner = no-such-user": "file main.cf: parameter mail_owner: unknown user name value: no-such-user",
		"mail_owner = root":         "file main.cf: parameter mail_owner: user root has privileged user ID",
		"mail_owner =":              "bad string length 0 < 1: mail_owner = ",
	} {
		main, err := maincf.Read(strings.NewReader(setting), "main.cf")
		if err != nil {
			t.Fatal(err)
		}
		err = config.Assemble(config.Parts{Main: main, System: host()}).Main().CheckAccounts()
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v", setting, err)
		}
	}
}

// BenchmarkFill reads as many settings as a large role has, at a reload.
func BenchmarkFill(b *testing.B) {
	type role struct {
		Banner  string `param:"smtpd_banner"`
		Limit   int    `param:"smtpd_hard_error_limit"`
		Timeout string `param:"smtpd_timeout"`
		Delay   bool   `param:"smtpd_delay_reject"`
		Relay   string `param:"smtpd_relay_restrictions"`
	}
	var dst struct{ Parts [40]role }
	for b.Loop() {
		s := config.Assemble(config.Parts{System: host()})
		for i := range dst.Parts {
			if err := s.Main().Fill(&dst.Parts[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
