// Package addr holds mail addresses: the value that was checked for relaying
// is the value that is routed and delivered.
//
// An Address is in internal form: the local part without RFC 5322 quoting,
// "@" and the domain, as it travels between the rooms; "" is the null sender.
// The last "@" divides it. Quoted forms exist only on the wire, in headers and
// in logs, and are made by the functions here.
//
// It imports nothing of ours. Everything above uses it.
package addr

import "strings"

// Address is one mail address in internal form. It may lack a domain before
// it was rewritten to standard form.
type Address string

// Split divides at the last "@". Without one, domain is "" and hasDomain false.
func (a Address) Split() (local, domain string, hasDomain bool) {
	at := strings.LastIndexByte(string(a), '@')
	if at < 0 {
		return string(a), "", false
	}
	return string(a[:at]), string(a[at+1:]), true
}

// Local is the part before the last "@", or all of it.
func (a Address) Local() string { local, _, _ := a.Split(); return local }

// Domain is the part after the last "@", or "".
func (a Address) Domain() string { _, domain, _ := a.Split(); return domain }

// String is the internal form.
func (a Address) String() string { return string(a) }
