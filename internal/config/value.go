package config

import (
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"posthaste/internal/config/macro"
	"posthaste/internal/config/params"
)

// Expander expands text with the values of this view.
func (v *View) Expander() *macro.Expander {
	return &macro.Expander{Lookup: v.lookup, Recurse: true, Functions: functions()}
}

func functions() map[string]func(string) (string, error) {
	return map[string]func(string) (string, error){
		"domain_to_ascii": func(domain string) (string, error) {
			ascii, err := idna.Lookup.ToASCII(domain)
			if err != nil {
				return domain, nil
			}
			return ascii, nil
		},
	}
}

// Bool is the value of a yes/no parameter, in any case of letters.
func (v *View) Bool(name string) (bool, error) {
	text, err := v.String(name)
	switch {
	case err != nil:
		return false, err
	case strings.EqualFold(text, "yes"):
		return true, nil
	case strings.EqualFold(text, "no"):
		return false, nil
	}
	return false, v.fail(name, "bad boolean configuration: %s = %s", name, text)
}

// Int is the value of a number, within the limits of the catalogue.
func (v *View) Int(name string) (int, error) {
	n, err := v.number(name, math.MinInt32, math.MaxInt32)
	return int(n), err
}

// Int64 is Int for sizes.
func (v *View) Int64(name string) (int64, error) {
	return v.number(name, math.MinInt64, math.MaxInt64)
}

func (v *View) number(name string, low, high int64) (int64, error) {
	text, err := v.String(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimLeft(text, blanks), 10, 64)
	if err != nil || n < low || n > high {
		return 0, v.fail(name, "bad numerical configuration: %s = %s", name, text)
	}
	p, ok := v.param(name)
	switch {
	case ok && n < p.Min:
		return 0, v.fail(name, "invalid %s parameter value %d < %d", name, n, p.Min)
	case ok && p.Max > 0 && n > p.Max:
		return 0, v.fail(name, "invalid %s parameter value %d > %d", name, n, p.Max)
	}
	return n, nil
}

// param finds a parameter, or what a transport's parameter of another name
// falls back to: its kind and limits are the same.
func (v *View) param(name string) (*params.Param, bool) {
	return v.snapshot.Param(name)
}

const blanks = " \t\n\v\f\r"

// Duration is the value of a time, whole seconds.
func (v *View) Duration(name string) (time.Duration, error) {
	unit := byte('s')
	p, ok := v.param(name)
	if ok {
		unit = p.TimeUnit()
	}
	return v.duration(name, unit)
}

func (v *View) duration(name string, unit byte) (time.Duration, error) {
	text, err := v.String(name)
	if err != nil {
		return 0, err
	}
	seconds, ok := ParseSeconds(text, unit)
	if !ok {
		return 0, v.fail(name, "parameter %s: bad time value or unit: %s", name, text)
	}
	p, ok := v.param(name)
	switch {
	case ok && int64(seconds) < p.Min:
		return 0, v.fail(name, "invalid %s: %d (min %d)", name, seconds, p.Min)
	case ok && p.Max > 0 && int64(seconds) > p.Max:
		return 0, v.fail(name, "invalid %s: %d (max %d)", name, seconds, p.Max)
	}
	return time.Duration(seconds) * time.Second, nil
}

// ParseSeconds reads a number with a unit s, m, h, d or w, or without one in
// the given unit. ok is false for anything else and for more than 2^31-1
// seconds.
func ParseSeconds(text string, unit byte) (seconds int, ok bool) {
	digits := strings.TrimLeft(text, blanks)
	if digits == "" {
		return 0, false
	}
	if last := digits[len(digits)-1]; last < '0' || last > '9' {
		digits, unit = digits[:len(digits)-1], last
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 {
		return 0, false
	}
	switch unit {
	case 'w':
		n *= 7 * 24 * 3600
	case 'd':
		n *= 24 * 3600
	case 'h':
		n *= 3600
	case 'm':
		n *= 60
	case 's':
	default:
		return 0, false
	}
	if n > math.MaxInt32 {
		return 0, false
	}
	return int(n), true
}

// Float is a number that may have a fraction.
func (v *View) Float(name string) (float64, error) {
	text, err := v.String(name)
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(strings.Trim(text, blanks), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, v.fail(name, "bad numerical configuration: %s = %s", name, text)
	}
	return f, nil
}

// Words is the value cut at commas and white space; a word may have braces
// around text that contains them.
func (v *View) Words(name string) ([]string, error) {
	text, err := v.String(name)
	if err != nil {
		return nil, err
	}
	return SplitWords(text), nil
}

// SplitWords cuts at commas and white space outside of braces.
func SplitWords(text string) []string {
	var words []string
	start, level := -1, 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		separates := level == 0 && (c == ',' || strings.IndexByte(blanks, c) >= 0)
		switch {
		case separates && start >= 0:
			words = append(words, text[start:i])
			start = -1
		case !separates && start < 0:
			start = i
		}
		switch {
		case c == '{':
			level++
		case c == '}' && level > 0:
			level--
		}
	}
	if start >= 0 {
		words = append(words, text[start:])
	}
	return words
}
