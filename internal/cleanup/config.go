package cleanup

import "time"

// Config is what cleanup reads of main.cf (postconf(5)). Lists stay text.
type Config struct {
	MyHostname     string `param:"myhostname"`
	LongQueueIDs   bool   `param:"enable_long_queue_ids"`
	SMTPUTF8       bool   `param:"smtputf8_enable"`
	MessageLimit   int64  `param:"message_size_limit"`
	BounceSize     int    `param:"bounce_size_limit"`
	HopLimit       int    `param:"hopcount_limit"`
	SoftBounce     bool   `param:"soft_bounce"`
	LineLimit      int    `param:"line_length_limit"`
	ReplaceStray   bool   `param:"cleanup_replace_stray_cr_lf"`
	StripChars     string `param:"message_strip_characters"`
	RejectChars    string `param:"message_reject_characters"`
	AlwaysAdd      bool   `param:"always_add_missing_headers"`
	Undisclosed    string `param:"undisclosed_recipients_header"`
	DropHeaders    string `param:"message_drop_headers"`
	HeaderFrom     string `param:"header_from_format"`
	NameCharset    string `param:"full_name_encoding_charset"`
	EndOfHeader    string `param:"non_empty_end_of_header_action"`
	HeaderTokens   int    `param:"header_address_token_limit"`
	HeaderSize     int    `param:"header_size_limit"`
	Detect8bit     bool   `param:"detect_8bit_encoding_header"`
	DelayPrecision int    `param:"delay_logging_resolution_limit"`

	// MIME
	NoMIME             bool `param:"disable_mime_input_processing"`
	ForceMIME          bool `param:"force_mime_input_conversion"`
	BoundaryLength     int  `param:"mime_boundary_length_limit"`
	Nesting            int  `param:"mime_nesting_limit"`
	Strict8bit         bool `param:"strict_8bitmime"`
	Strict8bitBody     bool `param:"strict_8bitmime_body"`
	Strict7bitHeaders  bool `param:"strict_7bit_headers"`
	StrictMIMEEncoding bool `param:"strict_mime_encoding_domain"`

	// Content inspection
	HeaderChecks  string `param:"header_checks"`
	MIMEChecks    string `param:"mime_header_checks"`
	NestedChecks  string `param:"nested_header_checks"`
	BodyChecks    string `param:"body_checks"`
	BodyCheckSize int    `param:"body_checks_size_limit"`

	// Address rewriting
	Delimiter           string `param:"recipient_delimiter"`
	OwnerSpecial        bool   `param:"owner_request_special"`
	DoubleBounce        string `param:"double_bounce_sender"`
	MyOrigin            string `param:"myorigin"`
	Canonical           string `param:"canonical_maps"`
	CanonicalClasses    string `param:"canonical_classes"`
	SenderCanonical     string `param:"sender_canonical_maps"`
	SenderClasses       string `param:"sender_canonical_classes"`
	RecipientCanonical  string `param:"recipient_canonical_maps"`
	RecipientClasses    string `param:"recipient_canonical_classes"`
	Masquerade          string `param:"masquerade_domains"`
	MasqueradeClasses   string `param:"masquerade_classes"`
	MasqueradeExcept    string `param:"masquerade_exceptions"`
	Propagate           string `param:"propagate_unmatched_extensions"`
	RemoteRewriteDomain string `param:"remote_header_rewrite_domain"`
	Virtual             string `param:"virtual_alias_maps"`
	VirtualExpansion    int    `param:"virtual_alias_expansion_limit"`
	VirtualRecursion    int    `param:"virtual_alias_recursion_limit"`
	VirtualLength       int    `param:"virtual_alias_address_length_limit"`
	AlwaysBCC           string `param:"always_bcc"`
	SenderBCC           string `param:"sender_bcc_maps"`
	RecipientBCC        string `param:"recipient_bcc_maps"`
	DuplicateLimit      int    `param:"duplicate_filter_limit"`
	KeepOriginal        bool   `param:"enable_original_recipient"`

	// Internal mail
	FilterClasses   string        `param:"internal_mail_filter_classes"`
	UTF8Classes     string        `param:"smtputf8_autodetect_classes"`
	ServiceDeadline time.Duration `param:"ipc_timeout"`
}
