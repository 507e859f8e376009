package rfc822

import "bytes"

// Class is where a header field stands.
type Class uint8

// Classes of header fields, as header_checks(5) tells them apart.
const (
	Primary Class = iota // of the message
	Part                 // of a MIME part; and MIME fields wherever they are
	Nested               // of a message inside a message
)

// Problem is a defect that strict settings refuse; a set of them.
type Problem uint8

// Problems.
const (
	TooDeep        Problem = 1 << iota // mime_nesting_limit
	HeaderTooLong                      // header_size_limit; the rest was dropped
	EightBitHeader                     // strict_7bit_headers
	EightBitBody                       // strict_8bitmime_body
	BadEncoding                        // strict_mime_encoding_domain
)

// Events is told what a Walker finds. Slices are valid during the call only.
type Events interface {
	// Header is one header field with LF between its lines and none at the
	// end, white space before the colon removed.
	Header(class Class, field Known, text []byte)
	// EndOfHeader follows the last primary field. bad is the line that ended
	// the header without being empty, else nil.
	EndOfHeader(bad []byte)
	// Body is text outside of header fields, as it was, including separating
	// empty lines. With Options.Lines it is at most one line, and offset
	// tells where in its body segment.
	Body(text []byte, offset int)
	// Defect reports a problem from Options.Report; text is where.
	Defect(p Problem, text []byte)
}

// Composite tells that an entity is made of others: multipart/* or message/*.
type Composite bool

// HeaderEnder is implemented by Events that change what is inside of parts.
type HeaderEnder interface {
	// HeaderEnd follows the last field of every header, that of a part or of
	// a nested message too, before the body that it describes.
	HeaderEnd(c Composite, t Transfer)
	// Boundary comes before the Body that is a boundary line.
	Boundary()
}

// Options of a Walker.
type Options struct {
	LineLimit   int // longer lines are handed on in pieces
	HeaderLimit int // a longer field loses what is more
	MaxBoundary int // boundaries differ in their first bytes only
	Nesting     int // multipart and message levels
	Report      Problem
	NoMIME      bool // the body is text, whatever the header says
	Parts       bool // look at headers inside of the body
	Lines       bool // Body gets lines
}

// Walker takes a message in pieces of any size and tells Events what it is
// made of. Use Write, then Close.
type Walker struct {
	opt    Options
	events Events

	class     Class
	inHeader  bool
	field     []byte // the header field that is being collected
	line      []byte // the beginning of a line that is still incomplete
	partial   bool   // line continues a line whose first piece was handed on
	lineStart bool   // fast path: the next byte begins a line
	offset    int    // in the body segment
	started   bool
	scratch   []byte

	kind     mediaKind // of the entity whose header is read
	boundary []byte
	transfer Transfer
	stack    []level
	depth    int
}

// level is one multipart that is open.
type level struct {
	boundary []byte
	digest   bool
	depth    int
}

// NewWalker makes a walker that begins in the primary header.
func NewWalker(o Options, e Events) *Walker {
	if o.LineLimit < 1 {
		o.LineLimit = 2048
	}
	return &Walker{opt: o, events: e, inHeader: true}
}

// Write takes the next piece of the message. Lines end with LF.
func (w *Walker) Write(p []byte) {
	for len(p) > 0 {
		if !w.inHeader && len(w.line) == 0 && !w.partial && !w.needLines() {
			n := w.passable(p)
			if n > 0 {
				w.events.Body(p[:n], w.offset)
				w.offset += n
				w.lineStart = p[n-1] == '\n'
				p = p[n:]
				continue
			}
		}
		p = p[w.collect(p):]
	}
}

// needLines reports whether body text must be looked at line by line.
func (w *Walker) needLines() bool {
	return w.opt.Lines || (w.opt.Report&EightBitBody != 0 && w.transfer == SevenBit)
}

