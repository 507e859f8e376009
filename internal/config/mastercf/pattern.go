package mastercf

import "strings"

// Pattern selects entries: service, service/type or service/type/member, where
// "*" stands for any and missing parts are "*".
type Pattern struct {
	Text                  string // as given
	Service, Type, Member string
}

// ParsePattern reads a pattern of at least least and at most most parts.
func ParsePattern(text string, least, most int) (Pattern, bool) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == '/' })
	// A service may have slashes of its own only when it is a path name.
	if strings.HasPrefix(text, "/") || len(parts) < least || len(parts) > most {
		return Pattern{}, false
	}
	for len(parts) < 3 {
		parts = append(parts, "*")
	}
	return Pattern{Text: text, Service: parts[0], Type: parts[1], Member: parts[2]}, true
}

// Matches tells whether the pattern selects an entry of that name and type.
func (p Pattern) Matches(service, kind string) bool {
	return (p.Service == "*" || p.Service == service) && (p.Type == "*" || p.Type == kind)
}

// AnyMember tells whether the last part is "*".
func (p Pattern) AnyMember() bool { return p.Member == "*" }

// FieldIndex is the column of a field name, or -1.
func FieldIndex(name string) int {
	for i, field := range Fields {
		if field == name {
			return i
		}
	}
	return -1
}
