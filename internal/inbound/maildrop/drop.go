package maildrop

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/sys/vfs"
)

// Dir is the directory below the queue directory.
const Dir = "maildrop"

// Modes of a file being written and of a complete one: pickup(8) may be
// another user than its owner.
const (
	writingMode  fs.FileMode = 0o644
	completeMode fs.FileMode = 0o744
)

// DropOptions are the circumstances of Drop.
type DropOptions struct {
	FS     vfs.FS // the queue directory
	UID    int    // of the caller, for messages
	PID    int
	Now    func() time.Time
	Limit  int64 // message_size_limit in bytes, 0 for none
	LongID bool
	// Guarded: users cannot look into the directory for names of files. If
	// they can, a name cannot be guessed either.
	Guarded bool
	Warn    func(format string, args ...any)
}

// Errors of Drop. Their text is what postdrop(1) says, behind "uid=N: ".
var (
	ErrMalformed = errors.New("malformed input")
	ErrTooBig    = errors.New("File too large")
	ErrCancelled = errors.New("submission was cut off") // nothing to complain about
)

// The record types that a user may use, and what ends each part.
const (
	userEnvelope = "MFSRVAinT"
	userContent  = "XLN"
	userExtra    = "EAR"
)

// Drop is postdrop(1): it reads a message from in, puts it into the maildrop
// directory, and answers on out. When it returns nil, the message is on
// stable storage. After an error there is no message.
func Drop(in io.Reader, out io.Writer, o DropOptions) error {
	d := &drop{o: o}
	id, err := d.create()
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	if err := writeHello(out, string(id)); err != nil {
		d.remove()
		return ErrCancelled
	}
	err = d.copy(queuefile.Stream(in))
	if err == nil {
		err = d.finish()
	}
	if err != nil {
		d.remove()
		_ = writeStatus(out, statusOf(err), err.Error())
		return err
	}
	return writeStatus(out, OK, "")
}

func statusOf(err error) Status {
	switch {
	case errors.Is(err, ErrTooBig):
		return TooBig
	case errors.Is(err, ErrMalformed):
		return BadInput
	}
	return WriteError
}

// drop is one file being written.
type drop struct {
	o    DropOptions
	name string
	file vfs.File
	buf  []byte
	size int64
	from int // senders seen
}

// maxTries is how many names are tried; two processes may choose the same.
const maxTries = 100

func (d *drop) create() (queue.ID, error) {
	var ids queue.IDs
	form := queue.Short
	if d.o.LongID {
		form = queue.Long
	}
	var err error
	for range maxTries {
		number := d.o.PID
		if !d.o.Guarded {
			form, number = queue.Long, secret()
		}
		id := ids.New(form, d.o.Now(), number)
		d.name = Dir + "/" + string(id)
		if d.file, err = d.o.FS.Create(d.name, writingMode); !errors.Is(err, fs.ErrExist) {
			return id, err
		}
	}
	return "", err
}

// secret is a number that makes a name of 20 characters.
func secret() int {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return int(binary.LittleEndian.Uint64(b[:])>>15) % 2e15
}

func (d *drop) remove() {
	if d.file != nil {
		d.file.Close()
		_ = d.o.FS.Remove(d.name)
	}
}

// copy reads the three parts.
func (d *drop) copy(src io.ReaderAt) error {
	now := d.o.Now()
	d.buf = queuefile.Append(d.buf, queuefile.Time, fmt.Sprintf("%d %d", now.Unix(), now.Nanosecond()/1000))
	r := queuefile.NewReader(src, 0)
	defer r.Close()
	r.Raw = true
	for _, part := range []string{userEnvelope, userContent, userExtra} {
		if err := d.part(r, part); err != nil {
			return err
		}
	}
	return nil
}

// writeAt is how much is collected before a write.
const writeAt = 32 << 10

func (d *drop) part(r *queuefile.Reader, types string) error {
	for {
		rec, err := r.Next()
		switch {
		case err == io.EOF:
			return ErrCancelled
		case errors.Is(err, queuefile.ErrFormat):
			return ErrMalformed
		case err != nil:
			return err
		case strings.IndexByte(types, rec.Type) < 0:
			return fmt.Errorf("%w: unexpected record type: %d", ErrMalformed, rec.Type)
		}
		if err := d.record(rec, types == userContent); err != nil {
			return err
		}
		if rec.Type == types[0] {
			return nil
		}
	}
}

func (d *drop) record(rec queuefile.Record, content bool) error {
	if !content {
		if strings.ContainsAny(string(rec.Data), "\r\n\x00") {
			return fmt.Errorf("%w: control character in record type %d", ErrMalformed, rec.Type)
		}
		switch rec.Type {
		case queuefile.Time:
			return nil // ours counts
		case queuefile.From:
			if d.from++; d.from > 1 {
				return fmt.Errorf("%w: second sender", ErrMalformed)
			}
		case queuefile.Message:
			if d.from == 0 {
				return fmt.Errorf("%w: no sender", ErrMalformed)
			}
		case queuefile.Attr:
			if !allowedAttr(string(rec.Data)) {
				d.o.Warn("uid=%d: ignoring attribute record: %.200s", d.o.UID, rec.Data)
				return nil
			}
		}
	}
	d.size += int64(len(rec.Data)) + 2
	if d.o.Limit > 0 && d.size > d.o.Limit {
		return ErrTooBig
	}
	d.buf = queuefile.Append(d.buf, rec.Type, rec.Data)
	if len(d.buf) < writeAt {
		return nil
	}
	return d.flush()
}

func (d *drop) flush() error {
	_, err := d.file.Write(d.buf)
	d.buf = d.buf[:0]
	return err
}

// allowedAttr tells which attributes users may give.
func allowedAttr(text string) bool {
	name, value, ok := strings.Cut(text, "=")
	switch name {
	case "encoding":
		return value == "7bit" || value == "8bit" || value == "none"
	case "rewrite_context":
		return value == "local" || value == "remote"
	case "trace_flags":
		return value == "512" || value == "1024" // sendmail -bv and -v; a probe of verify(8) is not for users
	case "envelope_id", "notify_flags", "ret_flags", "dsn_orig_rcpt":
		return ok
	}
	return false
}

// finish makes the file complete.
func (d *drop) finish() error {
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.file.Chmod(completeMode); err != nil {
		return err
	}
	if err := d.file.Sync(); err != nil {
		return err
	}
	err := d.file.Close()
	if err != nil {
		return err
	}
	// Who may not read the directory cannot sync it, and need not on the
	// usual file systems.
	if err := d.o.FS.SyncDir(Dir); err != nil && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	d.file = nil
	return nil
}