// passable is how much body text may be handed on as it is: all of it, or up
// to the next line that might be a boundary.
func (w *Walker) passable(p []byte) int {
	if len(w.stack) == 0 {
		return len(p)
	}
	if w.lineStart && p[0] == '-' {
		return 0
	}
	if i := bytes.Index(p, dash); i >= 0 {
		return i + 1
	}
	return len(p)
}

var dash = []byte("\n-")

// collect takes bytes of one line, hands the line on when it is complete or
// too long, and returns how many were taken.
func (w *Walker) collect(p []byte) int {
	room := w.opt.LineLimit - len(w.line)
	n := bytes.IndexByte(p[:min(len(p), room+1)], '\n')
	if n >= 0 {
		if len(w.line) == 0 {
			w.take(p[:n], true)
		} else {
			w.line = append(w.line, p[:n]...)
			w.takeCollected(true)
		}
		return n + 1
	}
	if len(p) > room {
		w.line = append(w.line, p[:room]...)
		w.takeCollected(false)
		return room
	}
	w.line = append(w.line, p...)
	return len(p)
}

func (w *Walker) takeCollected(whole bool) {
	line := w.line
	w.line = w.line[:0]
	w.take(line, whole)
}

// Close ends the message; a last line without LF gets one. A message that ends
// within its header has an EndOfHeader nevertheless.
func (w *Walker) Close() {
	if len(w.line) > 0 {
		w.takeCollected(true)
	}
	if w.inHeader {
		w.flush()
		if w.class == Primary {
			w.inHeader = false
			w.events.EndOfHeader(nil)
			w.headerEnd()
		}
	}
}

// take handles one line, or a piece of a long one, without its LF. whole is
// false for pieces that more will follow.
func (w *Walker) take(line []byte, whole bool) {
	first := !w.partial
	w.partial = !whole
	w.lineStart = whole
	switch {
	case !first && w.inHeader && len(w.field) > 0:
		w.appendField(line)
	case !first:
		w.body(line, whole)
	case w.atBoundary(line):
		w.startPart(line, whole)
	case w.inHeader:
		w.headerLine(line, whole)
	default:
		w.body(line, whole)
	}
}

// headerLine handles a line inside of a header.
func (w *Walker) headerLine(line []byte, whole bool) {
	if name, value := FieldName(line); name > 0 {
		w.flush()
		w.field = append(w.field[:0], line[:name]...)
		w.field = append(w.field, ':')
		w.appendField(line[value:])
		return
	}
	blank := len(bytes.Trim(line, " \t")) == 0
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') && !blank && len(w.field) > 0 {
		w.appendField([]byte{'\n'})
		w.appendField(line)
		return
	}
	w.endHeader(line, whole, blank)
}

// appendField adds text to the field, as far as the limit allows. One byte
// more than that is kept to show that there was more.
func (w *Walker) appendField(text []byte) {
	if room := w.opt.HeaderLimit + 1 - len(w.field); len(text) > room {
		text = text[:max(room, 0)]
		w.defect(HeaderTooLong, w.field)
	}
	w.field = append(w.field, text...)
}

// flush hands the collected field on.
func (w *Walker) flush() {
	if len(w.field) == 0 {
		return
	}
	field := w.field
	name, value := FieldName(field)
	known := Lookup(field[:name])
	if !w.opt.NoMIME {
		switch known {
		case ContentType:
			w.kind, w.boundary = parseType(field[value:], w.opt.MaxBoundary)
		case ContentTransferEncoding:
			w.transfer = ParseTransfer(field[value:])
		}
	}
	if w.opt.Report&EightBitHeader != 0 && hasEightBit(field) {
		w.defect(EightBitHeader, field)
	}
	class := w.class
	if known.isMIME() {
		class = Part
	}
	w.events.Header(class, known, field)
	w.field = w.field[:0]
}

