package cli

import (
	"fmt"
	"strings"
)

// Options reads command line options as getopt(3) does: clustered letters,
// values attached or apart, "--" and the first operand end them. In spec a
// letter followed by ":" takes a value.
type Options struct {
	env  *Env
	spec string
	args []string // what is left
	rest string   // letters left of a cluster
}

// Getopt starts reading env.Args.
func (e *Env) Getopt(spec string) *Options {
	return &Options{env: e, spec: spec, args: e.Args}
}

// Next returns the next option letter and its value. letter is 0 at the end
// and '?' for an unknown option or a missing value, which was then reported
// on standard error in getopt(3)'s words.
func (o *Options) Next() (letter byte, value string) {
	if o.rest == "" {
		if len(o.args) == 0 || len(o.args[0]) < 2 || o.args[0][0] != '-' {
			return 0, ""
		}
		if o.args[0] == "--" {
			o.args = o.args[1:]
			return 0, ""
		}
		o.rest, o.args = o.args[0][1:], o.args[1:]
	}
	letter, o.rest = o.rest[0], o.rest[1:]
	at := strings.IndexByte(o.spec, letter)
	if at < 0 || letter == ':' {
		fmt.Fprintf(o.env.Stderr, "%s: invalid option -- '%c'\n", o.env.Name, letter)
		return '?', ""
	}
	if at+1 >= len(o.spec) || o.spec[at+1] != ':' {
		return letter, ""
	}
	if value, o.rest = o.rest, ""; value != "" {
		return letter, value
	}
	if len(o.args) == 0 {
		fmt.Fprintf(o.env.Stderr, "%s: option requires an argument -- '%c'\n", o.env.Name, letter)
		return '?', ""
	}
	value, o.args = o.args[0], o.args[1:]
	return letter, value
}

// Operands are the arguments behind the options, once Next returned 0.
func (o *Options) Operands() []string { return o.args }
