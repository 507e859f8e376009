// Package macro expands the $name language of configuration files: $name,
// $(name), ${name}, ${name?text}, ${name:text}, ${name?{a}:{b}},
// ${{x} == {y} ? {a} : {b}} and $$.
//
// It promises that hostile text ends in an error and not in unbounded work:
// nesting, the number of expansions and the size of the result are bounded.
// The configuration uses it with recursion; pipe(8), local(8) and the rbl
// replies use it without, and with a filter for what comes from outside.
// The language is described in postconf(5) and in the error texts of its
// parser, which are Postfix's.
package macro

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxNesting = 100     // calls deep; Postfix has the same limit
	maxCalls   = 100_000 // references in one expansion
	maxResult  = 8 << 20 // bytes
)

// Lookup finds the value of a name. ok is false when the name is not defined,
// which expands to nothing and is not an error. err ends the expansion.
type Lookup func(name string) (value string, ok bool, err error)

// Expander says how names are looked up and what is done with their values.
// It is immutable during use; the zero value knows no name.
type Expander struct {
	Lookup Lookup
	// Recurse expands the values, too. Without it, values are literal text.
	Recurse bool
	// Filter, when not nil, lists the bytes that may appear in a value that
	// is inserted; any other byte becomes '_'. Literal text is not filtered.
	Filter *ByteSet
	// Strict makes an undefined name an *UndefinedError, when it is used by
	// value and not in a test.
	Strict bool
	// Functions are the ${name{argument}} calls.
	Functions map[string]func(argument string) (string, error)
}

// SyntaxError is text that is not in the language, in the words of Postfix's
// warning.
type SyntaxError struct{ Text string }

func (e *SyntaxError) Error() string { return e.Text }

// UndefinedError is a name without value, in a strict expansion.
type UndefinedError struct{ Name string }

func (e *UndefinedError) Error() string { return "undefined parameter: " + e.Name }

var errTooLarge = errors.New("macro expansion is too large")

// Expand returns the text with all references replaced. The error is a
// *SyntaxError, an *UndefinedError, or the one that a lookup returned.
func (x *Expander) Expand(text string) (string, error) {
	if strings.IndexByte(text, '$') < 0 {
		return text, nil
	}
	run := &expansion{Expander: x}
	var out strings.Builder
	if err := run.expand(&out, text, 0); err != nil {
		return "", err
	}
	return out.String(), nil
}

// expansion is the state of one Expand call.
type expansion struct {
	*Expander
	calls int
	size  int
}

func (r *expansion) put(out *strings.Builder, text string) error {
	if r.size += len(text); r.size > maxResult {
		return errTooLarge
	}
	out.WriteString(text)
	return nil
}

func (r *expansion) expand(out *strings.Builder, text string, depth int) error {
	if strings.IndexByte(text, '$') < 0 {
		return r.put(out, text)
	}
	return Parse(text, func(piece Piece) error {
		if !piece.Reference {
			return r.put(out, piece.Text)
		}
		if depth > maxNesting || r.calls >= maxCalls {
			return syntaxf("unreasonable macro call nesting: %q", piece.Text)
		}
		r.calls++
		return r.reference(out, piece.Text, depth)
	})
}

// reference expands what is between the braces of ${...}.
func (r *expansion) reference(out *strings.Builder, body string, depth int) error {
	ref, err := parseReference(body)
	if err != nil {
		return err
	}
	var value string
	var found bool
	switch {
	case ref.relation != nil:
		found = true
		holds, err := r.holds(ref.relation, depth)
		if err != nil {
			return err
		}
		if holds {
			value = "bool:true"
		}
		if ref.operator == 0 {
			return r.put(out, strings.TrimPrefix(value, "bool:"))
		}
	case ref.call:
		return r.function(out, ref, depth)
	case r.Lookup != nil:
		if value, found, err = r.Lookup(ref.name); err != nil {
			return err
		}
	}
	switch {
	case ref.operator != 0 && value != "":
		return r.expand(out, ref.ifSet, depth+1)
	case ref.operator != 0:
		return r.expand(out, ref.ifEmpty, depth+1)
	case !found && r.Strict:
		return &UndefinedError{ref.name}
	default:
		return r.value(out, value, depth)
	}
}

// value inserts the value of a name.
func (r *expansion) value(out *strings.Builder, value string, depth int) error {
	if !r.Recurse {
		return r.put(out, r.filtered(value))
	}
	if r.Filter == nil {
		return r.expand(out, value, depth+1)
	}
	var inner strings.Builder
	if err := r.expand(&inner, value, depth+1); err != nil {
		return err
	}
	return r.put(out, r.filtered(inner.String()))
}

func (r *expansion) filtered(value string) string {
	if r.Filter == nil {
		return value
	}
	return r.Filter.Filter(value)
}

func (r *expansion) function(out *strings.Builder, ref *reference, depth int) error {
	call, ok := r.Functions[ref.name]
	if !ok {
		return syntaxf("bad macro function name: %q", ref.name)
	}
	var argument strings.Builder
	if err := r.expand(&argument, ref.ifSet, depth+1); err != nil {
		return err
	}
	value, err := call(argument.String())
	if err != nil {
		return err
	}
	return r.put(out, r.filtered(value))
}

func syntaxf(format string, args ...any) error {
	return &SyntaxError{fmt.Sprintf(format, args...)}
}
