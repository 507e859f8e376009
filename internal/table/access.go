package table

import (
	"context"
	"fmt"
)

// List calls yield for every entry of a table, in the table's own order. The
// error says so when the type cannot enumerate.
func List(ctx context.Context, t Table, yield func(key, value string) error) error {
	if err := Reason(t); err != nil {
		return err
	}
	lister, ok := Unwrap(t).(Lister)
	if !ok {
		return fmt.Errorf("table %s: sequence operation is not supported", t.Name())
	}
	return lister.All(ctx, yield)
}

// OwnerID returns the owner of the file behind a table; known is false when
// there is none. See Owner.
func OwnerID(t Table) (uid int, known bool) {
	if owner, ok := Unwrap(t).(Owner); ok {
		return owner.OwnerID()
	}
	return 0, false
}
