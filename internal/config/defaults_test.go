package config_test

import (
	"net/netip"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/config/version"
)

// services are those of the recording that have parameters of their own.
const services = `smtp inet n - n - - smtpd
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
`

func host() config.System {
	return config.System{
		Hostname: func() (string, error) { return "mail.example.com", nil },
		Interfaces: func() ([]netip.Prefix, error) {
			return []netip.Prefix{
				netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24"),
				netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("2001:db8:1::1/64"), netip.MustParsePrefix("fe80::1/64"),
			}, nil
		},
		ProcessName: "postconf",
	}
}

// TestDefaults compares every parameter with what Postfix 3.11.6 prints.
func TestDefaults(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("params/testdata/defaults.txt")
	if err != nil {
		t.Fatal(err)
	}
	master, err := mastercf.Read(strings.NewReader(services), "master.cf")
	if err != nil {
		t.Fatal(err)
	}
	s := config.Assemble(config.Parts{Dir: config.DefaultDir, Master: master, System: host()})
	names := append(s.ServiceParams(), s.Catalogue().Names()...)
	sort.Strings(names)
	var got strings.Builder
	for _, name := range names {
		if name == "process_id" {
			continue // of the recording process
		}
		value, err := s.Main().Value(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "mail_version" && value == version.Mail {
			value = "<version>"
		}
		got.WriteString(strings.TrimRight(name+" = "+value, " ") + "\n")
	}
	if diff := cmp.Diff(strings.Split(string(recorded), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("defaults differ from Postfix's (-want +got):\n%s", diff)
	}
	if len(names) != 983 {
		t.Errorf("%d parameters", len(names))
	}
}
