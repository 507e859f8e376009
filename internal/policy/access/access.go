// Package access reads the right-hand side of access(5) tables and the answers
// of policy servers: REJECT, 550 text, HOLD, PREPEND and the rest.
//
// Parse never fails: what is no action is a list of restrictions, which the
// caller (package restrict) evaluates or complains about. It decides nothing.
package access

import (
	"strings"
	"unicode/utf8"
)

// Kind is what a result asks for.
type Kind uint8

const (
	Restrictions  Kind = iota // Text is a list of restrictions, possibly empty
	Dunno                     // look no further in this table, decide nothing
	Permit                    // OK, RELAY, or all digits
	Reject                    // with access_map_reject_code
	Defer                     // with access_map_defer_code
	Code                      // Action.Code, 4NN or 5NN
	DeferIfPermit             // refuse for now what would be permitted
	DeferIfReject             // refuse for now what would be refused for good
	Hangup                    // drop the connection without an answer
	Info                      // log Text
	Warn                      // log Text
	Filter                    // Text is transport:destination
	Hold
	Discard
	Redirect // Text is an address
	BCC      // Text is an address
	Prepend  // Text is a header line
)

// Action is one result, taken apart.
type Action struct {
	Kind Kind
	Word string // the first word as written
	Code int    // for Kind Code
	Text string // what follows the first word; for Restrictions, all of it
}

var kinds = map[string]Kind{
	"DUNNO": Dunno, "OK": Permit, "RELAY": Permit, "REJECT": Reject, "DEFER": Defer, "HANGUP": Hangup,
	"INFO": Info, "WARN": Warn, "FILTER": Filter, "HOLD": Hold, "DISCARD": Discard, "REDIRECT": Redirect,
	"BCC": BCC, "DEFER_IF_PERMIT": DeferIfPermit, "DEFER_IF_REJECT": DeferIfReject, "PREPEND": Prepend,
}

// Parse takes a result apart (access(5), ACCEPT ACTIONS, REJECT ACTIONS, OTHER
// ACTIONS). Words count without regard to case.
func Parse(value string) Action {
	end := strings.IndexAny(value, " \t")
	if end < 0 {
		end = len(value)
	}
	word, text := value[:end], strings.TrimLeft(value[end:], " \t\r\n\v\f")
	if kind, ok := kinds[strings.ToUpper(word)]; ok {
		// A lone "DEFER" is this action, and not the restriction "defer":
		// it has its own code and text.
		return Action{Kind: kind, Word: word, Text: text}
	}
	if value != "" && strings.Trim(value, "0123456789") == "" {
		return Action{Kind: Permit, Word: word}
	}
	if code, ok := replyCode(word); ok && text != "" {
		return Action{Kind: Code, Word: word, Code: code, Text: text}
	}
	return Action{Kind: Restrictions, Word: word, Text: value}
}

func replyCode(word string) (int, bool) {
	if len(word) != 3 || (word[0] != '4' && word[0] != '5') {
		return 0, false
	}
	code := 0
	for i := range len(word) {
		if word[i] < '0' || word[i] > '9' {
			return 0, false
		}
		code = code*10 + int(word[i]-'0')
	}
	return code, true
}

// IsHeader reports whether text begins as a header line does, "Name: ...", with
// white space allowed before the colon (RFC 5322 §2.2, §4.5.8).
func IsHeader(text string) bool {
	name, _, ok := strings.Cut(text, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || name == "" {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return false
		}
	}
	return true
}

// MaxReply is the length of a reply line, RFC 5321 §4.5.3.1.5.
const MaxReply = 510

// ReplyText makes text fit for one reply line.
func ReplyText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if limit := MaxReply - len("554 5.7.1 "); len(text) > limit {
		text = text[:limit]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return text
}

// What a reply is about, as it names that.
const (
	Sender    = "Sender address"
	Recipient = "Recipient address"
)

// The details of enhanced codes X.1.* that senders and recipients have; others
// are X.1.0.
var (
	senderDetails    = map[string]string{"1": "7", "2": "8", "3": "7", "4": "7", "6": "7", "7": "7", "8": "8"}
	recipientDetails = map[string]string{"1": "1", "2": "2", "3": "3", "4": "4", "5": "5", "6": "6", "7": "3", "8": "2"}
)

// FitEnhanced makes an enhanced code about addresses fit what the reply is
// about: a code about recipients makes no sense for a sender, nor for a host
// name.
func FitEnhanced(enhanced, about string) string {
	const prefixLength = len("5.")
	if len(enhanced) < prefixLength || !strings.HasPrefix(enhanced[prefixLength:], "1.") {
		return enhanced
	}
	prefix, detail := enhanced[:prefixLength], enhanced[prefixLength+len("1."):]
	var details map[string]string
	switch about {
	case Sender:
		details = senderDetails
	case Recipient:
		details = recipientDetails
	default:
		return prefix + "0.0"
	}
	if detail = details[detail]; detail == "" {
		detail = "0"
	}
	return prefix + "1." + detail
}
