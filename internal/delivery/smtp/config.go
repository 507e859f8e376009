// Package smtp is smtp(8) and lmtp(8): it delivers messages to a next hop over
// SMTP or LMTP.
//
// For a request it finds the hosts of the nexthop (mail exchangers, addresses,
// fallback relays), talks to one after the other until every recipient has an
// answer, and reports each. The scope of a failure decides what goes on: a
// refused recipient is answered at once, trouble with a host moves on to the
// next, and only the last host's trouble defers. It promises that a definite
// "no" comes from a server or from the DNS and never from our own trouble.
//
// The queue manager calls it through the transport.Agent contract.
package smtp

import (
	"time"

	"posthaste/internal/delivery/smtp/outgoing"
	"posthaste/internal/delivery/smtp/tlspolicy"
)

// Config is what an agent reads from main.cf and its service's -o options;
// lmtp(8) reads the same names with lmtp_ in front.
type Config struct {
	Myhostname string `param:"myhostname"`

	HeloName     string `param:"smtp_helo_name"`
	LHLOName     string // set for LMTP: postconf(5) lmtp_lhlo_name
	TCPPort      string `param:"smtp_tcp_port"`
	BindAddress  string `param:"smtp_bind_address"`
	BindAddress6 string `param:"smtp_bind_address6"`

	ConnectTimeout  time.Duration `param:"smtp_connect_timeout"`
	HeloTimeout     time.Duration `param:"smtp_helo_timeout"`
	XforwardTimeout time.Duration `param:"smtp_xforward_timeout"`
	MailTimeout     time.Duration `param:"smtp_mail_timeout"`
	RcptTimeout     time.Duration `param:"smtp_rcpt_timeout"`
	DataInitTimeout time.Duration `param:"smtp_data_init_timeout"`
	DataXferTimeout time.Duration `param:"smtp_data_xfer_timeout"`
	DataDoneTimeout time.Duration `param:"smtp_data_done_timeout"`
	RsetTimeout     time.Duration `param:"smtp_rset_timeout"`
	QuitTimeout     time.Duration `param:"smtp_quit_timeout"`

	AlwaysEHLO       bool   `param:"smtp_always_send_ehlo"`
	NeverEHLO        bool   `param:"smtp_never_send_ehlo"`
	SkipQuitResponse bool   `param:"smtp_skip_quit_response"`
	Skip5xxGreeting  bool   `param:"smtp_skip_5xx_greeting"`
	DiscardKeywords  string `param:"smtp_discard_ehlo_keywords"`
	LineLimit        int    `param:"smtp_line_length_limit"`
	SendXforward     bool   `param:"smtp_send_xforward_command"`

	Outgoing outgoing.Config

	MXAddressLimit    int    `param:"smtp_mx_address_limit"`
	MXSessionLimit    int    `param:"smtp_mx_session_limit"`
	Randomize         bool   `param:"smtp_randomize_addresses"`
	AddressPreference string `param:"smtp_address_preference"`
	Balance           bool   `param:"smtp_balance_inet_protocols"`
	FallbackRelay     string `param:"smtp_fallback_relay"`
	Relayhost         string `param:"relayhost"`
	BestMXTransport   string `param:"best_mx_transport"`
	DeferIfNoMX       bool   `param:"smtp_defer_if_no_mx_address_found"`
	IgnoreMXError     bool   `param:"ignore_mx_lookup_error"`
	DisableDNS        bool   `param:"disable_dns_lookups"`
	HostLookup        string `param:"smtp_host_lookup"`
	InetProtocols     string `param:"inet_protocols"`

	// MinBackoff is how long mail must have waited before a failed TLS
	// handshake is followed by a try in the clear.
	MinBackoff time.Duration `param:"minimal_backoff_time"`
	TLS        tlspolicy.Config
}
