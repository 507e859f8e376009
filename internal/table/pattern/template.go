package pattern

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"posthaste/internal/sys/maillog"
)

// template is the result of a rule: literal text and numbers of groups.
type template struct {
	parts []part
	max   int // the highest group number
}

// part is text, or when group > 0, a group.
type part struct {
	text  string
	group int
}

var errSyntax = errors.New("bad replacement syntax: skipping this rule")

// parseTemplate reads "text $1 ${2} $(3) $$". what begins the complaints about
// details, "regexp map FILE, line N: ".
func parseTemplate(log *maillog.Logger, what, source string) (template, error) {
	outOfRange := "out of range"
	if strings.HasPrefix(what, "regexp") {
		outOfRange = "out-of-range"
	}
	var t template
	var text strings.Builder
	for i := 0; i < len(source); {
		if source[i] != '$' {
			text.WriteByte(source[i])
			i++
			continue
		}
		if strings.HasPrefix(source[i:], "$$") {
			text.WriteByte('$')
			i += 2
			continue
		}
		name, end := macroName(source, i+1)
		if end < 0 {
			log.Warnf("truncated macro reference: \"%s\"", source)
			return t, errSyntax
		}
		if name == "" {
			log.Warnf("empty macro name: \"%s\"", source)
			return t, errSyntax
		}
		n, err := groupNumber(name, outOfRange)
		if err != nil {
			log.Warnf("%s%s", what, err)
			return t, errSyntax
		}
		t.parts = append(t.parts, part{text: text.String()}, part{group: n})
		t.max = max(t.max, n)
		text.Reset()
		i = end
	}
	t.parts = append(t.parts, part{text: text.String()})
	return t, nil
}

// macroName reads a name after "$". end is -1 when a bracket is not closed.
func macroName(s string, at int) (name string, end int) {
	if at < len(s) && (s[at] == '{' || s[at] == '(') {
		open, closing := s[at], byte('}')
		if open == '(' {
			closing = ')'
		}
		depth := 0
		for i := at; i < len(s); i++ {
			switch s[i] {
			case open:
				depth++
			case closing:
				depth--
			}
			if depth == 0 {
				return s[at+1 : i], i + 1
			}
		}
		return "", -1
	}
	end = at
	for end < len(s) && (s[end] == '_' || isAlnum(s[end])) {
		end++
	}
	return s[at:end], end
}

// maxGroup is far above what any pattern has.
const maxGroup = 1 << 16

func groupNumber(name, outOfRange string) (int, error) {
	if strings.Trim(name, "0123456789") != "" {
		return 0, fmt.Errorf("non-numeric replacement index \"%s\"", name)
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 || n > maxGroup {
		return 0, fmt.Errorf("%s replacement index \"%s\"", outOfRange, name)
	}
	return n, nil
}

// expand fills the groups in.
func (t template) expand(groups []string) string {
	if t.max == 0 {
		return t.parts[0].text
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.group > 0 && p.group < len(groups) {
			b.WriteString(groups[p.group])
		}
		b.WriteString(p.text)
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

const space = " \t\n\v\f\r"

func isSpace(c byte) bool { return strings.IndexByte(space, c) >= 0 }
