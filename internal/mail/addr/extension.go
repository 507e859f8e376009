package addr

import "strings"

// Extensions says how a local part divides into user and extension.
type Extensions struct {
	// Delimiters is a set of characters, postconf(5) recipient_delimiter; ""
	// means no extensions.
	Delimiters string
	// OwnerRequest is postconf(5) owner_request_special: with "-" among the
	// delimiters, owner-name and name-request stay whole.
	OwnerRequest bool
	// DoubleBounce is postconf(5) double_bounce_sender, which stays whole.
	DoubleBounce string
}

// Split divides a local part at the first delimiter. ext starts with that
// delimiter, and is "" when there is nothing to split off: postmaster,
// mailer-daemon and the double-bounce address stay whole, and so does what
// would leave nothing on either side.
func (e Extensions) Split(local string) (user, ext string) {
	if e.Delimiters == "" {
		return local, ""
	}
	at := strings.IndexAny(local, e.Delimiters)
	if at <= 0 || at == len(local)-1 || e.reserved(local) {
		return local, ""
	}
	return local[:at], local[at:]
}

func (e Extensions) reserved(local string) bool {
	if strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "mailer-daemon") ||
		strings.EqualFold(local, e.DoubleBounce) {
		return true
	}
	if !e.OwnerRequest || !strings.Contains(e.Delimiters, "-") {
		return false
	}
	return hasPrefixFold(local, "owner-") || hasSuffixFold(local, "-request")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) > len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}
