package table

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// ErrApplication is the failure of a table that says no more, as fail: does.
// Maps logs no reason for it.
var ErrApplication = errors.New("Application error")

// Fold is a key in lower case: of ASCII, and of all scripts with UTF8.
func (o *Opener) Fold(key string) string {
	if o.setup.UTF8 && !ascii(key) && utf8.ValidString(key) {
		return cases.Fold().String(key)
	}
	return lowerASCII(key)
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// lowerASCII leaves every byte above ASCII as it is, UTF-8 or not.
func lowerASCII(s string) string {
	first := strings.IndexFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' })
	if first < 0 {
		return s
	}
	b := []byte(s)
	for i := first; i < len(b); i++ {
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// ask looks a key up in an open table the way use says: folded if the keys are
// fixed, UTF-8 only, and file values decoded.
func (o *Opener) ask(ctx context.Context, t Table, key string, use Use) (string, bool, error) {
	if o.setup.UTF8 && !ascii(key) && !utf8.ValidString(key) {
		o.log.Warnf("%s: non-UTF-8 key \"%s\": malformed UTF-8 or invalid codepoint", t.Name(), key)
		return "", false, nil
	}
	if use.Fold && t.Fixed() {
		key = o.Fold(key)
	}
	value, found, err := t.Lookup(ctx, key)
	if err != nil || !found {
		return "", false, err
	}
	if o.setup.UTF8 && !ascii(value) && !utf8.ValidString(value) {
		return "", false, fmt.Errorf("%s: key \"%s\": non-UTF-8 value \"%s\": malformed UTF-8 or invalid codepoint", t.Name(), key, value)
	}
	if use.FileValues {
		value, err = DecodeFile(t.Name(), key, value)
	}
	return value, err == nil, err
}

// DecodeFile is the content behind the value of an entry that postmap -F made.
func DecodeFile(table, key, value string) (string, error) {
	decoded, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "", fmt.Errorf("table %s: key %s: malformed BASE64 value: %s", table, key, value)
	}
	return string(decoded), nil
}
