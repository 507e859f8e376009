package rfc822

import (
	"strings"
	"time"
)

// FormatDate writes a time as in "Thu, 05 Mar 2026 09:08:07 -0500 (EST)"
// (RFC 5322 §3.3), in the time's own zone. The comment is left out when the
// zone has no name.
func FormatDate(t time.Time) string {
	text := t.Format("Mon, 02 Jan 2006 15:04:05 -0700")
	zone, _ := t.Zone()
	if zone == "" || strings.Trim(zone, "+-0123456789") == "" {
		return text
	}
	return text + " (" + zone + ")"
}

// Ctime writes a time as mbox "From " lines have it, "Thu Mar  5 09:08:07 2026".
func Ctime(t time.Time) string { return t.Format("Mon Jan _2 15:04:05 2006") }

// NewMessageID is the text between < and > of a Message-Id: field for a
// message that lacks one. id is its queue ID, which alone makes it unique when
// queue IDs are long; short ones recur, so that the time is put in front.
func NewMessageID(arrival time.Time, id, host string, longIDs bool) string {
	if longIDs {
		return id + "@" + host
	}
	return arrival.UTC().Format("20060102150405") + "." + id + "@" + host
}
