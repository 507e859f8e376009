package macro

import (
	"strconv"
	"strings"
)

// relation is {left} operator {right}.
type relation struct {
	left, right string
	operator    string
	level       bool // compatibility levels are compared, not text or numbers
}

func (c *cursor) relation() (*relation, error) {
	left, err := c.payload()
	if err != nil {
		return nil, err
	}
	r := &relation{left: left}
	before := "{" + left + "} "
	for _, operator := range [...]string{"==", "!=", "<=", ">=", "<", ">"} {
		if strings.HasPrefix(c.rest, operator) {
			r.operator, c.passed, c.rest = operator, operator, c.rest[len(operator):]
			break
		}
	}
	if r.operator == "" {
		return nil, c.fail(`"==" or "!="" or "<"" or "<="" or ">="" or ">" expected`)
	}
	if n := nameLength(c.rest); n > 0 {
		if c.rest[:n] != "level" {
			return nil, c.fail("bad operator suffix")
		}
		r.level, c.rest = true, c.rest[n:]
		c.passed += "level"
	}
	c.passed = before + c.passed
	r.right, err = c.payload()
	return r, err
}

// holds expands both sides and compares them: as compatibility levels, as
// numbers when both are all digits, else as text.
func (r *expansion) holds(rel *relation, depth int) (bool, error) {
	left, err := r.side(rel.left, depth)
	if err != nil {
		return false, err
	}
	right, err := r.side(rel.right, depth)
	if err != nil {
		return false, err
	}
	sign := strings.Compare(left, right)
	switch {
	case rel.level:
		l, err := ParseLevel(left)
		if err != nil {
			return false, err
		}
		m, err := ParseLevel(right)
		if err != nil {
			return false, err
		}
		sign = l.Compare(m)
	case isDigits(left) && isDigits(right):
		l, m := strings.TrimLeft(left, "0"), strings.TrimLeft(right, "0")
		if sign = len(l) - len(m); sign == 0 {
			sign = strings.Compare(l, m)
		}
	}
	switch rel.operator {
	case "==":
		return sign == 0, nil
	case "!=":
		return sign != 0, nil
	case "<":
		return sign < 0, nil
	case "<=":
		return sign <= 0, nil
	case ">":
		return sign > 0, nil
	default:
		return sign >= 0, nil
	}
}

func (r *expansion) side(text string, depth int) (string, error) {
	var out strings.Builder
	flat := *r.Expander
	flat.Filter = nil // the filter is for what is inserted
	inner := &expansion{Expander: &flat, calls: r.calls, size: r.size}
	err := inner.expand(&out, text, depth+1)
	r.calls, r.size = inner.calls, inner.size
	return out.String(), err
}

func isDigits(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}

// Level is a compatibility level: major, minor and patch number.
type Level [3]int

// ParseLevel reads "major[.minor[.patch]]". The error has Postfix's words.
func ParseLevel(text string) (Level, error) {
	var level Level
	parts := strings.Split(text, ".")
	if len(parts) > len(level) {
		return Level{}, syntaxf("malformed compatibility level syntax: \"%s\"", text)
	}
	for i, part := range parts {
		part = strings.TrimLeft(part, space)
		n, err := strconv.Atoi(part)
		if err != nil || !isDigits(part) {
			return Level{}, syntaxf("malformed compatibility level syntax: \"%s\"", text)
		}
		if i > 0 && n >= 1024 || n > 1<<20 {
			return Level{}, syntaxf("malformed compatibility level syntax: \"%s\"", text)
		}
		level[i] = n
	}
	return level, nil
}

// Compare is negative when l is older than other, zero when equal, else positive.
func (l Level) Compare(other Level) int {
	for i := range l {
		if l[i] != other[i] {
			return l[i] - other[i]
		}
	}
	return 0
}
