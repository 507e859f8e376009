package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"syscall"
	"time"
)

// What a peer may send. A frame is a length of four bytes, most significant
// first, and that many bytes of fields: numbers of eight bytes, texts with
// their length in front.
const (
	maxRequest  = 1 << 20
	maxResponse = maxRead + 1<<16
	maxRead     = 16 << 20 // largest file that Read returns
	maxInline   = 64 << 10 // a message up to here travels inside the request
	maxStrings  = 1 << 12
	maxOutput   = 1 << 16
)

// errFrame is a frame that does not say what it should.
var errFrame = errors.New("malformed frame of the worker protocol")

type encoder struct{ b []byte }

func (e *encoder) num(n int64)    { e.b = binary.BigEndian.AppendUint64(e.b, uint64(n)) }
func (e *encoder) integer(n int)  { e.num(int64(n)) }
func (e *encoder) text(s string)  { e.integer(len(s)); e.b = append(e.b, s...) }
func (e *encoder) bytes(p []byte) { e.integer(len(p)); e.b = append(e.b, p...) }
func (e *encoder) flag(v bool)    { e.num(map[bool]int64{true: 1}[v]) }
func (e *encoder) list(l []string) {
	e.integer(len(l))
	for _, s := range l {
		e.text(s)
	}
}

// decoder reads fields; after the first that is wrong, all are zero and err is
// set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() { d.b, d.err = nil, errFrame }

func (d *decoder) num() int64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	n := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return int64(n)
}

// between reads a number that must be in a range.
func (d *decoder) between(low, high int64) int64 {
	n := d.num()
	if n < low || n > high {
		d.fail()
		return 0
	}
	return n
}

func (d *decoder) integer() int { return int(d.between(math.MinInt32, math.MaxInt32)) }

func (d *decoder) duration() time.Duration { return time.Duration(d.between(0, math.MaxInt64)) }

func (d *decoder) flag() bool { return d.between(0, 1) == 1 }

func (d *decoder) bytes() []byte {
	n := d.num()
	if n < 0 || n > int64(len(d.b)) {
		d.fail()
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) text() string { return string(d.bytes()) }

// path reads a text that can be handed to the system: without NUL.
func (d *decoder) path() string {
	s := d.text()
	for i := range len(s) {
		if s[i] == 0 {
			d.fail()
			return ""
		}
	}
	return s
}

func (d *decoder) list() []string {
	n := d.between(0, maxStrings)
	var l []string
	for range n {
		if d.err != nil {
			return nil
		}
		l = append(l, d.path())
	}
	return l
}

// end checks that nothing is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail()
	}
	return d.err
}

// operation is what a request asks for.
type operation int64

const (
	opAppend operation = iota + 1
	opMaildir
	opRun
	opRead
	opStat
	opStatTarget
	opAttach // opRun on the descriptor that comes along
	operations
)

// request is one of the jobs, as a worker sees it.
type request struct {
	op      operation
	append  Append
	maildir Maildir
	command Command
	path    string
	limit   int64
	// The message: size bytes, inline or in the descriptor that came along;
	// size is -1 for a job without one.
	size   int64
	inline []byte
	piped  bool
}

func (r *request) encode() []byte {
	e := &encoder{}
	e.num(int64(r.op))
	switch r.op {
	case opAppend:
		r.append.encode(e)
	case opMaildir:
		e.text(r.maildir.Dir)
		e.text(r.maildir.Hostname)
		e.num(r.maildir.Limit)
	case opRun, opAttach:
		r.command.encode(e)
	default:
		e.text(r.path)
		e.num(r.limit)
	}
	e.num(r.size)
	e.flag(r.piped)
	e.bytes(r.inline)
	return e.b
}

func decodeRequest(frame []byte) (*request, error) {
	d := &decoder{b: frame}
	r := &request{op: operation(d.between(int64(opAppend), int64(operations)-1))}
	switch r.op {
	case opAppend:
		r.append.decode(d)
	case opMaildir:
		r.maildir.Dir, r.maildir.Hostname = d.path(), d.path()
		r.maildir.Limit = d.between(0, math.MaxInt64)
	case opRun, opAttach:
		r.command.decode(d)
	default:
		r.path = d.path()
		r.limit = d.between(0, maxRead)
	}
	r.size = d.between(-1, math.MaxInt64)
	r.piped = d.flag()
	r.inline = d.bytes()
	if d.err == nil && r.op == opAttach && r.size != -1 {
		d.fail()
	}
	if d.err == nil && ((r.piped && len(r.inline) > 0) || (!r.piped && max(r.size, 0) != int64(len(r.inline)))) {
		d.fail()
	}
	return r, d.end()
}

