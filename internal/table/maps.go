package table

import (
	"context"
	"errors"
	"fmt"

	"posthaste/internal/sys/maillog"
)

// Maps is a list of tables that are asked in order, maps(3) of Postfix. A nil
// or empty list finds nothing. Safe for concurrent use.
type Maps struct {
	title  string
	tables []Table
	log    *maillog.Logger
}

// Maps opens the tables of a list such as "hash:/etc/a, inline:{ {k = v} }".
// title is the parameter's name, for the log.
func (o *Opener) Maps(title, list string, use Use) *Maps {
	m := &Maps{title: title, log: o.log}
	for _, spec := range SplitList(list) {
		m.tables = append(m.tables, o.Open(spec, use))
	}
	return m
}

// NewMaps makes a list of open tables.
func NewMaps(title string, log *maillog.Logger, tables ...Table) *Maps {
	return &Maps{title: title, tables: tables, log: log}
}

// Title is the parameter's name.
func (m *Maps) Title() string { return m.title }

// Empty reports a list without tables.
func (m *Maps) Empty() bool { return m == nil || len(m.tables) == 0 }

// Tables returns the tables in order.
func (m *Maps) Tables() []Table {
	if m == nil {
		return nil
	}
	return m.tables
}

// Close closes all tables.
func (m *Maps) Close() error {
	var errs []error
	for _, t := range m.Tables() {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// Lookup asks every table for the key as it is; the first that knows it
// answers. A table that fails ends the search: the error was logged.
func (m *Maps) Lookup(ctx context.Context, key string) (value string, found bool, err error) {
	return m.find(ctx, key, wholeKey)
}

// keyKind tells a key as the user wrote it from a part of one, which only
// tables with fixed keys are asked for.
type keyKind uint8

const (
	wholeKey keyKind = iota
	partialKey
)

func (m *Maps) find(ctx context.Context, key string, kind keyKind) (string, bool, error) {
	if key == "" {
		return "", false, nil
	}
	for _, t := range m.Tables() {
		if kind == partialKey && !t.Fixed() {
			continue
		}
		value, found, err := t.Lookup(ctx, key)
		if err != nil {
			return "", false, m.failed(t, key, err)
		}
		if !found {
			continue
		}
		if value == "" {
			m.log.Warnf("%s lookup of %s returns an empty string result", m.title, key)
			m.log.Warnf("%s should return NO RESULT in case of NOT FOUND", m.title)
			return "", false, fmt.Errorf("%s lookup of %s returns an empty string result", m.title, key)
		}
		return value, true, nil
	}
	return "", false, nil
}

// failed logs the two lines of Postfix about a failed lookup: the reason, and
// which key it was.
func (m *Maps) failed(t Table, key string, err error) error {
	if !errors.Is(err, ErrApplication) {
		m.log.Warnf("%s", err)
	}
	m.log.Warnf("%s lookup error for \"%.100s\"", t.Name(), key)
	return fmt.Errorf("%s: %w", m.title, err)
}
