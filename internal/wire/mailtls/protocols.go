package mailtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Versions is a range of protocol versions, as crypto/tls takes it.
type Versions struct{ Min, Max uint16 }

// versionNames are the protocols that crypto/tls knows, oldest first.
var versionNames = [...]struct {
	id   uint16
	name string
}{{tls.VersionTLS10, "TLSv1"}, {tls.VersionTLS11, "TLSv1.1"}, {tls.VersionTLS12, "TLSv1.2"}, {tls.VersionTLS13, "TLSv1.3"}}

// versionName is the name in the log.
func versionName(id uint16) string {
	for _, v := range versionNames {
		if v.id == id {
			return v.name
		}
	}
	return fmt.Sprintf("0x%04x", id)
}

// parseVersion reads a name or the hexadecimal number of a protocol. Those that
// are older than what crypto/tls knows are 0.
func parseVersion(word string) (uint16, bool) {
	switch strings.ToUpper(word) {
	case "SSLV2", "SSLV3":
		return 0, true
	}
	for _, v := range versionNames {
		if strings.EqualFold(v.name, word) {
			return v.id, true
		}
	}
	return 0, false
}

// parseBound is parseVersion for a bound, which may be a number.
func parseBound(word string) (uint16, bool) {
	if id, ok := parseVersion(word); ok {
		return id, true
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(word, "0x"), 16, 16); err == nil && n >= 0x0300 {
		return uint16(n), true
	}
	return 0, false
}

// ParseProtocols reads a list such as ">=TLSv1.2" or "!SSLv2, !SSLv3"
// (postconf(5) smtpd_tls_mandatory_protocols). note says what crypto/tls cannot
// do about it: leave out a version in the middle.
func ParseProtocols(text string) (v Versions, note string, err error) {
	excluded, included := map[uint16]bool{}, map[uint16]bool{}
	low, high := uint16(0), uint16(0xffff)
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n:", r) }) {
		var id uint16
		var ok bool
		switch {
		case strings.HasPrefix(word, ">="):
			id, ok = parseBound(word[2:])
			low = id
		case strings.HasPrefix(word, "<="):
			id, ok = parseBound(word[2:])
			high = id
		case word[0] == '!':
			id, ok = parseVersion(word[1:])
			excluded[id] = true
		default:
			id, ok = parseVersion(word)
			included[id] = true
		}
		if !ok {
			return v, "", fmt.Errorf("invalid TLS protocol list \"%s\"", text)
		}
	}
	var usable []bool
	for _, k := range versionNames {
		usable = append(usable, k.id >= low && k.id <= high && !excluded[k.id] && (len(included) == 0 || included[k.id]))
	}
	return newestRange(usable)
}

// newestRange is the newest versions without a gap.
func newestRange(usable []bool) (v Versions, note string, err error) {
	i := len(usable) - 1
	for i >= 0 && !usable[i] {
		i--
	}
	if i < 0 {
		return v, "", errors.New("no protocol version is left")
	}
	v.Max = versionNames[i].id
	for ; i >= 0 && usable[i]; i-- {
		v.Min = versionNames[i].id
	}
	for ; i >= 0; i-- {
		if usable[i] {
			note = fmt.Sprintf("%s is not used: versions between it and %s are excluded", versionNames[i].name, versionName(v.Min))
			break
		}
	}
	return v, note, nil
}
