package greylist

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are those of postgrey(8), and some more. The zero value of each is
// its default.
type Settings struct {
	Delay       time.Duration // 5 minutes; negative for none
	MaxAge      time.Duration // 35 days
	RetryWindow time.Duration // 2 days
	// AutoWhitelist is how many deliveries, an hour apart, make a client known:
	// 5; negative turns it off.
	AutoWhitelist int
	Action        string // DEFER_IF_PERMIT
	Text          string // with %s (seconds to wait) and %r (recipient's domain)
	Header        string // with %t (seconds waited), %v, %h (Hostname), %d (date)
	Hostname      string
	Version       string // %v
	LookupByHost  bool   // whole client addresses, not networks
	IPv4Bits      int    // of a network: 24
	IPv6Bits      int    // 64
	Privacy       bool   // keep digests only
	Quiet         bool   // no log lines about decisions

	StripTags  bool     // BATV, SRS and VERP in any form, not only postgrey's
	Signs      []Sign   // greylist only clients that show one; none: all clients
	Providers  Provider // by what else clients are recognised
	MaxEntries int      // 5 million triplets
}

// The texts of postgrey.
const (
	DefaultText   = "Greylisted, see http://postgrey.schweikert.ch/help/%r.html"
	DefaultHeader = "X-Greylist: delayed %t seconds by postgrey-%v at %h; %d"
	PostgreyLevel = "1.37" // the version whose behaviour this is
)

const day = 24 * time.Hour

func (s Settings) withDefaults() Settings {
	orDuration := func(to *time.Duration, d time.Duration) {
		if *to == 0 {
			*to = d
		}
	}
	orInt := func(to *int, n int) {
		if *to == 0 {
			*to = n
		}
	}
	orText := func(to *string, text string) {
		if *to == "" {
			*to = text
		}
	}
	orDuration(&s.Delay, 5*time.Minute)
	orDuration(&s.MaxAge, 35*day)
	orDuration(&s.RetryWindow, 2*day)
	orInt(&s.AutoWhitelist, 5)
	orInt(&s.IPv4Bits, 24)
	orInt(&s.IPv6Bits, 64)
	orInt(&s.MaxEntries, 5_000_000)
	orText(&s.Action, "DEFER_IF_PERMIT")
	orText(&s.Text, DefaultText)
	orText(&s.Header, DefaultHeader)
	orText(&s.Version, PostgreyLevel)
	s.AutoWhitelist = max(s.AutoWhitelist, 0)
	return s
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// expired reports whether an entry is too old to count. With pressure, ages
// are halved that often: for a store that is full.
func (s *Settings) expired(e Entry, now int64, pressure uint) bool {
	if e.passed() {
		return now-e.Last > seconds(s.MaxAge)>>pressure
	}
	return now-e.First > seconds(s.RetryWindow)>>pressure
}

// enhancedForm is what a text with its own enhanced status code begins with.
var enhancedForm = regexp.MustCompile(`^[0-9]\.[0-9]+\.[0-9]+`)

// refusal is the action for a client that has to wait.
func (s *Settings) refusal(wait int64, r Request) string {
	domain := r.Recipient[strings.LastIndexByte(r.Recipient, '@')+1:]
	text := strings.ReplaceAll(strings.ReplaceAll(s.Text, "%s", itoa(wait)), "%r", domain)
	if r.Enhanced && !enhancedForm.MatchString(text) {
		text = "4.2.0 " + text
	}
	return s.Action + " " + text
}

// header is the header for a message that had to wait.
func (s *Settings) header(waited int64, now time.Time) string {
	return strings.NewReplacer("%t", itoa(waited), "%v", s.Version, "%h", s.Hostname,
		"%d", now.Format("Mon, 02 Jan 2006 15:04:05 MST")).Replace(s.Header)
}

// parseAddress reads a client address; IPv6 forms of IPv4 addresses are IPv4.
func parseAddress(text string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(text)
	return ip.Unmap().WithZone(""), err == nil
}

// network is the part of a client address that counts.
func (s *Settings) network(ip netip.Addr, text string) string {
	if s.LookupByHost {
		return text
	}
	bits := s.IPv6Bits
	if ip.Is4() {
		bits = s.IPv4Bits
	}
	prefix, err := ip.Prefix(min(max(bits, 0), ip.BitLen()))
	if err != nil {
		return text
	}
	if prefix.Addr().Is4() {
		return prefix.Addr().String()
	}
	// All eight groups without leading zeros, as postgrey has them.
	b := prefix.Addr().As16()
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = strconv.FormatUint(uint64(b[2*i])<<8|uint64(b[2*i+1]), 16)
	}
	return strings.Join(groups, ":")
}

// maxKey bounds a key; what is longer is cut, with a digest of all of it.
const maxKey = 600

