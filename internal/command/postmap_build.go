package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"posthaste/internal/sys/strerror"
	"posthaste/internal/table"
	"posthaste/internal/table/indexed"
	"posthaste/internal/table/text"
)

// build makes or updates the tables.
func (p *postmap) build() error {
	for _, spec := range p.specs {
		kind, name := p.split(spec)
		if kind == "proxy" {
			return errors.New("can't create maps via the proxy service")
		}
		if err := p.buildOne(kind, name); err != nil {
			return err
		}
	}
	return nil
}

// buildOne makes one table from its source file, or with -i from standard input.
func (p *postmap) buildOne(kind, name string) error {
	source, path := p.Stdin, "stdin"
	var info fs.FileInfo
	if p.incremental {
		if file, ok := p.Stdin.(*os.File); ok {
			info, _ = file.Stat() // of a pipe, or nothing to inherit
		}
	} else {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("open %s: %s", name, strerror.Text(err))
		}
		defer file.Close()
		if info, err = file.Stat(); err != nil {
			return fmt.Errorf("fstat %s: %s", name, strerror.Text(err))
		}
		source, path = file, name
	}
	if p.keepRoot || info == nil {
		return p.write(kind, name, entrySource{source, path, info})
	}
	return asOwner(info, func() error { return p.write(kind, name, entrySource{source, path, info}) })
}

// entrySource is where entries come from.
type entrySource struct {
	in   io.Reader
	path string
	info fs.FileInfo // nil when it is not a file
}

// mode is what a new table may be read by: whoever may read the source.
func (p *postmap) mode(info fs.FileInfo) fs.FileMode {
	mode := fs.FileMode(0o644)
	if !p.plainMode && info != nil && info.Mode().IsRegular() {
		mode &^= ^info.Mode().Perm() & 0o077
	}
	return mode
}

// write reads the entries and writes the table.
func (p *postmap) write(kind, name string, from entrySource) error {
	if kind == "fail" {
		return fmt.Errorf("table fail:%s: write error: %w", name, table.ErrApplication)
	}
	if _, known := p.tables.Type(kind); !known {
		return fmt.Errorf("unsupported dictionary type: %s", kind)
	}
	update, err := p.update(kind, name, indexed.Settings{
		Log: p.log, Duplicates: p.duplicates, Null: p.null, Mode: p.mode(from.info),
	})
	if err != nil {
		return err
	}
	source := text.Source{Path: from.path, Log: p.log, UTF8: p.utf8}
	read := source.Map
	if p.alias {
		read = source.Alias
	}
	err = read(from.in, func(e text.Entry) error {
		if p.files {
			value, err := text.FileValue(p.tables, e.Value)
			if err != nil {
				p.log.Warnf("%s, line %d: %s: skipping this entry", from.path, e.Line, err)
				return nil
			}
			e.Value = value
		}
		update.Put(p.fold(e.Key), e.Value)
		return nil
	})
	if err != nil {
		return err
	}
	if p.alias {
		p.sign(update)
	}
	return update.Commit()
}

func (p *postmap) fold(key string) string {
	if p.keepCase {
		return key
	}
	return p.tables.Fold(key)
}

// update begins a new table, or with -i a new version of the one there is.
func (p *postmap) update(kind, name string, set indexed.Settings) (*indexed.Update, error) {
	if p.incremental {
		u, err := indexed.Edit(kind, name, set)
		if !errors.Is(err, fs.ErrNotExist) {
			return u, err
		}
	}
	return indexed.Create(kind, name, set)
}

// sign adds what Sendmail and NIS expect in an alias database: the mark that it
// is complete, when it was made and where.
func (p *postmap) sign(u *indexed.Update) {
	u.Set("@", "@")
	u.Set("YP_LAST_MODIFIED", fmt.Sprintf("%010d", time.Now().Unix()))
	u.Set("YP_MASTER_NAME", p.hostname)
}

// delete removes a key, or those on standard input, from every table, and
// reports whether one of them was there.
func (p *postmap) delete() (found bool, err error) {
	keys := []string{*p.remove}
	if *p.remove == "-" {
		keys = nil
		err := p.keys(func(key string) error {
			keys = append(keys, key)
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	for _, spec := range p.specs {
		kind, name := p.split(spec)
		hit, err := p.deleteIn(kind, name, keys)
		if err != nil {
			return false, err
		}
		found = found || hit
	}
	return found, nil
}

func (p *postmap) deleteIn(kind, name string, keys []string) (found bool, err error) {
	if _, known := p.tables.Type(kind); !known {
		return false, fmt.Errorf("unsupported dictionary type: %s", kind)
	}
	switch kind {
	case "btree", "hash", "lmdb":
	case "cdb":
		_, err := indexed.Edit(kind, name, indexed.Settings{})
		return false, err // it cannot be edited
	case "static", "fail", "environ", "internal":
		return false, fmt.Errorf("table %s:%s: delete operation is not supported", kind, name)
	default:
		return false, fmt.Errorf("%s:%s map requires O_RDONLY access mode", kind, name)
	}
	info, err := os.Stat(indexed.Path(kind, name))
	if err != nil {
		return false, fmt.Errorf("open database %s: %s", indexed.Path(kind, name), strerror.Text(err))
	}
	remove := func() error {
		update, err := indexed.Edit(kind, name, indexed.Settings{Log: p.log, Null: p.null})
		if err != nil {
			return err
		}
		defer update.Close()
		for _, key := range keys {
			if update.Delete(p.fold(key)) {
				found = true
			}
		}
		if !found {
			return nil
		}
		return update.Commit()
	}
	if p.keepRoot {
		return found, remove()
	}
	err = asOwner(info, remove)
	return found, err
}

// asOwner does something as the owner of a file when we are root: what we make
// belongs to the owner then, and a fault in us does them no good.
func asOwner(info fs.FileInfo, do func() error) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Getuid() != 0 || os.Geteuid() != 0 || st.Uid == 0 {
		return do()
	}
	groups, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("getgroups: %s", strerror.Text(err))
	}
	gid := os.Getegid()
	if err := become(int(st.Uid), int(st.Gid), []int{int(st.Gid)}); err != nil {
		return errors.Join(err, regain(gid, groups))
	}
	err = do()
	return errors.Join(err, regain(gid, groups))
}

// become takes effective ids on; the real one stays root's.
func become(uid, gid int, groups []int) error {
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %s", strerror.Text(err))
	}
	if err := syscall.Setegid(gid); err != nil {
		return fmt.Errorf("setegid(%d): %s", gid, strerror.Text(err))
	}
	if err := syscall.Seteuid(uid); err != nil {
		return fmt.Errorf("seteuid(%d): %s", uid, strerror.Text(err))
	}
	return nil
}

func regain(gid int, groups []int) error {
	if err := syscall.Seteuid(0); err != nil {
		return fmt.Errorf("seteuid(0): %s", strerror.Text(err))
	}
	return become(0, gid, groups)
}
