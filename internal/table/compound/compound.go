// Package compound is tables made of tables: unionmap:, pipemap:, randmap:,
// proxy: and debug:. It opens its members through the opener that opens it, so
// that they are shared and follow their files like any other.
package compound

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
	"posthaste/internal/table/text"
)

// members are the tables of a compound one.
type members struct {
	name   string
	tables []table.Table
}

// openMembers opens the tables in "{type:name, type:name}". When one cannot be
// opened, neither can the whole.
func openMembers(o *table.Opener, kind, name string, use table.Use) (members, error) {
	bad := table.Permanent{Reason: fmt.Sprintf("bad syntax: \"%s:%s\"; need \"%s:{type:name...}\"", kind, name, kind)}
	inside, err := text.Unbrace(name)
	if err != nil {
		return members{}, bad
	}
	m := members{name: kind + ":" + name}
	specs := table.SplitList(inside)
	if len(specs) == 0 {
		return members{}, bad
	}
	for _, spec := range specs {
		if !strings.Contains(spec, ":") {
			err = bad
			break
		}
		t := o.Open(spec, use)
		m.tables = append(m.tables, t)
		if err = table.Reason(t); err != nil {
			break
		}
	}
	if err != nil {
		return members{}, errors.Join(err, m.Close())
	}
	return m, nil
}

// Fixed: partial keys make sense only when every member takes them.
func (m *members) Fixed() bool {
	for _, t := range m.tables {
		if !t.Fixed() {
			return false
		}
	}
	return true
}

func (m *members) Name() string { return m.name }

func (m *members) Close() error {
	var errs []error
	for _, t := range m.tables {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// OwnerID implements table.Owner: the members' owner if they have one in
// common, and else somebody who is not root.
func (m *members) OwnerID() (uid int, known bool) {
	for i, t := range m.tables {
		id, ok := table.OwnerID(t)
		if !ok || (i > 0 && id != uid) {
			return 0, false
		}
		uid = id
	}
	return uid, true
}

type union struct{ members }

// Union opens unionmap:{type:name, ...}: all results of all tables, joined
// with commas.
func Union(o *table.Opener, name string, use table.Use) (table.Table, error) {
	m, err := openMembers(o, "unionmap", name, use)
	if err != nil {
		return nil, err
	}
	return &union{m}, nil
}

func (u *union) Lookup(ctx context.Context, key string) (string, bool, error) {
	var results []string
	for _, t := range u.tables {
		value, found, err := t.Lookup(ctx, key)
		if err != nil {
			return "", false, err
		}
		if found && value != "" {
			results = append(results, value)
		}
	}
	return strings.Join(results, ","), len(results) > 0, nil
}

type pipe struct{ members }

// Pipe opens pipemap:{type:name, ...}: the result of each table is the key for
// the next.
func Pipe(o *table.Opener, name string, use table.Use) (table.Table, error) {
	m, err := openMembers(o, "pipemap", name, use)
	if err != nil {
		return nil, err
	}
	return &pipe{m}, nil
}

func (p *pipe) Lookup(ctx context.Context, key string) (string, bool, error) {
	for _, t := range p.tables {
		value, found, err := t.Lookup(ctx, key)
		if !found || err != nil {
			return "", false, err
		}
		key = value
	}
	return key, true, nil
}

type random struct {
	name   string
	values []string
}

// Random opens randmap:{value, {value with spaces}, ...}: one of them for any key.
func Random(_ *table.Opener, name string, _ table.Use) (table.Table, error) {
	bad := table.Permanent{Reason: fmt.Sprintf("bad syntax: \"randmap:%s\"; need \"randmap:{value...}\"", name)}
	inside, err := text.Unbrace(name)
	if err != nil || inside == "" {
		return nil, bad
	}
	r := &random{name: "randmap:" + name}
	for _, value := range table.SplitList(inside) {
		if strings.HasPrefix(value, "{") {
			if value, err = text.Unbrace(value); err != nil {
				return nil, table.Permanent{Reason: fmt.Sprintf("%s: \"randmap:%s\"; need \"randmap:{value...}\"", err, name)}
			}
		}
		r.values = append(r.values, value)
	}
	if len(r.values) == 0 {
		return nil, bad
	}
	return r, nil
}

func (r *random) Lookup(context.Context, string) (string, bool, error) {
	return r.values[rand.IntN(len(r.values))], true, nil
}
func (r *random) Fixed() bool  { return false }
func (r *random) Name() string { return r.name }
func (r *random) Close() error { return nil }

// passThrough is one table under a name of its own.
type passThrough struct {
	table.Table
	name string
}

func (p passThrough) Name() string { return p.name }

// OwnerID implements table.Owner.
func (p passThrough) OwnerID() (int, bool) { return table.OwnerID(p.Table) }

// Proxy opens proxy:type:name. All tables live in one process here, so it is
// the table itself, if proxy_read_maps allows it (proxymap(8)).
func Proxy(o *table.Opener, name string, use table.Use) (table.Table, error) {
	if use.NoProxy {
		return nil, table.Permanent{Reason: fmt.Sprintf("proxy:%s map is not allowed for security-sensitive data", name)}
	}
	spec := name
	for strings.HasPrefix(spec, "proxy:") {
		spec = strings.TrimPrefix(spec, "proxy:")
	}
	if !o.ProxyAllowed(spec) {
		o.Log().Warnf("request for unapproved table: \"%s\"", spec)
		o.Log().Warnf("to approve this table for read-only access, list proxy:%s in %s:proxy_read_maps", spec, "main.cf")
		return nil, table.Permanent{Reason: fmt.Sprintf("proxymap service is not configured for table \"%s\"", spec)}
	}
	return wrap(o, spec, "proxy:"+name, use)
}

func wrap(o *table.Opener, spec, name string, use table.Use) (table.Table, error) {
	t := o.Open(spec, use)
	if err := table.Reason(t); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return passThrough{t, name}, nil
}

// debug logs what it is asked and what it answers.
type debug struct {
	passThrough
	log *maillog.Logger
}

// Debug opens debug:type:name, which logs every lookup.
func Debug(o *table.Opener, name string, use table.Use) (table.Table, error) {
	t, err := wrap(o, name, "debug:"+name, use)
	if err != nil {
		return nil, err
	}
	return debug{t.(passThrough), o.Log()}, nil
}

func (d debug) Lookup(ctx context.Context, key string) (string, bool, error) {
	value, found, err := d.Table.Lookup(ctx, key)
	name := d.Table.Name()
	switch {
	case err != nil:
		d.log.Infof("%s lookup: \"%s\": %s", name, key, "error")
	case !found:
		d.log.Infof("%s lookup: \"%s\": %s", name, key, "not found")
	default:
		d.log.Infof("%s lookup: \"%s\" = \"%s\"", name, key, value)
	}
	return value, found, err
}

// All implements table.Lister.
func (d debug) All(ctx context.Context, yield func(key, value string) error) error {
	return table.List(ctx, d.Table, func(key, value string) error {
		d.log.Infof("%s sequence: \"%s\" = \"%s\"", d.Table.Name(), key, value)
		return yield(key, value)
	})
}
