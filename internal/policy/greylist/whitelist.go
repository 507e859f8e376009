package greylist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// Whitelist names clients and recipients that are never greylisted, in the
// file format of postgrey. The zero value names none. It is not changed once
// it is in use.
type Whitelist struct {
	hosts     map[string]bool // names, with subdomains
	addresses map[netip.Addr]bool
	networks  []netip.Prefix
	clients   []matcher

	domains    map[string]bool // of recipients, with subdomains
	users      map[string]bool // user@ at any domain
	mailboxes  map[string]bool // user@domain
	recipients []matcher
}

// matcher is a regular expression.
type matcher interface{ matches(text string) bool }

// linear is an expression with a text that all it matches have in them, in
// lower case: most names are done with that.
type linear struct {
	*regexp.Regexp
	literal string
}

func (m linear) matches(text string) bool {
	return (m.literal == "" || !isASCII(text) || strings.Contains(strings.ToLower(text), m.literal)) && m.MatchString(text)
}

func isASCII(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// literal is the longest text that whatever an expression matches has in it.
func literal(expression string) string {
	tree, err := syntax.Parse(expression, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return ""
	}
	parts := []*syntax.Regexp{tree.Simplify()}
	if parts[0].Op == syntax.OpConcat {
		parts = parts[0].Sub
	}
	longest := ""
	for _, part := range parts {
		if text := strings.ToLower(string(part.Rune)); part.Op == syntax.OpLiteral && len(text) > len(longest) && isASCII(text) {
			longest = text
		}
	}
	return longest
}

type backtracking struct{ *regexp2.Regexp }

func (m backtracking) matches(text string) bool {
	ok, err := m.MatchString(text)
	return ok && err == nil
}

// matchTimeout bounds expressions that only the slow engine understands.
const matchTimeout = 50 * time.Millisecond

// expression compiles what is between the slashes; case does not count.
func expression(text string) (matcher, error) {
	if re, err := regexp.Compile("(?i)" + text); err == nil {
		return linear{re, literal(text)}, nil
	}
	re, err := regexp2.Compile(text, regexp2.IgnoreCase)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = matchTimeout
	return backtracking{re}, nil
}

// Complaint is a line of a whitelist file that is not used.
type Complaint struct {
	File string
	Line int
	Err  error
}

// Error is "file line 3: reason".
func (c Complaint) Error() string { return fmt.Sprintf("%s line %d: %v", c.File, c.Line, c.Err) }

// Unwrap gives the reason.
func (c Complaint) Unwrap() error { return c.Err }

// maxLine bounds a line of a whitelist file.
const maxLine = 1 << 16

// AddClients reads a file of clients, and AddRecipients one of recipients. A
// file that does not exist is empty. Lines that make no sense are complained
// about; the others count.
func (w *Whitelist) AddClients(path string) error { return w.file(path, w.AddClient) }

// AddRecipients reads a file of recipients; see AddClients.
func (w *Whitelist) AddRecipients(path string) error { return w.file(path, w.AddRecipient) }

func (w *Whitelist) file(path string, add func(string) error) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	return w.read(path, file, add)
}

func (w *Whitelist) read(path string, r io.Reader, add func(string) error) error {
	var complaints []error
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		if pattern := strings.HasPrefix(text, "/") && strings.Count(text, "/") > 1; !pattern {
			text = strings.TrimSpace(strings.SplitN(text, "#", 2)[0])
		}
		if err := add(text); err != nil {
			complaints = append(complaints, Complaint{path, n, err})
		}
	}
	if err := lines.Err(); err != nil {
		complaints = append(complaints, fmt.Errorf("%s: %w", path, err))
	}
	return errors.Join(complaints...)
}

var (
	errHost    = errors.New("doesn't look like a hostname")
	errMailbox = errors.New("doesn't look like an address")
)

// AddClient adds a client: a name (which includes its subdomains), an address,
// a network ("192.0.2.0/24", "192.0.2"), or a regular expression in slashes
// for the verified name.
func (w *Whitelist) AddClient(text string) error {
	if re, ok := inSlashes(text); ok {
		m, err := expression(re)
		if err == nil {
			w.clients = append(w.clients, m)
		}
		return err
	}
	if ip, ok := parseAddress(text); ok {
		if w.addresses == nil {
			w.addresses = map[netip.Addr]bool{}
		}
		w.addresses[ip] = true
		return nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		w.networks = append(w.networks, prefix.Masked())
		return nil
	}
	if prefix, err := netip.ParsePrefix(text + ".0/24"); err == nil && strings.Count(text, ".") == 2 {
		w.networks = append(w.networks, prefix)
		return nil
	}
	if strings.ContainsAny(text, "/ \t") || text == "" {
		return errHost
	}
	if w.hosts == nil {
		w.hosts = map[string]bool{}
	}
	w.hosts[strings.ToLower(text)] = true
	return nil
}

// AddRecipient adds a recipient: "user@" at any domain, "user@domain" (both
// with their extensions), "domain" with its subdomains, or a regular
// expression in slashes for the whole address.
func (w *Whitelist) AddRecipient(text string) error {
	if re, ok := inSlashes(text); ok {
		m, err := expression(re)
		if err == nil {
			w.recipients = append(w.recipients, m)
		}
		return err
	}
	if strings.ContainsAny(text, "/ \t") || text == "" {
		return errMailbox
	}
	text = strings.ToLower(text)
	user, domain, ok := strings.Cut(text, "@")
	to := &w.mailboxes
	switch {
	case !ok:
		to = &w.domains
	case domain == "":
		to, text = &w.users, user
	}
	if *to == nil {
		*to = map[string]bool{}
	}
	(*to)[text] = true
	return nil
}

func inSlashes(text string) (string, bool) {
	if len(text) < 2 || text[0] != '/' || text[len(text)-1] != '/' {
		return "", false
	}
	return text[1 : len(text)-1], true
}

// Client reports whether a client is listed, by its verified name or address.
func (w *Whitelist) Client(name string, ip netip.Addr) bool {
	if w.addresses[ip] || withParents(w.hosts, strings.ToLower(name)) {
		return true
	}
	for _, network := range w.networks {
		if network.Contains(ip) {
			return true
		}
	}
	for _, m := range w.clients {
		if m.matches(name) {
			return true
		}
	}
	return false
}

// Recipient reports whether a recipient is listed.
func (w *Whitelist) Recipient(recipient string) bool {
	if len(w.domains)+len(w.users)+len(w.mailboxes) > 0 {
		lower := strings.ToLower(recipient)
		if at := strings.LastIndexByte(lower, '@'); at >= 0 {
			user, domain := lower[:at], lower[at+1:]
			base, _, _ := strings.Cut(user, "+")
			if w.users[user] || w.users[base] || w.mailboxes[lower] || w.mailboxes[base+"@"+domain] || withParents(w.domains, domain) {
				return true
			}
		}
	}
	for _, m := range w.recipients {
		if m.matches(recipient) {
			return true
		}
	}
	return false
}

// withParents looks for a domain and those above it.
func withParents(set map[string]bool, domain string) bool {
	if len(set) == 0 {
		return false
	}
	for {
		if set[domain] {
			return true
		}
		_, rest, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		domain = rest
	}
}
