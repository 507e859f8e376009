package cleanup

import (
	"posthaste/internal/cleanup/content"
	"posthaste/internal/cleanup/rewrite"
	"posthaste/internal/qmgr/transport"
)

// Config is what cleanup reads of main.cf (postconf(5)). Lists stay text.
type Config struct {
	MyHostname   string `param:"myhostname"`
	LongQueueIDs bool   `param:"enable_long_queue_ids"`
	SMTPUTF8     bool   `param:"smtputf8_enable"`
	MessageLimit int64  `param:"message_size_limit"`
	BounceSize   int    `param:"bounce_size_limit"`
	HopLimit     int    `param:"hopcount_limit"`
	LineLimit    int    `param:"line_length_limit"`
	ReplaceStray bool   `param:"cleanup_replace_stray_cr_lf"`
	StripChars   string `param:"message_strip_characters"`
	RejectChars  string `param:"message_reject_characters"`
	AlwaysAdd    bool   `param:"always_add_missing_headers"`
	Undisclosed  string `param:"undisclosed_recipients_header"`
	DropHeaders  string `param:"message_drop_headers"`
	HeaderFrom   string `param:"header_from_format"`
	NameCharset  string `param:"full_name_encoding_charset"`
	EndOfHeader  string `param:"non_empty_end_of_header_action"`
	HeaderTokens int    `param:"header_address_token_limit"`
	HeaderSize   int    `param:"header_size_limit"`
	Detect8bit   bool   `param:"detect_8bit_encoding_header"`

	// MIME
	NoMIME             bool `param:"disable_mime_input_processing"`
	BoundaryLength     int  `param:"mime_boundary_length_limit"`
	Nesting            int  `param:"mime_nesting_limit"`
	Strict8bit         bool `param:"strict_8bitmime"`
	Strict8bitBody     bool `param:"strict_8bitmime_body"`
	Strict7bitHeaders  bool `param:"strict_7bit_headers"`
	StrictMIMEEncoding bool `param:"strict_mime_encoding_domain"`

	Content content.Config
	Rewrite rewrite.Config

	RemoteRewriteDomain string `param:"remote_header_rewrite_domain"`
	AlwaysBCC           string `param:"always_bcc"`
	DuplicateLimit      int    `param:"duplicate_filter_limit"`
	KeepOriginal        bool   `param:"enable_original_recipient"`

	// Internal mail
	FilterClasses string `param:"internal_mail_filter_classes"`
	UTF8Classes   string `param:"smtputf8_autodetect_classes"`

	Log transport.LogConfig
}
