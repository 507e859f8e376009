package smtp

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// nexthop is one parsed destination of a transport, as in "[host]:587".
type nexthop struct {
	text      string // as configured, for messages
	host      string // without brackets
	port      string
	bracketed bool   // no MX lookup
	socket    string // path of a UNIX-domain socket, for LMTP
}

// parseNexthops reads a destination list: commas or blanks between entries
// (smtp(8), transport(5)). port is the default port or service name.
func parseNexthops(text, port string, lmtp bool) ([]nexthop, error) {
	var all []nexthop
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		n, err := parseNexthop(word, port, lmtp)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

func parseNexthop(text, port string, lmtp bool) (nexthop, error) {
	n := nexthop{text: text, port: port}
	rest := text
	if path, ok := strings.CutPrefix(rest, "unix:"); ok && lmtp {
		n.socket = path
		return n, nil
	}
	if lmtp {
		rest = strings.TrimPrefix(rest, "inet:")
	}
	if strings.HasPrefix(rest, "[") {
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return n, fmt.Errorf("missing \"]\" in destination: %s", text)
		}
		n.host, n.bracketed = rest[1:end], true
		rest = rest[end+1:]
		if rest != "" && rest[0] != ':' {
			return n, fmt.Errorf("garbage after \"]\" in destination: %s", text)
		}
		rest = strings.TrimPrefix(rest, ":")
	} else {
		n.host, rest, _ = strings.Cut(rest, ":")
	}
	if rest != "" {
		n.port = rest
	}
	if n.host == "" {
		return n, fmt.Errorf("no host name in destination: %s", text)
	}
	if lmtp {
		n.bracketed = true // RFC 2033: no MX lookups for LMTP
	}
	return n, nil
}

// portNumber resolves a service name or number.
func portNumber(port string) (uint16, error) {
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		return uint16(n), nil
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("unknown service: %s/tcp", port)
	}
	return uint16(n), nil
}