func (j *Append) encode(e *encoder) {
	e.text(j.Path)
	e.num(int64(j.Locks))
	e.integer(j.Attempts)
	e.num(int64(j.Delay))
	e.num(int64(j.Stale))
	e.num(j.Limit)
	e.flag(j.RegularOnly)
	e.flag(j.NoExec)
	e.flag(j.CheckOwner)
	e.integer(j.Owner)
	e.flag(j.Give)
	e.integer(j.OwnerUID)
	e.integer(j.OwnerGID)
}

func (j *Append) decode(d *decoder) {
	j.Path = d.path()
	j.Locks = Locks(d.between(0, int64(LockFcntl|LockFlock|LockDot|LockDotMayFail)))
	j.Attempts = d.integer()
	j.Delay, j.Stale = d.duration(), d.duration()
	j.Limit = d.between(0, math.MaxInt64)
	j.RegularOnly, j.NoExec, j.CheckOwner = d.flag(), d.flag(), d.flag()
	j.Owner = d.integer()
	j.Give = d.flag()
	j.OwnerUID, j.OwnerGID = d.integer(), d.integer()
}

func (j *Command) encode(e *encoder) {
	e.list(j.Argv)
	e.text(j.Line)
	e.list(j.Env)
	e.text(j.Dir)
	e.num(int64(j.TimeLimit))
	e.integer(j.Output)
}

func (j *Command) decode(d *decoder) {
	j.Argv, j.Line, j.Env, j.Dir = d.list(), d.path(), d.list(), d.path()
	j.TimeLimit = d.duration()
	j.Output = int(d.between(0, maxOutput))
}

// response answers a request.
type response struct {
	err      *Error
	appended Appended
	finished Finished
	file     File
}

func (r *response) encode(op operation) []byte {
	e := &encoder{}
	e.flag(r.err != nil)
	if r.err != nil {
		e.num(int64(r.err.Kind))
		e.num(int64(r.err.Errno))
		e.text(r.err.Text)
	}
	switch op {
	case opAppend:
		e.num(r.appended.Offset)
		e.text(r.appended.Warning)
	case opRun, opAttach:
		f := &r.finished
		e.integer(f.Exit)
		e.integer(f.Signal)
		e.bytes(f.Output)
		e.flag(f.TimedOut)
		e.text(f.StartError)
		e.text(f.InputError)
	case opRead, opStat, opStatTarget:
		e.integer(r.file.UID)
		e.integer(r.file.GID)
		e.num(int64(r.file.Mode))
		e.num(r.file.Size)
		e.bytes(r.file.Data)
	}
	return e.b
}

func decodeResponse(op operation, frame []byte) (*response, error) {
	d := &decoder{b: frame}
	r := &response{}
	if d.flag() {
		r.err = &Error{Kind: Kind(d.between(0, int64(kinds)-1)), Errno: syscall.Errno(d.between(0, math.MaxUint16)), Text: d.text()}
	}
	switch op {
	case opAppend:
		r.appended = Appended{Offset: d.between(0, math.MaxInt64), Warning: d.text()}
	case opRun, opAttach:
		f := &r.finished
		f.Exit, f.Signal = d.integer(), d.integer()
		f.Output = d.bytes()
		f.TimedOut = d.flag()
		f.StartError, f.InputError = d.text(), d.text()
	case opRead, opStat, opStatTarget:
		r.file.UID, r.file.GID = d.integer(), d.integer()
		r.file.Mode = fs.FileMode(d.between(0, math.MaxUint32))
		r.file.Size = d.between(0, math.MaxInt64)
		r.file.Data = d.bytes()
	}
	return r, d.end()
}

// hire is what the mail process asks the delivery process for.
func (as Rights) encode() []byte {
	e := &encoder{}
	e.integer(as.UID)
	e.integer(as.GID)
	e.text(as.Chroot)
	return e.b
}

func decodeRights(frame []byte) (Rights, error) {
	d := &decoder{b: frame}
	as := Rights{UID: d.integer(), GID: d.integer(), Chroot: d.path()}
	if d.err == nil && (as.UID < 0 || as.GID < 0) {
		return as, fmt.Errorf("%w: uid %d, gid %d", errFrame, as.UID, as.GID)
	}
	return as, d.end()
}
