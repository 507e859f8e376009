package restrict

import (
	"context"
	"net/netip"
	"time"

	"posthaste/internal/qmgr/route"
	"posthaste/internal/sys/dns"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Config is what main.cf says about access control.
type Config struct {
	Lists Lists
	Codes Codes
	Rbl   RblConfig

	Classes              string `param:"smtpd_restriction_classes"`
	DelayReject          bool   `param:"smtpd_delay_reject"`
	RelayBeforeRecipient bool   `param:"smtpd_relay_before_recipient_restrictions"`
	RejectUnlistedRcpt   bool   `param:"smtpd_reject_unlisted_recipient"`
	RejectUnlistedSender bool   `param:"smtpd_reject_unlisted_sender"`
	ReceiveOverride      string `param:"receive_override_options"`
	SoftBounce           bool   `param:"soft_bounce"`
	NullKey              string `param:"smtpd_null_access_lookup_key"`
	LogPermit            string `param:"smtpd_log_access_permit_actions"`
	AllowUntrusted       bool   `param:"allow_untrusted_routing"`
	ProxyFilter          string `param:"smtpd_proxy_filter"`
	SASLEnabled          bool   `param:"smtpd_sasl_auth_enable"`
	SenderLogins         string `param:"smtpd_sender_login_maps"`
	ClientCerts          string `param:"relay_clientcerts"`
	MyHostname           string `param:"myhostname"`
	MyNetworks           string `param:"mynetworks"`
	MXBackupNetworks     string `param:"permit_mx_backup_networks"`
	ParentDomains        string `param:"parent_domain_matches_subdomains"`
	RecipientDelimiter   string `param:"recipient_delimiter"`
	SMTPUTF8             bool   `param:"smtputf8_enable"`
	DoubleBounce         string `param:"double_bounce_sender"`
	ShowTable            bool   `param:"show_user_unknown_table_name"`

	LocalRecipients    string `param:"local_recipient_maps"`
	VirtualAliases     string `param:"virtual_alias_maps"`
	VirtualMailboxes   string `param:"virtual_mailbox_maps"`
	RelayRecipients    string `param:"relay_recipient_maps"`
	Canonical          string `param:"canonical_maps"`
	SenderCanonical    string `param:"sender_canonical_maps"`
	RecipientCanonical string `param:"recipient_canonical_maps"`

	Policy PolicyConfig
	Verify VerifyConfig
}

// Lists are the restriction lists of the stages.
type Lists struct {
	Client    string `param:"smtpd_client_restrictions"`
	Helo      string `param:"smtpd_helo_restrictions"`
	Sender    string `param:"smtpd_sender_restrictions"`
	Relay     string `param:"smtpd_relay_restrictions"`
	Recipient string `param:"smtpd_recipient_restrictions"`
	Data      string `param:"smtpd_data_restrictions"`
	EndOfData string `param:"smtpd_end_of_data_restrictions"`
	Etrn      string `param:"smtpd_etrn_restrictions"`
}

// Codes are the reply codes and actions that can be configured.
type Codes struct {
	Reject         int    `param:"reject_code"`
	Defer          int    `param:"defer_code"`
	MapReject      int    `param:"access_map_reject_code"`
	MapDefer       int    `param:"access_map_defer_code"`
	Relay          int    `param:"relay_domains_reject_code"`
	UnknownClient  int    `param:"unknown_client_reject_code"`
	UnknownHost    int    `param:"unknown_hostname_reject_code"`
	UnknownAddress int    `param:"unknown_address_reject_code"`
	InvalidHost    int    `param:"invalid_hostname_reject_code"`
	NonFQDN        int    `param:"non_fqdn_reject_code"`
	Plaintext      int    `param:"plaintext_reject_code"`
	MultiRcpt      int    `param:"multi_recipient_bounce_reject_code"`
	Rbl            int    `param:"maps_rbl_reject_code"`
	LocalRcpt      int    `param:"unknown_local_recipient_reject_code"`
	RelayRcpt      int    `param:"unknown_relay_recipient_reject_code"`
	AliasRcpt      int    `param:"unknown_virtual_alias_reject_code"`
	MailboxRcpt    int    `param:"unknown_virtual_mailbox_reject_code"`
	HeloTempfail   string `param:"unknown_helo_hostname_tempfail_action"`
	AddrTempfail   string `param:"unknown_address_tempfail_action"`
}

// RblConfig is about DNS lists.
type RblConfig struct {
	DefaultReply string `param:"default_rbl_reply,raw"`
	ReplyMaps    string `param:"rbl_reply_maps"`
	Filter       string `param:"smtpd_expansion_filter"`
}

// PolicyConfig is the settings of policy clients without their own.
type PolicyConfig struct {
	DefaultAction string        `param:"smtpd_policy_service_default_action"`
	Timeout       time.Duration `param:"smtpd_policy_service_timeout"`
	MaxIdle       time.Duration `param:"smtpd_policy_service_max_idle"`
	MaxTTL        time.Duration `param:"smtpd_policy_service_max_ttl"`
	RequestLimit  int           `param:"smtpd_policy_service_request_limit"`
	TryLimit      int           `param:"smtpd_policy_service_try_limit"`
	RetryDelay    time.Duration `param:"smtpd_policy_service_retry_delay"`
	Context       string        `param:"smtpd_policy_service_policy_context"`
	Stress        string        `param:"stress"`
	Level         string        `param:"compatibility_level"`
	MailVersion   string        `param:"mail_version"`
	QueueDir      string        `param:"queue_directory"`
}

// VerifyConfig is about reject_unverified_sender and _recipient.
type VerifyConfig struct {
	PollCount         int           `param:"address_verify_poll_count"`
	PollDelay         time.Duration `param:"address_verify_poll_delay"`
	SenderRejectCode  int           `param:"unverified_sender_reject_code"`
	SenderDeferCode   int           `param:"unverified_sender_defer_code"`
	SenderReason      string        `param:"unverified_sender_reject_reason"`
	SenderTempfail    string        `param:"unverified_sender_tempfail_action"`
	RecipientReject   int           `param:"unverified_recipient_reject_code"`
	RecipientDefer    int           `param:"unverified_recipient_defer_code"`
	RecipientReason   string        `param:"unverified_recipient_reject_reason"`
	RecipientTempfail string        `param:"unverified_recipient_tempfail_action"`
}

// Setup is what a Checker works with.
type Setup struct {
	Log    *maillog.Logger // with the service's tag, "postfix/smtpd"
	Tables *table.Opener
	Route  *route.Resolver
	DNS    dns.Resolver
	// Own reports whether an address is one of inet_interfaces, Proxied one of
	// proxy_interfaces. nil is never.
	Own, Proxied func(netip.Addr) bool
	// Parameter returns the expanded value of any parameter that main.cf sets:
	// restriction classes are such. known is false without a setting.
	Parameter func(name string) (value string, known bool)
	// Position tells where a parameter was set; nil and "" for nowhere.
	Position func(param string) (file string, line int)
	// Verifier is verify(8); without one, its answer is "out of order".
	Verifier Verifier
	// Policies are the policies of this process, by the names that
	// restriction lists call them by.
	Policies map[string]Policy
	// OldDefault is told when a default of an older compatibility_level may
	// have decided, as in "relay_domains=$mydestination" "to accept mail for
	// domain ..."; it knows whether that default is in force. May be nil.
	OldDefault func(setting, purpose string)
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Policy decides as a policy server would; where is the protocol state
// ("RCPT"). The answer is an action of access(5).
type Policy func(ctx context.Context, v *View, where string) (action string)
