package transport

import (
	"strconv"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
)

// LogConfig says how delivery log lines look.
type LogConfig struct {
	Digits        int    `param:"delay_logging_resolution_limit"` // decimals of a second, 0 to 6
	SoftBounce    bool   `param:"soft_bounce"`
	AddressFormat string `param:"info_log_address_format"` // "external" quotes odd local parts; "internal"
}

// Line is the text of the log line about an outcome that became known at now:
// "QID: to=<r>, orig_to=<o>, relay=R, conn_use=N, delay=D, delays=a/b/c/d,
// tls=T, dsn=X.Y.Z, status=sent (text)". It is the same text as Postfix logs,
// under the tag of the agent.
func (c LogConfig) Line(r *Request, o Outcome, now time.Time) string {
	var b strings.Builder
	b.Grow(256)
	b.WriteString(string(r.ID))
	b.WriteString(": to=<")
	b.WriteString(c.Address(o.Recipient.Address))
	b.WriteByte('>')
	if orig := o.Recipient.Original; orig != "" && !strings.EqualFold(string(orig), string(o.Recipient.Address)) {
		b.WriteString(", orig_to=<")
		b.WriteString(c.Address(orig))
		b.WriteByte('>')
	}
	b.WriteString(", relay=")
	if o.Relay == "" {
		b.WriteString("none")
	}
	b.WriteString(o.Relay)
	if o.ConnUse > 1 {
		b.WriteString(", conn_use=")
		b.WriteString(strconv.Itoa(o.ConnUse))
	}
	c.writeDelays(&b, r, o, now)
	if o.TLS != "" {
		b.WriteString(", tls=")
		b.WriteString(o.TLS)
	}
	status := o.Status
	if c.SoftBounce && !probe(r.Envelope) {
		status = status.Soft()
	}
	b.WriteString(", dsn=")
	b.WriteString(status.Enhanced())
	b.WriteString(", status=")
	b.WriteString(c.word(r.Envelope, o))
	b.WriteString(" (")
	b.WriteString(status.Text())
	b.WriteByte(')')
	return b.String()
}

// Address is an address as it is logged (postconf(5) info_log_address_format).
func (c LogConfig) Address(a addr.Address) string {
	if c.AddressFormat == "internal" {
		return string(a)
	}
	return a.External()
}

func probe(e *envelope.Envelope) bool {
	return e.Trace == envelope.TraceVerify || e.Trace == envelope.TraceProbe
}

// word is what status= says.
func (c LogConfig) word(e *envelope.Envelope, o Outcome) string {
	switch {
	case probe(e) && o.Status.OK():
		return "deliverable"
	case probe(e):
		return "undeliverable"
	case o.Status.OK():
		return "sent"
	case !o.Status.Permanent():
		return "deferred"
	case c.SoftBounce:
		return "SOFTBOUNCE"
	}
	return "bounced"
}

// writeDelays writes the total delay and its parts: before the queue manager,
// in it, connecting, transmitting.
func (c LogConfig) writeDelays(b *strings.Builder, r *Request, o Outcome, now time.Time) {
	begun := o.Begun
	if begun.IsZero() {
		begun = r.Queued
	}
	before := since(r.Active, r.Envelope.Arrival)
	var inside, connect, transmit time.Duration
	switch {
	case begun.IsZero():
		inside = since(now, r.Active)
	case o.Connected.IsZero():
		inside, transmit = since(begun, r.Active), since(now, begun)
	default:
		inside, connect, transmit = since(begun, r.Active), since(o.Connected, begun), since(now, o.Connected)
	}
	b.WriteString(", delay=")
	writeSeconds(b, since(now, r.Envelope.Arrival), c.Digits)
	b.WriteString(", delays=")
	for i, d := range [...]time.Duration{before, inside, connect, transmit} {
		if i > 0 {
			b.WriteByte('/')
		}
		writeSeconds(b, d, c.Digits)
	}
}

// since is the time from one to another, 0 if it is unknown or went backwards.
func since(to, from time.Time) time.Duration {
	if to.IsZero() || from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from)
}

// significant is the number of digits that a delay shows at most, from its
// first one on that is not zero (postconf(5) delay_logging_resolution_limit).
const significant = 2

// writeSeconds writes a delay in seconds with at most two significant digits
// when it is below 100 seconds, and at most limit decimals, without zeros at
// the end.
func writeSeconds(b *strings.Builder, d time.Duration, limit int) {
	limit = min(max(limit, 0), 6)
	usec := d.Microseconds()
	unit := int64(1)
	for range 6 - limit {
		unit *= 10
	}
	unit = max(unit, unitFor(usec))
	usec = (usec + unit/2) / unit * unit
	if unit > 1e6 {
		unit = 1e6
	}
	b.WriteString(strconv.FormatInt(usec/1e6, 10))
	rest := usec % 1e6
	if rest == 0 {
		return
	}
	b.WriteByte('.')
	for digit := int64(1e5); rest > 0 && digit >= unit; digit /= 10 {
		b.WriteByte(byte('0' + rest/digit))
		rest %= digit
	}
}

// unitFor is the smallest unit that keeps two significant digits; never more
// than a second, so that long delays stay exact to the second.
func unitFor(usec int64) int64 {
	unit, limit := int64(1), int64(1)
	for range significant {
		limit *= 10
	}
	for usec >= limit*unit && unit < 1e6 {
		unit *= 10
	}
	return unit
}
