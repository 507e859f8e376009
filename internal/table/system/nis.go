package system

import (
	"context"

	"posthaste/internal/table"
)

// nis answers nothing: the service is gone from the world, and Postfix without
// a NIS domain answers nothing either. The name is a default of alias_maps on
// some systems, so it must not keep mail waiting.
type nis struct{ name string }

// NIS opens nis:map.
func NIS(o *table.Opener, name string, _ table.Use) (table.Table, error) {
	o.Log().Warnf("dict_nis_init: NIS domain name not set - NIS lookups disabled")
	return nis{"nis:" + name}, nil
}

func (nis) Lookup(context.Context, string) (string, bool, error) { return "", false, nil }
func (nis) Fixed() bool                                          { return true }
func (n nis) Name() string                                       { return n.name }
func (nis) Close() error                                         { return nil }
