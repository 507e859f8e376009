package smtpproto

import (
	"strings"

	"posthaste/internal/mail/addr"
)

// maxPathTokens bounds the parts of one address in a command.
const maxPathTokens = 10240

// Path is the address in a MAIL, RCPT or VRFY command.
type Path struct {
	Address  addr.Address // without quoting, comments and source route; "" for <>
	External string       // as it was sent, without the outer brackets
	// Strict: written as RFC 5321 wants it, one address in angle brackets
	// and nothing else.
	Strict bool
}

// ParsePath reads an address as mail programs send it: with or without angle
// brackets, with comments, a display name, a group name or a source route.
// ErrSyntax when it holds more than one address.
func ParsePath(text string) (Path, error) {
	p := Path{External: text, Strict: strings.HasPrefix(text, "<")}
	if len(text) >= 2 && text[0] == '<' && text[len(text)-1] == '>' {
		text = text[1 : len(text)-1]
		p.External = text
	}
	if strings.HasPrefix(text, "@") {
		if _, rest, found := strings.Cut(text, ":"); found {
			text = rest
		}
	}
	list := addr.ParseList(text, maxPathTokens)
	boxes := list.Mailboxes()
	p.Strict = p.Strict && list.OnlyAddresses()
	if len(boxes) > 1 {
		return p, ErrSyntax
	}
	if len(boxes) == 1 {
		p.Address = boxes[0].Address()
	}
	return p, nil
}
