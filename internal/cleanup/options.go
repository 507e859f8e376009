package cleanup

import (
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Flags say what is done to a message, as CLEANUP_FLAG_* of Postfix.
type Flags uint16

// Flags.
const (
	Filter     Flags = 1 << iota // header and body checks
	BCC                          // always_bcc, sender_bcc_maps, recipient_bcc_maps
	Map                          // canonical, masquerade, virtual alias
	Milter                       // mail filter applications
	Bounce                       // report refusals to the sender
	DetectUTF8                   // SMTPUTF8 is found out from header and addresses
)

// External is what mail from outside gets before receive_override_options.
const External = Filter | BCC | Map | Milter

// Internal is what mail that we make ourselves gets.
const Internal = Map

// Options are the circumstances of one submission.
type Options struct {
	Flags  Flags
	Origin string // for the log: "name[address]", or "local"
	// Proto and Helo are for the log, "" for local mail.
	Proto, Helo string
	// Size is the expected size in bytes, 0 if unknown.
	Size int64
	// Log replaces the service's log, for a role with another tag.
	Log *maillog.Logger
}

// Source is where mail enters, the names of smtputf8_autodetect_classes.
type Source string

// Sources.
const (
	SourceSendmail Source = "sendmail"
	SourceSMTPD    Source = "smtpd"
	SourceQMQPD    Source = "qmqpd"
	SourceForward  Source = "forward"
	SourceBounce   Source = "bounce"
	SourceNotify   Source = "notify"
	SourceVerify   Source = "verify"
)

// sources reads a list of Source names; "all" stands for every one.
func sources(param, list string) (map[Source]bool, error) {
	known := []Source{SourceSendmail, SourceSMTPD, SourceQMQPD, SourceForward, SourceBounce, SourceNotify, SourceVerify}
	set := map[Source]bool{}
	for _, item := range table.SplitList(list) {
		found := false
		for _, s := range known {
			if strings.EqualFold(item, string(s)) || strings.EqualFold(item, "all") {
				set[s], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: unknown name \"%s\"", param, item)
		}
	}
	return set, nil
}

// Flags are what a source's mail gets, after postconf(5)
// internal_mail_filter_classes and smtputf8_autodetect_classes. Sendmail mail
// and forwarded mail have Bounce: nobody waits for an answer there.
func (s *Service) Flags(from Source) Flags {
	f := Internal
	switch from {
	case SourceSMTPD, SourceQMQPD:
		f = External
	case SourceSendmail:
		f = External | Bounce
	case SourceForward:
		f |= Bounce
	}
	if s.filtered[from] {
		f |= Filter | Milter
	}
	if s.cfg.SMTPUTF8 && s.detected[from] {
		f |= DetectUTF8
	}
	return f
}

// Override takes away what an entrance's receive_override_options say.
// no_unknown_recipient_checks is the entrance's own business.
func (f Flags) Override(options string) (Flags, error) {
	for _, item := range table.SplitList(options) {
		switch strings.ToLower(item) {
		case "no_address_mappings":
			f &^= Map | BCC
		case "no_header_body_checks":
			f &^= Filter
		case "no_milters":
			f &^= Milter
		case "no_unknown_recipient_checks":
		default:
			return f, fmt.Errorf("receive_override_options: unknown name \"%s\"", item)
		}
	}
	return f, nil
}

// What happens when a message header ends with a line that is not empty
// (postconf(5) non_empty_end_of_header_action).
const (
	fixQuietly   = "fix_quietly"
	fixAddHeader = "add_header"
	fixReject    = "reject"
)

var errEscape = errors.New("bad escape sequence")

// unescape reads the C-like escapes of message_strip_characters.
func unescape(text string) ([]byte, error) {
	simple := map[byte]byte{'a': 7, 'b': 8, 'f': 12, 'n': 10, 'r': 13, 't': 9, 'v': 11, '\\': '\\'}
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out = append(out, text[i])
			continue
		}
		i++
		if i == len(text) {
			return nil, errEscape
		}
		if c, ok := simple[text[i]]; ok {
			out = append(out, c)
			continue
		}
		value, digits := 0, 0
		for ; digits < 3 && i+digits < len(text) && text[i+digits] >= '0' && text[i+digits] <= '7'; digits++ {
			value = value*8 + int(text[i+digits]-'0')
		}
		if digits == 0 || value > 255 {
			return nil, errEscape
		}
		out = append(out, byte(value))
		i += digits - 1
	}
	return out, nil
}
