// Package man checks the manual pages in docs/man: that their macros and
// references are sound, and that the parameters a page lists are those that
// the code of its role reads. "go test ./test/man -update" writes these lists
// anew, from docs/man/parameters and the code.
package man
