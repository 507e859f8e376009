package mailtls

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// suite is a cipher suite of crypto/tls, by OpenSSL's name and the words that
// select it (ciphers(1)).
type suite struct {
	id       uint16
	name     string
	use, alg int // bits
	words    string
}

// suites up to TLS 1.2; those of TLS 1.3 cannot be chosen in crypto/tls.
var suites = [...]suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", 256, 256, "HIGH ECDHE aECDSA AES AES256 AESGCM AEAD TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", 256, 256, "HIGH ECDHE aRSA AES AES256 AESGCM AEAD TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", 256, 256, "HIGH ECDHE aECDSA CHACHA20 AEAD TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", 256, 256, "HIGH ECDHE aRSA CHACHA20 AEAD TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", 128, 128, "HIGH ECDHE aECDSA AES AES128 AESGCM AEAD TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", 128, 128, "HIGH ECDHE aRSA AES AES128 AESGCM AEAD TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, "ECDHE-ECDSA-AES128-SHA256", 128, 128, "HIGH ECDHE aECDSA AES AES128 SHA256 TLSv1.2"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, "ECDHE-RSA-AES128-SHA256", 128, 128, "HIGH ECDHE aRSA AES AES128 SHA256 TLSv1.2"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", 256, 256, "HIGH ECDHE aECDSA AES AES256 SHA TLSv1"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", 256, 256, "HIGH ECDHE aRSA AES AES256 SHA TLSv1"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", 128, 128, "HIGH ECDHE aECDSA AES AES128 SHA TLSv1"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", 128, 128, "HIGH ECDHE aRSA AES AES128 SHA TLSv1"},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384", 256, 256, "HIGH kRSA aRSA AES AES256 AESGCM AEAD TLSv1.2"},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256", 128, 128, "HIGH kRSA aRSA AES AES128 AESGCM AEAD TLSv1.2"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA256, "AES128-SHA256", 128, 128, "HIGH kRSA aRSA AES AES128 SHA256 TLSv1.2"},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA", 256, 256, "HIGH kRSA aRSA AES AES256 SHA SSLv3"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA", 128, 128, "HIGH kRSA aRSA AES AES128 SHA SSLv3"},
	{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, "ECDHE-RSA-DES-CBC3-SHA", 112, 168, "MEDIUM ECDHE aRSA 3DES SHA TLSv1"},
	{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, "DES-CBC3-SHA", 112, 168, "MEDIUM kRSA aRSA 3DES SHA SSLv3"},
	{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, "ECDHE-ECDSA-RC4-SHA", 128, 128, "MEDIUM ECDHE aECDSA RC4 SHA TLSv1"},
	{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, "ECDHE-RSA-RC4-SHA", 128, 128, "MEDIUM ECDHE aRSA RC4 SHA TLSv1"},
	{tls.TLS_RSA_WITH_RC4_128_SHA, "RC4-SHA", 128, 128, "MEDIUM kRSA aRSA RC4 SHA SSLv3"},
}

// tls13 are the suites of TLS 1.3: name and bits for the log.
var tls13 = [...]suite{
	{tls.TLS_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", 128, 128, ""},
	{tls.TLS_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", 256, 256, ""},
	{tls.TLS_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", 256, 256, ""},
}

// alias are other words for those in the table.
var alias = map[string][]string{
	"KECDHE": {"ECDHE"}, "KEECDH": {"ECDHE"}, "EECDH": {"ECDHE"}, "RSA": {"kRSA", "aRSA"},
	"ECDSA": {"aECDSA"}, "SHA1": {"SHA"}, "TLSV1.0": {"TLSv1", "SSLv3"},
}

// others are words of OpenSSL for suites that crypto/tls does not have.
const others = " ANULL ENULL NULL COMPLEMENTOFALL COMPLEMENTOFDEFAULT SEED IDEA DES RC2 RC5 MD5 KDH KECDH KDHR KDHD KDHE KEDH DHE EDH ADH " +
	"AECDH ECDH KECDHR ADSS DSS ADH AECDH DH EXP EXPORT EXPORT40 EXPORT56 LOW CAMELLIA CAMELLIA128 CAMELLIA256 ARIA ARIA128 ARIA256 " +
	"ARIAGCM AESCCM AESCCM8 PSK KPSK APSK KECDHEPSK KDHEPSK KRSAPSK SRP KSRP ASRP GOST GOST89MAC GOST94 KGOST AGOST AGOST01 SHA384 CBC "

// find returns the suites that an element such as "kRSA+AES" selects.
func find(element string) (ids []uint16, known bool) {
	for _, s := range suites {
		if strings.EqualFold(element, s.name) {
			return []uint16{s.id}, true
		}
	}
	matches := func(s suite, word string) bool {
		words := alias[strings.ToUpper(word)]
		if words == nil {
			words = []string{word}
		}
		return slices.ContainsFunc(strings.Fields(s.words), func(have string) bool {
			return slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, have) })
		})
	}
	known = true
	for _, word := range strings.Split(element, "+") {
		if !strings.EqualFold(word, "ALL") && !strings.EqualFold(word, "DEFAULT") && !slices.ContainsFunc(suites[:], func(s suite) bool { return matches(s, word) }) {
			known = known && (strings.Contains(others, " "+strings.ToUpper(word)+" ") || looksLikeSuite(word))
		}
	}
	for _, s := range suites {
		if !slices.ContainsFunc(strings.Split(element, "+"), func(word string) bool {
			return !strings.EqualFold(word, "ALL") && !strings.EqualFold(word, "DEFAULT") && !matches(s, word)
		}) {
			ids = append(ids, s.id)
		}
	}
	return ids, known
}

