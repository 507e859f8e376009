package smtpproto

import "strings"

// Keywords is a set of EHLO keywords, as in postconf(5)
// smtpd_discard_ehlo_keywords and smtp_discard_ehlo_keywords.
type Keywords uint32

const (
	Keyword8BITMIME Keywords = 1 << iota
	KeywordAUTH
	KeywordETRN
	KeywordPIPELINING
	KeywordSIZE
	KeywordSTARTTLS
	KeywordXVERP
	KeywordVRFY
	KeywordXCLIENT
	KeywordXFORWARD
	KeywordENHANCEDSTATUSCODES
	KeywordDSN
	KeywordSMTPUTF8
	KeywordCHUNKING
	KeywordREQUIRETLS
	KeywordSilent // "silent-discard": do not log what is discarded
)

// keywordNames in the order of the constants, which is that of the log.
var keywordNames = [...]string{
	"8BITMIME", "AUTH", "ETRN", "PIPELINING", "SIZE", "STARTTLS", "XVERP", "VRFY", "XCLIENT", "XFORWARD",
	"ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING", "REQUIRETLS", "SILENT-DISCARD",
}

// ParseKeywords reads a list of keywords in any case. Unknown ones are
// ignored: they are not offered anyway.
func ParseKeywords(text string) Keywords {
	var set Keywords
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		for i, name := range keywordNames {
			if strings.EqualFold(word, name) {
				set |= 1 << i
			}
		}
	}
	return set
}

// String lists the keywords, without silent-discard.
func (k Keywords) String() string {
	var words []string
	for i, name := range keywordNames {
		if k&(1<<i) != 0 && 1<<i != KeywordSilent {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}