// endHeader is called with the line behind the last field.
func (w *Walker) endHeader(line []byte, whole, blank bool) {
	w.flush()
	wasPrimary := w.class == Primary && !w.started
	if wasPrimary {
		w.started = true
		bad := line
		if blank {
			bad = nil
		}
		w.events.EndOfHeader(bad)
	}
	w.headerEnd()
	w.enter()
	switch {
	case blank:
		w.emit(nil, whole)
	case wasPrimary:
		w.emit(nil, true)
		w.emit(line, whole)
	default:
		w.emit(line, whole)
	}
}

func (w *Walker) headerEnd() {
	if e, ok := w.events.(HeaderEnder); ok {
		e.HeaderEnd(w.kind != mediaOther, w.transfer)
	}
}

// enter goes into the body that the header described.
func (w *Walker) enter() {
	w.inHeader = false
	w.offset = 0
	if w.opt.NoMIME || (!w.opt.Parts && w.opt.Report == 0) {
		return
	}
	if w.kind != mediaOther && w.transfer > Binary && w.kind != mediaPartial {
		w.defect(BadEncoding, []byte(w.transfer.String()))
	}
	switch w.kind {
	case mediaMultipart, mediaDigest:
		if len(w.boundary) > 0 && w.deeper() {
			w.stack = append(w.stack, level{w.boundary, w.kind == mediaDigest, w.depth})
		}
	case mediaMessage:
		if w.deeper() {
			w.startHeader(Nested)
		}
	}
}

// deeper counts a level, and reports one too many.
func (w *Walker) deeper() bool {
	if w.depth >= w.opt.Nesting {
		w.defect(TooDeep, nil)
		return false
	}
	w.depth++
	return true
}

func (w *Walker) startHeader(c Class) {
	w.inHeader, w.class = true, c
	w.kind, w.boundary, w.transfer = mediaOther, nil, SevenBit
}

// body handles a line of body text.
func (w *Walker) body(line []byte, whole bool) {
	if w.opt.Report&EightBitBody != 0 && w.transfer == SevenBit && hasEightBit(line) {
		w.defect(EightBitBody, line)
	}
	w.emit(line, whole)
}

// emit calls Body with a line and its LF.
func (w *Walker) emit(line []byte, whole bool) {
	if whole {
		w.scratch = append(append(w.scratch[:0], line...), '\n')
		line = w.scratch
	}
	if len(line) > 0 {
		w.events.Body(line, w.offset)
		w.offset += len(line)
	}
}

// atBoundary reports whether a line is a boundary of an open multipart.
func (w *Walker) atBoundary(line []byte) bool {
	return len(w.stack) > 0 && len(line) > 2 && line[0] == '-' && line[1] == '-' && w.match(line) >= 0
}

// match is the index of the innermost multipart whose boundary it is, or -1.
// What follows a boundary in its line does not matter.
func (w *Walker) match(line []byte) int {
	for i := len(w.stack) - 1; i >= 0; i-- {
		if bytes.HasPrefix(line[2:], w.stack[i].boundary) {
			return i
		}
	}
	return -1
}

// startPart handles a boundary line: it ends what is inside of its multipart.
func (w *Walker) startPart(line []byte, whole bool) {
	if w.inHeader {
		w.flush()
	}
	i := w.match(line)
	open := w.stack[i]
	last := bytes.HasPrefix(line[2+len(open.boundary):], []byte("--"))
	w.depth = open.depth
	w.inHeader = false
	w.offset = 0
	if e, ok := w.events.(HeaderEnder); ok {
		e.Boundary()
	}
	w.emit(line, whole)
	if last {
		w.stack = w.stack[:i]
		w.depth--
		w.transfer = SevenBit
		w.offset = 0
		return
	}
	w.stack = w.stack[:i+1]
	w.startHeader(Part)
	if open.digest {
		w.kind = mediaMessage
	}
}

func (w *Walker) defect(p Problem, text []byte) {
	if w.opt.Report&p != 0 {
		w.events.Defect(p, text)
	}
}

func hasEightBit(p []byte) bool {
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
