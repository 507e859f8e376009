// Package all is the list of the table types of this program that need no
// network. Commands and master give it to table.NewOpener, together with the
// types that do.
package all

import (
	"posthaste/internal/table"
	"posthaste/internal/table/cidr"
	"posthaste/internal/table/compound"
	"posthaste/internal/table/indexed"
	"posthaste/internal/table/pattern"
	"posthaste/internal/table/system"
	"posthaste/internal/table/text"
)

// Types returns the types in the order of their names.
func Types() []table.Type {
	return []table.Type{
		{Name: "btree", Open: indexed.Btree},
		{Name: "cdb", Open: indexed.CDB},
		{Name: "cidr", Open: cidr.Table},
		{Name: "debug", Open: compound.Debug},
		{Name: "environ", Open: text.Environ},
		{Name: "fail", Open: text.Fail},
		{Name: "hash", Open: indexed.Hash},
		{Name: "inline", Open: text.Inline},
		{Name: "internal", Open: text.Internal},
		{Name: "lmdb", Open: indexed.LMDB},
		{Name: "nis", Open: system.NIS},
		{Name: "pcre", Open: pattern.PCRE},
		{Name: "pipemap", Open: compound.Pipe},
		{Name: "proxy", Open: compound.Proxy},
		{Name: "randmap", Open: compound.Random},
		{Name: "regexp", Open: pattern.Regexp},
		{Name: "static", Open: text.Static},
		{Name: "texthash", Open: text.Texthash},
		{Name: "unionmap", Open: compound.Union},
		{Name: "unix", Open: system.Unix},
	}
}
