package spf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"posthaste/internal/sys/dns"
)

// scenario is one document of the test suites of the RFCs.
type scenario struct {
	Description string
	Tests       map[string]struct {
		Helo, Host, Mailfrom, Explanation string
		Result                            oneOrMore
	}
	Zonedata map[string][]map[string]yaml.Node
}

// oneOrMore is a text or a list of texts.
type oneOrMore []string

func (o *oneOrMore) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*o = oneOrMore{n.Value}
		return nil
	}
	return n.Decode((*[]string)(o))
}

func scenarios(t *testing.T, file string) []scenario {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []scenario
	for d := yaml.NewDecoder(f); ; {
		var s scenario
		err := d.Decode(&s)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Tests) > 0 {
			all = append(all, s)
		}
	}
}

// suiteZone is the zone data of a scenario: data by "name type". A name that
// times out does so for all types that it has no data of.
type suiteZone struct {
	records  map[string][]string
	names    map[string]bool
	timeouts map[string]bool
}

func (s *scenario) zone(t *testing.T) *suiteZone {
	t.Helper()
	z := &suiteZone{map[string][]string{}, map[string]bool{}, map[string]bool{}}
	for name, list := range s.Zonedata {
		name = fold(name)
		z.names[name] = true
		hasTXT := slices.ContainsFunc(list, func(r map[string]yaml.Node) bool { _, ok := r["TXT"]; return ok })
		for _, record := range list {
			for kind, node := range record {
				values := oneOrMore{}
				if err := node.Decode(&values); err != nil {
					t.Fatalf("%s %s: %v", name, kind, err)
				}
				data := strings.Join(values, "")
				switch {
				case kind == "TIMEOUT":
					z.timeouts[name] = true
					continue
				case kind == "MX":
					data = strings.Join(values, " ")
				case kind == "SPF" && !hasTXT:
					kind = "TXT"
				}
				if data != "NONE" {
					z.records[name+" "+kind] = append(z.records[name+" "+kind], data)
				}
			}
		}
	}
	return z
}

func (z *suiteZone) find(ctx context.Context, name, kind string) ([]string, dns.Answer, error) {
	name = fold(strings.ReplaceAll(name, `\\`, `\`))
	for range 8 {
		if found := z.records[name+" "+kind]; found != nil {
			return found, dns.Answer{}, nil
		}
		if z.timeouts[name] {
			return nil, dns.Answer{}, fmt.Errorf("%w (timeout)", dns.ErrServer)
		}
		alias := z.records[name+" CNAME"]
		if alias == nil {
			break
		}
		name = fold(alias[0])
	}
	if z.names[name] {
		return nil, dns.Answer{}, dns.ErrNoData
	}
	return nil, dns.Answer{}, dns.ErrNoHost
}

func (z *suiteZone) TXT(ctx context.Context, name string) ([]string, dns.Answer, error) {
	return z.find(ctx, name, "TXT")
}

func (z *suiteZone) NS(ctx context.Context, name string) ([]string, dns.Answer, error) {
	return z.find(ctx, name, "NS")
}

func (z *suiteZone) PTR(ctx context.Context, ip netip.Addr) ([]string, dns.Answer, error) {
	family := ".ip6.arpa"
	if ip.Is4() {
		family = ".in-addr.arpa"
	}
	p := part{reverse: true}
	return z.find(ctx, p.transform(dotted(ip))+family, "PTR")
}

func (z *suiteZone) MX(ctx context.Context, name string) ([]dns.MX, dns.Answer, error) {
	found, answer, err := z.find(ctx, name, "MX")
	var list []dns.MX
	for _, data := range found {
		var mx dns.MX
		if _, err := fmt.Sscan(data, &mx.Preference, &mx.Host); err != nil && data != "0 " {
			panic(data)
		}
		list = append(list, mx)
	}
	return list, answer, err
}

func (z *suiteZone) addresses(ctx context.Context, name, kind string) ([]netip.Addr, dns.Answer, error) {
	found, answer, err := z.find(ctx, name, kind)
	var list []netip.Addr
	for _, data := range found {
		list = append(list, netip.MustParseAddr(data))
	}
	return list, answer, err
}

func (z *suiteZone) A(ctx context.Context, name string) ([]netip.Addr, dns.Answer, error) {
	return z.addresses(ctx, name, "A")
}

func (z *suiteZone) AAAA(ctx context.Context, name string) ([]netip.Addr, dns.Answer, error) {
	return z.addresses(ctx, name, "AAAA")
}

func (z *suiteZone) LookupHost(context.Context, string) ([]netip.Addr, error) {
	panic("SPF does not know host tables")
}

func (z *suiteZone) LookupAddr(context.Context, netip.Addr) (string, error) {
	panic("SPF does not know host tables")
}

// noExplanation stands for it in the suites, and for ours.
const noExplanation = "DEFAULT"

// runSuite runs all tests of a file and returns how many.
func runSuite(t *testing.T, file string) int {
	t.Helper()
	count := 0
	for _, s := range scenarios(t, file) {
		zone := s.zone(t)
		for name, test := range s.Tests {
			count++
			checker := Checker{DNS: zone}
			got := checker.Check(context.Background(), Query{IP: netip.MustParseAddr(test.Host), Sender: test.Mailfrom, Helo: test.Helo, Trace: true})
			explanation := got.Explanation
			if explanation == "" {
				explanation = noExplanation
			}
			if !slices.Contains(test.Result, got.Result.String()) || test.Explanation != "" && got.Result == Fail && test.Explanation != explanation {
				t.Errorf("%s/%s: %s %q, want %v %q\n%+v", s.Description, name, got.Result, explanation, test.Result, test.Explanation, got)
			}
			if got.Reason == "" || got.Domain == "" && got.Result != None {
				t.Errorf("%s/%s: no reason in %+v", s.Description, name, got)
			}
		}
	}
	return count
}

// TestRFC7208 runs the whole test suite of RFC 7208.
func TestRFC7208(t *testing.T) {
	t.Parallel()
	if n := runSuite(t, "testdata/rfc7208-tests.yml"); n != 203 {
		t.Errorf("ran %d tests, not 203", n)
	}
}

// TestRFC4408 runs the suite of the RFC before. Where the two differ (types of
// records, the limit of MX hosts) this copy of it accepts what RFC 7208 says,
// so there are no exceptions.
func TestRFC4408(t *testing.T) {
	t.Parallel()
	if n := runSuite(t, "testdata/rfc4408-tests.yml"); n != 191 {
		t.Errorf("ran %d tests, not 191", n)
	}
}
