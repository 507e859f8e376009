//go:build tools

// Package tools pins the versions of the programs that make check runs.
package tools

import _ "honnef.co/go/tools/cmd/staticcheck"
