// Package checkgreylist is the restriction check_greylist: greylisting inside
// the SMTP server, without a policy daemon.
//
// A Keeper has the database of the process; each smtpd service makes a Policy
// from its own parameters and gives it to package restrict. Restriction
// classes decide for whom it counts. What goes wrong with the database never
// costs mail: it is let through, and the log says so.
package checkgreylist

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"posthaste/internal/config/version"
	"posthaste/internal/mail/addr"
	"posthaste/internal/policy/dnsbl"
	"posthaste/internal/policy/greylist"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/policy/spf"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Name is what restriction lists call it.
const Name = "check_greylist"

// Config is what main.cf says about it.
type Config struct {
	Delay         time.Duration `param:"posthaste_greylist_delay"`
	MaxAge        time.Duration `param:"posthaste_greylist_max_age"`
	RetryWindow   time.Duration `param:"posthaste_greylist_retry_window"`
	AutoWhitelist int           `param:"posthaste_greylist_auto_whitelist_clients"`
	Action        string        `param:"posthaste_greylist_action"`
	Text          string        `param:"posthaste_greylist_text"`
	Header        string        `param:"posthaste_greylist_header"`
	LookupByHost  bool          `param:"posthaste_greylist_lookup_by_host"`
	IPv4Bits      int           `param:"posthaste_greylist_ipv4_prefix_length"`
	IPv6Bits      int           `param:"posthaste_greylist_ipv6_prefix_length"`
	Privacy       bool          `param:"posthaste_greylist_privacy"`
	Clients       string        `param:"posthaste_greylist_whitelist_clients"`
	Recipients    string        `param:"posthaste_greylist_whitelist_recipients"`
	Signs         string        `param:"posthaste_greylist_signs"`
	Providers     string        `param:"posthaste_greylist_providers"`
	StripTags     bool          `param:"posthaste_greylist_strip_tags"`
	MaxEntries    int           `param:"posthaste_greylist_max_entries"`

	MyHostname string `param:"myhostname"`
}

// Setup is what a Policy works with.
type Setup struct {
	Keeper *Keeper
	Log    *maillog.Logger // for decisions; its tag is the program's, "postfix/postgrey"
	DNS    dns.Resolver
	// SPF says what SPF says about a message.
	SPF func(ctx context.Context, ip netip.Addr, sender addr.Address, helo string) spf.Answer
}

// New makes the policy of one service. The error is about a parameter.
func New(c Config, setup Setup) (restrict.Policy, error) {
	signs, err := greylist.ParseSigns(table.SplitList(c.Signs))
	if err != nil {
		return nil, missing("posthaste_greylist_signs", err)
	}
	providers, err := greylist.ParseProviders(table.SplitList(c.Providers))
	if err != nil {
		return nil, missing("posthaste_greylist_providers", err)
	}
	orNone := func(n int) int {
		if n == 0 {
			return -1
		}
		return n
	}
	set := greylist.Settings{
		Delay: max(c.Delay, 1), MaxAge: c.MaxAge, RetryWindow: c.RetryWindow, AutoWhitelist: orNone(c.AutoWhitelist),
		Action: c.Action, Text: c.Text, Header: c.Header, Hostname: c.MyHostname, Version: version.Own,
		LookupByHost: c.LookupByHost, IPv4Bits: c.IPv4Bits, IPv6Bits: c.IPv6Bits, Privacy: c.Privacy,
		StripTags: c.StripTags, Signs: signs, Providers: providers, MaxEntries: c.MaxEntries,
	}
	g := greylist.New(set, greylist.Deps{Store: setup.Keeper, Log: setup.Log, Shared: setup.Keeper.shared, SPF: answers{setup}, Listed: setup.listed})
	g.SetWhitelist(setup.whitelist(&c))
	setup.Keeper.current.Store(g)
	return func(ctx context.Context, v *restrict.View, where string) string {
		if where != "RCPT" || !v.HasRecipient {
			return "DUNNO" // there is no recipient whose mail could come again
		}
		return g.Check(ctx, greylist.Request{
			Instance: v.Instance, ClientName: v.Client.Name, ClientAddress: v.Client.Address, Helo: v.Helo,
			Sender: string(v.Sender), Recipient: string(v.Recipient), Enhanced: true,
		}).Action
	}, nil
}

// whitelist reads the files. What is wrong in them is logged; the rest counts.
func (s *Setup) whitelist(c *Config) *greylist.Whitelist {
	w := &greylist.Whitelist{}
	for _, files := range []struct {
		paths string
		read  func(string) error
	}{{c.Clients, w.AddClients}, {c.Recipients, w.AddRecipients}} {
		for _, path := range table.SplitList(files.paths) {
			err := files.read(path)
			if err == nil {
				continue
			}
			for _, line := range strings.Split(err.Error(), "\n") {
				s.Log.Warnf("%s", line)
			}
		}
	}
	return w
}

// listed asks a DNS list about an address.
func (s *Setup) listed(ctx context.Context, zone string, ip netip.Addr) bool {
	list, err := dnsbl.Parse(zone)
	if err != nil {
		return false
	}
	return list.Lookup(ctx, s.DNS, dnsbl.Reverse(ip)).Listed
}

// answers is SPF as the greylist wants it.
type answers struct{ Setup }

// Authorized implements greylist.SPF.
func (a answers) Authorized(ctx context.Context, ip netip.Addr, sender, helo string) (string, greylist.SPFResult) {
	if a.SPF == nil {
		return "", greylist.SPFUnknown
	}
	answer := a.SPF(ctx, ip, addr.Address(sender), helo)
	results := map[spf.Result]greylist.SPFResult{
		spf.Pass: greylist.SPFPass, spf.Fail: greylist.SPFFail, spf.SoftFail: greylist.SPFFail, spf.TempError: greylist.SPFUnknown,
	}
	r, ok := results[answer.Result]
	if !ok {
		r = greylist.SPFNone
	}
	return answer.Domain, r
}
