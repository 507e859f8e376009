package text

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
)

// entries are the pairs of a table in memory.
type entries map[string]string

// memory is a table whose pairs are known.
type memory struct {
	name string
	get  func() entries
}

func (m *memory) Lookup(_ context.Context, key string) (string, bool, error) {
	value, ok := m.get()[key]
	return value, ok, nil
}
func (m *memory) Fixed() bool  { return true }
func (m *memory) Name() string { return m.name }
func (m *memory) Close() error { return nil }

// All implements table.Lister.
func (m *memory) All(_ context.Context, yield func(key, value string) error) error {
	for key, value := range m.get() {
		if err := yield(key, value); err != nil {
			return err
		}
	}
	return nil
}

// Texthash opens texthash:file: a postmap source that is read as it is. The
// first of two entries with one key counts.
func Texthash(o *table.Opener, name string, use table.Use) (table.Table, error) {
	f, err := table.Follow(o, name, func(file *os.File) (entries, error) {
		defer file.Close()
		return readHash(o, name, use, file)
	})
	if err != nil {
		var failed *fs.PathError
		if errors.As(err, &failed) {
			err = fmt.Errorf("open database %s: %s", name, strerror.Text(err))
		}
		return nil, err
	}
	return &texthash{memory{"texthash:" + name, f.Get}, f}, nil
}

// texthash is a table in memory that knows its file's owner.
type texthash struct {
	memory
	*table.Following[entries]
}

func readHash(o *table.Opener, path string, use table.Use, file *os.File) (entries, error) {
	pairs := entries{}
	source := Source{Path: path, Log: o.Log(), UTF8: o.UTF8(), Ignoring: " -- ignoring this line"}
	err := source.Map(file, func(e Entry) error {
		key, value := e.Key, e.Value
		if use.Fold {
			key = o.Fold(key)
		}
		if use.FileValues {
			var err error
			if value, err = FileValue(o, value); err != nil {
				o.Log().Warnf("%s, line %d: %s: skipping this entry", path, e.Line, err)
				return nil
			}
		}
		if _, ok := pairs[key]; ok {
			o.Log().Warnf("%s, line %d: duplicate entry: \"%s\"", path, e.Line, e.Key)
			return nil
		}
		pairs[key] = value
		return nil
	})
	return pairs, err
}

// FileValue is the base64 text of the files in a list, with a newline between
// them, as postmap -F stores it.
func FileValue(o *table.Opener, list string) (string, error) {
	var contents [][]byte
	for _, path := range table.SplitList(list) {
		content, err := readFile(o, path)
		if err != nil {
			return "", fmt.Errorf("open %s: %s", path, strerror.Text(err))
		}
		contents = append(contents, content)
	}
	if len(contents) == 0 {
		return "", fmt.Errorf("empty pathname list: >>%s<<", list)
	}
	return base64.StdEncoding.EncodeToString(bytes.Join(contents, []byte("\n"))), nil
}