func (s *Settings) tripletKey(client, sender, recipient string) string {
	key := client + "/" + sender + "/" + recipient
	if len(key) > maxKey {
		sum := sha256.Sum256([]byte(key))
		key = key[:maxKey-2*len(sum)] + hex.EncodeToString(sum[:])
	}
	return s.hide(key)
}

// hide is a key as the store has it.
func (s *Settings) hide(key string) string {
	if !s.Privacy {
		return key
	}
	sum := sha1.Sum([]byte(key))
	return hex.EncodeToString(sum[:])
}

// sender is the part of a sender that stays the same when the message comes
// again: without extension, numbers and signatures.
func (s *Settings) sender(sender, recipient string) string {
	at := strings.LastIndexByte(sender, '@')
	if at < 0 {
		return strings.ToLower(sender)
	}
	local, domain := sender[:at], sender[at:]
	local, _, _ = strings.Cut(local, "+")
	if s.StripTags {
		local = stripTags(local, recipient)
	}
	return strings.ToLower(withoutNumbers(unsigned(local)) + domain)
}

// tagDigits is what a signature of BATV begins with.
const tagDigits = "0123456789abcdefABCDEF"

// unsigned takes a signature "prvs=TAG=user" or "prvs=user=TAG" off.
func unsigned(local string) string {
	rest, ok := strings.CutPrefix(local, "prvs=")
	first, second, two := strings.Cut(rest, "=")
	if !ok || !two || second == "" || strings.Contains(second, "=") || strings.Contains(rest, "/") {
		return local
	}
	if isTag(second) && !isTag(first) && first != "" {
		return first
	}
	return second
}

func isTag(text string) bool { return len(text) >= 10 && strings.Trim(text[:10], tagDigits) == "" }

// withoutNumbers puts "#" for each number that is a word of its own.
func withoutNumbers(text string) string {
	if !strings.ContainsAny(text, "0123456789") {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		n := strings.IndexFunc(text, func(r rune) bool { return !isWord(r) })
		if n < 0 {
			n = len(text)
		}
		if n > 0 && strings.Trim(text[:n], "0123456789") == "" {
			b.WriteByte('#')
		} else {
			b.WriteString(text[:n])
		}
		if n < len(text) {
			b.WriteByte(text[n])
			n++
		}
		text = text[n:]
	}
	return b.String()
}

// isWord reports the characters of words: only ASCII ones are.
func isWord(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// The forms of signed and rewritten senders: BATV by any name, and SRS, whose
// hash and date change with each message.
var (
	batvForm = regexp.MustCompile(`(?i)^(?:btv1==[^=]+==|(?:ms)?prvs[0-9]*=[^=]+=)(.+)$`)
	srs0Form = regexp.MustCompile(`(?i)^srs0[-+=][^=]+=[^=]+=([^=]+)=(.+)$`)
	srs1Form = regexp.MustCompile(`(?i)^srs1[-+=][^=]+=([^=]+)=[-+=][^=]+=[^=]+=([^=]+)=(.+)$`)
	wordForm = regexp.MustCompile(`[0-9A-Za-z]+`)
	runForm  = regexp.MustCompile(`#(?:[-._=]#)+`)
)

// stripTags takes off what changes from try to try, in the forms that are
// known, and what looks like an identifier.
func stripTags(local, recipient string) string {
	if m := batvForm.FindStringSubmatch(local); m != nil {
		local = m[1]
	}
	if m := srs0Form.FindStringSubmatch(local); m != nil {
		return "srs0=" + m[1] + "=" + m[2]
	}
	if m := srs1Form.FindStringSubmatch(local); m != nil {
		return "srs1=" + m[1] + "=" + m[2] + "=" + m[3]
	}
	if user, domain, ok := strings.Cut(recipient, "@"); ok {
		local = strings.Replace(local, user+"="+domain, "#", 1)
	}
	words := wordForm.FindAllString(local, -1)
	if slices.ContainsFunc(words, isIdentifier) {
		// Its neighbours with digits are part of it.
		local = wordForm.ReplaceAllStringFunc(local, func(word string) string {
			if strings.ContainsAny(word, "0123456789") {
				return "#"
			}
			return word
		})
	}
	return runForm.ReplaceAllString(local, "#")
}

// isIdentifier reports words with digits that nobody would call a user.
func isIdentifier(word string) bool {
	digits := 0
	for _, r := range word {
		if '0' <= r && r <= '9' {
			digits++
		}
	}
	return digits == len(word) || digits >= 2 && len(word) >= 8 || digits >= 4
}

// printable is text as the log has it: what is not printable ASCII as %XX.
func printable(text string) string {
	clean := true
	for i := 0; i < len(text); i++ {
		clean = clean && text[i] >= ' ' && text[i] < 0x7f
	}
	if clean {
		return text
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if c := text[i]; c >= ' ' && c < 0x7f {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
