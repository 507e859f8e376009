package greylisting

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"posthaste/internal/policy/greylist"
	"posthaste/internal/table"
	"posthaste/internal/table/indexed"
)

// importBatch is how many entries go into one order.
const importBatch = 1000

// importBerkeley takes over the databases of postgrey in a directory, and
// returns the number of new entries. postgrey must not run: what it has not
// written out yet would be missing.
func importBerkeley(ctx context.Context, dir string, to greylist.Obeyer) (n int, err error) {
	for kind, file := range map[greylist.Kind]string{greylist.Triplets: "postgrey", greylist.Clients: "postgrey_clients"} {
		done, err := importFile(ctx, filepath.Join(dir, file), kind, to)
		n += done
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
	}
	return n, nil
}

func importFile(ctx context.Context, name string, kind greylist.Kind, to greylist.Obeyer) (n int, err error) {
	path := indexed.Path("btree", name)
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	opened, err := indexed.Btree(table.NewOpener(table.Setup{}), name, table.Use{})
	if err != nil {
		return 0, fmt.Errorf("%s: %w; if postgrey did not end well, run db_recover first", path, err)
	}
	defer opened.Close()
	all, ok := opened.(interface {
		All(ctx context.Context, yield func(key, value string) error) error
	})
	if !ok {
		return 0, fmt.Errorf("%s: cannot be listed", path)
	}
	order := greylist.Order{Op: "put", Kind: kind}
	send := func() error {
		reply := to.Obey(ctx, order)
		order.Items = order.Items[:0]
		n += reply.Done
		if reply.Error != "" {
			return errors.New(reply.Error)
		}
		return nil
	}
	err = all.All(ctx, func(key, value string) error {
		if item, ok := readBerkeley(kind, key, value); ok {
			order.Items = append(order.Items, item)
		}
		if len(order.Items) < importBatch {
			return nil
		}
		return send()
	})
	return n, errors.Join(err, send())
}

// readBerkeley reads "first,last" of a triplet, and "count,last" of a client.
func readBerkeley(kind greylist.Kind, key, value string) (greylist.Item, bool) {
	left, right, ok := strings.Cut(value, ",")
	first, err1 := strconv.ParseInt(left, 10, 64)
	last, err2 := strconv.ParseInt(right, 10, 64)
	if !ok || err1 != nil || err2 != nil || first < 0 || last < 0 {
		return greylist.Item{}, false
	}
	if kind == greylist.Clients {
		return greylist.Item{Key: key, Entry: greylist.Entry{First: last, Last: last, Count: uint32(min(first, 1<<31))}}, true
	}
	return greylist.Item{Key: key, Entry: greylist.Entry{First: first, Last: last}}, true
}
