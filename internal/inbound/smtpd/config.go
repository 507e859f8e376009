package smtpd

import (
	"time"

	"posthaste/internal/inbound/smtpd/auth"
	"posthaste/internal/inbound/starttls"
)

// Config is what the session reads of main.cf (postconf(5)). Lists stay text.
type Config struct {
	Hostname   string `param:"myhostname"`
	Banner     string `param:"smtpd_banner"`
	MailName   string `param:"mail_name"`
	SMTPUTF8   bool   `param:"smtputf8_enable"`
	SoftBounce bool   `param:"soft_bounce"`
	MyNetworks string `param:"mynetworks"`
	Parents    string `param:"parent_domain_matches_subdomains"`

	// Limits
	LineLimit      int           `param:"line_length_limit"`
	MessageLimit   int64         `param:"message_size_limit"`
	MinFree        int64         `param:"queue_minfree"`
	RecipientLimit int           `param:"smtpd_recipient_limit"`
	Overshoot      int           `param:"smtpd_recipient_overshoot_limit"`
	Timeout        time.Duration `param:"smtpd_timeout"`
	Deadline       bool          `param:"smtpd_per_request_deadline"`
	MinDataRate    int           `param:"smtpd_min_data_rate"`
	ErrorSleep     time.Duration `param:"smtpd_error_sleep_time"`
	SoftErrors     int           `param:"smtpd_soft_error_limit"`
	HardErrors     int           `param:"smtpd_hard_error_limit"`
	JunkCommands   int           `param:"smtpd_junk_command_limit"`
	HistoryFlush   int           `param:"smtpd_history_flush_threshold"`

	// Client counts and rates
	ConnectionCount  int    `param:"smtpd_client_connection_count_limit"`
	ConnectionRate   int    `param:"smtpd_client_connection_rate_limit"`
	MessageRate      int    `param:"smtpd_client_message_rate_limit"`
	RecipientRate    int    `param:"smtpd_client_recipient_rate_limit"`
	AuthRate         int    `param:"smtpd_client_auth_rate_limit"`
	TLSRate          int    `param:"smtpd_client_new_tls_session_rate_limit"`
	RateExceptions   string `param:"smtpd_client_event_limit_exceptions"`
	IPv4PrefixLength int    `param:"smtpd_client_ipv4_prefix_length"`
	IPv6PrefixLength int    `param:"smtpd_client_ipv6_prefix_length"`

	// Commands
	HeloRequired      bool   `param:"smtpd_helo_required"`
	StrictEnvelopes   bool   `param:"strict_rfc821_envelopes"`
	DisableVrfy       bool   `param:"disable_vrfy_command"`
	DelayOpen         bool   `param:"smtpd_delay_open_until_valid_rcpt"`
	NoopCommands      string `param:"smtpd_noop_commands"`
	ForbiddenCommands string `param:"smtpd_forbidden_commands"`
	CommandFilter     string `param:"smtpd_command_filter"`
	DiscardKeywords   string `param:"smtpd_discard_ehlo_keywords"`
	DiscardMaps       string `param:"smtpd_discard_ehlo_keyword_address_maps"`
	BareNewline       string `param:"smtpd_forbid_bare_newline"`
	BareNewlineExcept string `param:"smtpd_forbid_bare_newline_exclusions"`
	BareNewlineCode   int    `param:"smtpd_forbid_bare_newline_reject_code"`
	ForbidPipelining  bool   `param:"smtpd_forbid_unauth_pipelining"`
	VerpClients       string `param:"smtpd_authorized_verp_clients"`
	VerpFilter        string `param:"verp_delimiter_filter"`
	VerpDelimiters    string `param:"default_verp_delimiters"`
	XclientHosts      string `param:"smtpd_authorized_xclient_hosts"`
	XforwardHosts     string `param:"smtpd_authorized_xforward_hosts"`
	RejectFooter      string `param:"smtpd_reject_footer,raw"`
	RejectFooterMaps  string `param:"smtpd_reject_footer_maps"`
	RejectFilter      string `param:"smtpd_reject_filter_maps"`
	RewriteClients    string `param:"local_header_rewrite_clients"`
	ResolveNullDomain bool   `param:"resolve_null_domain"`
	ResolveNumeric    bool   `param:"resolve_numeric_domain"`
	AllowMinUser      bool   `param:"allow_min_user"`
	PeernameLookup    bool   `param:"smtpd_peername_lookup"`
	PortLogging       bool   `param:"smtpd_client_port_logging"`
	HideClient        bool   `param:"smtpd_hide_client_session"`
	AuthHeader        bool   `param:"smtpd_sasl_authenticated_header"`
	NotifyClasses     string `param:"notify_classes"`
	ReceiveOverride   string `param:"receive_override_options"`
	ContentFilter     string `param:"content_filter"`
	RequireTLS        bool   `param:"requiretls_enable"`
	RelayCerts        string `param:"relay_clientcerts"`

	Auth auth.Config
	TLS  starttls.Config
}
