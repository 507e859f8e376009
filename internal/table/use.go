package table

// Use says what a table is opened for. The zero value is a plain table that
// takes keys as they are.
type Use struct {
	// Fold looks fixed-string tables up with the key in lower case
	// (DICT_FLAG_FOLD_FIX). Pattern tables fold by their own flags.
	Fold bool
	// NoSubstitution refuses rules whose result has $number: results that name
	// commands or files must not carry text of the sender's (local(8),
	// "regular expression substitution is not allowed").
	NoSubstitution bool
	// NoProxy refuses proxy: for results that decide about privileges
	// (proxymap(8), SECURITY).
	NoProxy bool
	// Trusted refuses types that anybody might answer, such as tcp:.
	Trusted bool
	// FileValues says that values are base64 text of file contents, as
	// postmap -F makes them, and decodes them.
	FileValues bool
}

// flags names a use as Postfix's log does.
func (u Use) flags(utf8 bool) string {
	text := "lock"
	for _, f := range []struct {
		set  bool
		name string
	}{{u.NoSubstitution, "no_regsub"}, {u.NoProxy, "no_proxy"}, {u.Trusted, "no_unauth"}, {u.Fold, "fold_fix"},
		{u.FileValues, "src_rhs_is_file"}, {utf8, "utf8_request"}} {
		if f.set {
			text += "|" + f.name
		}
	}
	return text
}

// FoldedKeys is the Use of most parameters: fixed keys in lower case.
var FoldedKeys = Use{Fold: true}