// looksLikeSuite tells names of single suites, most of which crypto/tls does
// not have, from misprints.
func looksLikeSuite(word string) bool {
	return strings.Count(word, "-") >= 1 || strings.HasPrefix(word, "TLS_")
}

// ParseCiphers reads a cipher list of OpenSSL (ciphers(1)) as far as crypto/tls
// has its suites. The order means nothing there. unknown are the words that no
// version of OpenSSL knows.
func ParseCiphers(text string) (ids []uint16, unknown []string) {
	killed := map[uint16]bool{}
	for element := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(":, \t\r\n", r) }) {
		sign := element[0]
		if strings.IndexByte("!-+@", sign) >= 0 {
			element = element[1:]
		}
		if sign == '@' || element == "" {
			continue // an order, or OpenSSL's own idea of strength
		}
		selected, known := find(element)
		if !known {
			unknown = append(unknown, element)
			continue
		}
		for _, id := range selected {
			at := slices.Index(ids, id)
			switch {
			case sign == '!' || sign == '-':
				if at >= 0 {
					ids = slices.Delete(ids, at, at+1)
				}
				killed[id] = killed[id] || sign == '!'
			case sign != '+' && at < 0 && !killed[id]:
				ids = append(ids, id)
			}
		}
	}
	return ids, unknown
}

// CipherLists are the lists behind the cipher grades.
type CipherLists struct {
	High   string `param:"tls_high_cipherlist"`
	Medium string `param:"tls_medium_cipherlist"`
	Low    string `param:"tls_low_cipherlist"`
	Export string `param:"tls_export_cipherlist"`
	Null   string `param:"tls_null_cipherlist"`
}

// grade is the list of a grade; obsolete grades without a list are "medium".
func (l CipherLists) grade(name string) (list string, ok bool) {
	switch strings.ToLower(name) {
	case "high":
		list = l.High
	case "medium":
		list = l.Medium
	case "low":
		if list = l.Low; list == "" {
			list = l.Medium
		}
	case "export":
		if list = l.Export; list == "" {
			list = l.Medium
		}
	case "null":
		list = l.Null
	default:
		return "", false
	}
	return list, true
}

// choose is the suites of a grade without the excluded ones.
func (l CipherLists) choose(grade, exclude string) (ids []uint16, note string, err error) {
	list, ok := l.grade(grade)
	if !ok {
		return nil, "", fmt.Errorf("invalid cipher grade: \"%s\"", grade)
	}
	for word := range strings.FieldsFuncSeq(exclude, func(r rune) bool { return strings.ContainsRune(":, \t\r\n", r) }) {
		list += ":!" + strings.TrimLeft(word, "!")
	}
	ids, unknown := ParseCiphers(list)
	if len(unknown) > 0 {
		note = fmt.Sprintf("cipher list \"%s\": unknown: %s", list, strings.Join(unknown, " "))
	}
	if len(ids) == 0 {
		note = fmt.Sprintf("cipher list \"%s\": crypto/tls has none of these ciphers for TLSv1.2 and before", list)
	}
	return ids, note, nil
}

// describe names a negotiated suite.
func describe(id uint16) suite {
	for _, list := range [][]suite{tls13[:], suites[:]} {
		for _, s := range list {
			if s.id == id {
				return s
			}
		}
	}
	return suite{name: tls.CipherSuiteName(id)}
}
