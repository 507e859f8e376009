// Package attr is the attributes of the commands XCLIENT and XFORWARD
// (XCLIENT_README, XFORWARD_README): "name=value" with values in xtext.
//
// It reads them into a client that a session takes the place of, or that it
// forwards for. It promises that an address is one, and that no value can end a
// header line or a log line. smtpd calls it and answers its client with the
// text of the errors.
package attr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/inbound/peer"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/smtpproto"
)

// Values of attributes that are not known.
const (
	unavailable = "[UNAVAILABLE]"
	tempUnavail = "[TEMPUNAVAIL]"
	maxHelo     = 255
	maxForward  = 255
	maxProtocol = 64
)

// Attribute is one "name=value" of XCLIENT or XFORWARD.
type Attribute struct{ Name, Value string }

// Parse reads them; the text of the error is a reply.
func Parse(args []smtpproto.Token) ([]Attribute, error) {
	var list []Attribute
	for _, a := range args {
		name, value, _ := strings.Cut(a.Text, "=")
		if value == "" {
			return nil, errors.New("501 5.5.4 Error: attribute=value expected")
		}
		decoded, err := smtpproto.DecodeXtext(value)
		if err != nil {
			return nil, errors.New("501 5.5.4 Bad attribute value syntax: " + value)
		}
		list = append(list, Attribute{strings.ToUpper(name), printable(decoded)})
	}
	return list, nil
}

// printable masks control characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}

// Neuter masks what must not appear in a header (HELO names).
func Neuter(text string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" <>()\\\";@", r) {
			return '?'
		}
		return r
	}, maillog.Printable(text))
}

// Client is a client as XCLIENT describes it.
type Client struct {
	Peer           peer.Client
	Login          envelope.Login
	Helo, Protocol string
}

// Set applies one attribute; the text of the error is a reply.
func (o *Client) Set(a Attribute) error {
	known, ok := o.set(a)
	switch {
	case !known:
		return errors.New("501 5.5.4 Bad XCLIENT attribute name: " + a.Name)
	case !ok:
		return fmt.Errorf("501 5.5.4 Bad %s syntax: %s", a.Name, a.Value)
	}
	return nil
}

// set reports known as false for an unknown name, ok for a bad value.
func (o *Client) set(a Attribute) (known, ok bool) {
	known = true
	switch a.Name {
	case "NAME":
		o.Peer.Name, o.Peer.NameStatus, ok = hostAttribute(a.Value)
		if o.Peer.NameStatus == peer.OK {
			o.Peer.ReverseName, o.Peer.ReverseStatus = o.Peer.Name, peer.OK
		}
	case "REVERSE_NAME":
		o.Peer.ReverseName, o.Peer.ReverseStatus, ok = hostAttribute(a.Value)
	case "ADDR":
		o.Peer.Address, ok = addressAttribute(a.Value)
	case "DESTADDR":
		o.Peer.ServerAddress, ok = addressAttribute(a.Value)
	case "PORT":
		o.Peer.Port, ok = portAttribute(a.Value)
	case "DESTPORT":
		o.Peer.ServerPort, ok = portAttribute(a.Value)
	case "HELO":
		ok = len(a.Value) <= maxHelo
		if o.Helo = Neuter(a.Value); strings.EqualFold(a.Value, unavailable) {
			o.Helo = ""
		}
	case "PROTO":
		o.Protocol = strings.ToUpper(a.Value)
		ok = o.Protocol == "SMTP" || o.Protocol == "ESMTP"
	case "LOGIN":
		ok = true
		if o.Login = (envelope.Login{Method: "XCLIENT", Username: a.Value}); strings.EqualFold(a.Value, unavailable) {
			o.Login = envelope.Login{}
		}
	default:
		return false, false
	}
	return known, ok
}

func hostAttribute(value string) (name string, status peer.Status, ok bool) {
	switch {
	case strings.EqualFold(value, unavailable):
		return peer.Unknown, peer.None, true
	case strings.EqualFold(value, tempUnavail):
		return peer.Unknown, peer.Temp, true
	}
	return value, peer.OK, addr.ValidHostname(value) && !addr.ValidHostaddr(value)
}

// addressAttribute reads "192.0.2.1" or "IPV6:2001:db8::1".
func addressAttribute(value string) (address string, ok bool) {
	if strings.EqualFold(value, unavailable) {
		return peer.Unknown, true
	}
	if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
		value = value[5:]
	}
	return value, addr.ValidHostaddr(value)
}

func portAttribute(value string) (port string, ok bool) {
	if strings.EqualFold(value, unavailable) {
		return peer.Unknown, true
	}
	n, err := strconv.ParseUint(value, 10, 16)
	return value, err == nil && n > 0
}

// Forward is an earlier client as XFORWARD describes it.
type Forward struct {
	envelope.Origin
	Source string // rewrite context, "" if not told
}

// Set applies one attribute; the text of the error is a reply.
func (o *Forward) Set(a Attribute) error {
	if len(a.Value) > maxForward {
		return errors.New("501 5.5.4 Error: attribute value too long")
	}
	value := Neuter(a.Value)
	if strings.EqualFold(a.Value, unavailable) {
		value = ""
	}
	bad := fmt.Errorf("501 5.5.4 Bad %s syntax: %s", a.Name, a.Value)
	switch a.Name {
	case "NAME":
		o.Name = value
	case "ADDR":
		if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
			value = value[5:]
		}
		if value != "" && !addr.ValidHostaddr(value) {
			return bad
		}
		o.Address = value
	case "PORT":
		if _, ok := portAttribute(a.Value); !ok {
			return bad
		}
		o.Port = value
	case "PROTO":
		if len(value) > maxProtocol {
			return bad
		}
		o.Protocol = value
	case "HELO":
		o.Helo = value
	case "IDENT":
		o.QueueID = value
	case "SOURCE":
		o.Source = strings.ToLower(value)
		if o.Source != "local" && o.Source != "remote" && o.Source != "" {
			return bad
		}
	default:
		return errors.New("501 5.5.4 Bad XFORWARD attribute name: " + a.Name)
	}
	return nil
}
