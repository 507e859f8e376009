// Package table is lookup tables: "type:name" things that answer a key.
//
// A lookup gives (value, found, err). err always means "try again later" and
// never "not found": callers turn it into 4xx or a deferral. A table follows
// changes of its file by itself. A table that cannot be opened is still a
// Table, one whose every lookup fails and says why (as dict_surrogate(3) of
// Postfix), so that a broken map keeps mail waiting.
//
// Maps chains tables and adds Postfix's search orders with partial keys
// (virtual(5), canonical(5), transport(5), access(5), aliases(5)); matchlist
// has the lists of domains, strings and networks.
package table

import "context"

// Table answers keys. Implementations are safe for concurrent use.
type Table interface {
	// Lookup finds the value of key. Indexed types fold the key to lower
	// case when the table was opened so.
	Lookup(ctx context.Context, key string) (value string, found bool, err error)
	// Fixed reports whether keys are fixed strings: only then are partial
	// keys (user+ext, @domain, parent domains) tried. Pattern types (regexp,
	// pcre, cidr, tcp ...) see the whole key only.
	Fixed() bool
	// Name is the table as the configuration wrote it, "hash:/etc/aliases".
	Name() string
	Close() error
}

// Lister is a table that can enumerate its entries (postmap -s).
type Lister interface {
	// All calls yield for every entry, in the table's own order, until yield
	// fails.
	All(ctx context.Context, yield func(key, value string) error) error
}

// Owner tells whose word a table is: local(8) runs the commands in an aliases
// file with the rights of the file's owner.
type Owner interface {
	// OwnerID is the user id of the owner of the file behind the table; known
	// is false when there is none.
	OwnerID() (uid int, known bool)
}
