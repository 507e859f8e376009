package text

import (
	"context"
	"fmt"
	"io"
	"strings"

	"posthaste/internal/table"
)

// maxFileValue bounds a file whose content is a value.
const maxFileValue = 16 << 20

func readFile(o *table.Opener, path string) ([]byte, error) {
	file, err := o.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileValue+1))
	if err == nil && len(content) > maxFileValue {
		err = fmt.Errorf("file too large: %s", path)
	}
	return content, err
}

// Inline opens inline:{ key=value, {key = value with spaces} }.
func Inline(o *table.Opener, name string, use table.Use) (table.Table, error) {
	bad := func(what string) error {
		return table.Permanent{Reason: fmt.Sprintf("%s: \"inline:%s\"; need \"inline:{name=value...}\"", what, name)}
	}
	inside, err := Unbrace(name)
	if err != nil || inside == "" {
		return nil, bad("bad syntax")
	}
	pairs := entries{}
	for _, item := range table.SplitList(inside) {
		if strings.HasPrefix(item, "{") {
			if item, err = Unbrace(item); err != nil {
				return nil, bad(err.Error())
			}
		}
		key, value, err := nameValue(item)
		if err != nil {
			return nil, bad(err.Error())
		}
		if use.Fold {
			key = o.Fold(key)
		}
		if use.FileValues {
			if value, err = FileValue(o, value); err != nil {
				return nil, fmt.Errorf("inline:%s: %w", name, err)
			}
		}
		pairs[key] = value
	}
	return &memory{"inline:" + name, func() entries { return pairs }}, nil
}

// answer is a table that answers every key by a function.
type answer struct {
	name  string
	fixed bool
	of    func(key string) (string, bool, error)
}

func (a answer) Lookup(_ context.Context, key string) (string, bool, error) { return a.of(key) }
func (a answer) Fixed() bool                                                { return a.fixed }
func (a answer) Name() string                                               { return a.name }
func (a answer) Close() error                                               { return nil }

// Static opens static:value or static:{ value }: the same answer for all keys.
func Static(o *table.Opener, name string, use table.Use) (table.Table, error) {
	value := name
	var err error
	if strings.HasPrefix(name, "{") {
		if value, err = Unbrace(name); err != nil {
			return nil, table.Permanent{Reason: "bad static:name syntax: " + err.Error()}
		}
	}
	if use.FileValues {
		if value, err = FileValue(o, value); err != nil {
			return nil, err
		}
	}
	return answer{"static:" + name, true, func(string) (string, bool, error) { return value, true, nil }}, nil
}

// Fail opens fail:name, whose lookups all fail.
func Fail(_ *table.Opener, name string, _ table.Use) (table.Table, error) {
	return answer{"fail:" + name, false, func(string) (string, bool, error) { return "", false, table.ErrApplication }}, nil
}

// Environ opens environ:name, whose keys are the names of environment variables.
func Environ(o *table.Opener, name string, _ table.Use) (table.Table, error) {
	return answer{"environ:" + name, true, func(key string) (string, bool, error) {
		value := o.Getenv(key)
		return value, value != "", nil
	}}, nil
}

// Internal opens internal:name, a table in memory with nothing in it.
func Internal(_ *table.Opener, name string, _ table.Use) (table.Table, error) {
	return &memory{"internal:" + name, func() entries { return nil }}, nil
}
