package queue

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Both syntaxes of queue ids (postconf(5) enable_long_queue_ids).
//
// Short: five hexadecimal digits of microseconds, so that neighbours fall in
// different subdirectories, and a hexadecimal number. In Postfix that number
// is the file's inode; here it is the second, so that an id is known before
// there is a file, and is not used again for eight years.
//
// Long: seconds (six digits or more) and microseconds (four) in base 52, "z",
// and a number in base 51: the inode in Postfix, our process id here.
const (
	hexDigits  = "0123456789ABCDEF"
	longDigits = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"

	minShort, maxShort = 6, 21
	maxLong            = 40
	usecDigits         = 4 // of a long id
	secDigits          = 6 // at least

	// shortSeconds is how many seconds a short id tells apart: seven digits.
	shortSeconds = 1 << 28
)

// Form is a syntax of queue ids.
type Form uint8

const (
	Short Form = iota
	Long
)

// IDs makes queue ids. The zero value is ready for use; one per process.
type IDs struct{ last atomic.Int64 }

// New makes an id that this process has not made before: no two carry the
// same microsecond. pid tells processes apart in the long form.
func (g *IDs) New(f Form, now time.Time, pid int) ID {
	us := now.UnixMicro()
	for {
		last := g.last.Load()
		us = max(us, last+1)
		if g.last.CompareAndSwap(last, us) {
			return newID(f, us, pid)
		}
	}
}

func newID(f Form, us int64, pid int) ID {
	sec, usec := us/1e6, us%1e6
	b := make([]byte, 0, 20)
	if f == Long {
		b = appendBase(b, sec, 52, secDigits)
		b = appendBase(b, usec, 52, usecDigits)
		b = append(b, 'z')
		return ID(appendBase(b, int64(pid), 51, 1))
	}
	for shift := 16; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[usec>>shift&15])
	}
	for shift := 24; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[sec%shortSeconds>>shift&15])
	}
	return ID(b)
}

func appendBase(b []byte, n int64, base int64, width int) []byte {
	var digits [16]byte
	at := len(digits)
	for n > 0 || len(digits)-at < width {
		at--
		digits[at] = longDigits[n%base]
		n /= base
	}
	return append(b, digits[at:]...)
}

// IsID reports whether text has one of the two syntaxes. No other text is
// ever made part of a file name.
func IsID(text string) bool { return isShort(text) || isLong(text) }

func isShort(text string) bool {
	return len(text) >= minShort && len(text) <= maxShort && strings.Trim(text, hexDigits) == ""
}

func isLong(text string) bool {
	if len(text) > maxLong || strings.Trim(text, longDigits) != "" {
		return false
	}
	z := strings.LastIndexByte(text, 'z')
	return z >= secDigits+usecDigits && z < len(text)-1
}

// Hash is the hexadecimal text whose first characters name the
// subdirectories of an id (postconf(5) hash_queue_depth): for a long id its
// microseconds in five digits, for a short one the id itself.
func (id ID) Hash() string {
	usec, ok := id.usec()
	if !ok {
		return string(id)
	}
	text := strings.ToUpper(strconv.FormatInt(usec, 16))
	return strings.Repeat("0", max(0, 5-len(text))) + text
}

func (id ID) usec() (int64, bool) {
	if isShort(string(id)) || !isLong(string(id)) {
		return 0, false
	}
	z := strings.LastIndexByte(string(id), 'z')
	return parseBase(string(id[z-usecDigits : z])), true
}

// Time is the moment in a long id; ok is false for a short one.
func (id ID) Time() (t time.Time, ok bool) {
	usec, ok := id.usec()
	if !ok {
		return time.Time{}, false
	}
	z := strings.LastIndexByte(string(id), 'z')
	return time.Unix(parseBase(string(id[:z-usecDigits])), usec*1000), true
}

func parseBase(text string) (n int64) {
	for i := range len(text) {
		if n > 1<<40 {
			return n // absurd; still a valid name
		}
		n = n*52 + int64(strings.IndexByte(longDigits, text[i]))
	}
	return n
}
