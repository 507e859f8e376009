package queuefile

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/envelope"
)

// SizeRecord is the C record at the start of a file.
type SizeRecord struct {
	Data       int64 // bytes of the content records: what Postfix calls the message size
	DataOffset int64 // of the first content record
	Recipients int64
	Flags      int64 // hints of Postfix for its queue manager
	Content    int64 // as Data, less the padding of milters
	Options    int64 // optSMTPUTF8
}

// SizeRecordLen is the length of the C record in the file.
const SizeRecordLen = 2 + 6*16 - 1

const optSMTPUTF8 = 1

// Append adds the record to b.
func (s SizeRecord) Append(b []byte) []byte {
	b = appendHeader(b, Size, SizeRecordLen-2)
	return fmt.Appendf(b, "%15d %15d %15d %15d %15d %15d", s.Data, s.DataOffset, s.Recipients, s.Flags, s.Content, s.Options)
}

func parseSize(data []byte) (s SizeRecord, ok bool) {
	for i, field := range strings.Fields(string(data)) {
		n, isNumber := number([]byte(field))
		if !isNumber {
			return s, false
		}
		switch i {
		case 0:
			s.Data = n
		case 1:
			s.DataOffset = n
		case 2:
			s.Recipients = n
		case 3:
			s.Flags = n
		case 4:
			s.Content = n
		case 5:
			s.Options = n
		}
	}
	return s, s.DataOffset > 0
}

// Place is where the mutable marks of a file are.
type Place struct {
	Recipients []Mark // parallel to Envelope.Recipients
	Warn       int64  // offset of the W record's text, 0 for none
	Trace      int64  // offset of the type of the trace_flags attribute, 0 for none
}

// Mark is one recipient record.
type Mark struct {
	Offset int64 // of the type letter: R, or D in its place
	Done   bool
}

// Header is what Append writes besides the envelope.
type Header struct {
	ID      string
	Base    int64 // file offset of what is appended
	Created time.Time
	Warn    time.Time // when the delay warning is due; zero for none
}

// warnWidth is the width of the text of a W record, rewritten in place.
const warnWidth = 15

type encoder struct {
	b []byte
	h Header
}

func (e *encoder) attr(name, value string) {
	if value != "" {
		e.b = appendHeader(e.b, Attr, len(name)+1+len(value))
		e.b = append(append(append(e.b, name...), '='), value...)
	}
}

func (e *encoder) record(typ byte, value string) {
	if value != "" {
		e.b = Append(e.b, typ, value)
	}
}

func (e *encoder) offset() int64 { return e.h.Base + int64(len(e.b)) }

// AppendEnvelope adds the envelope's records, in Postfix's order and without
// the C record before and the M record behind them.
func AppendEnvelope(b []byte, env *envelope.Envelope, h Header) ([]byte, Place) {
	h.Base -= int64(len(b))
	e := &encoder{b: b, h: h}
	var place Place
	arrival := env.Arrival
	if arrival.Unix() < 0 {
		arrival = time.Unix(0, 0)
	}
	e.b = Append(e.b, Time, fmt.Sprintf("%d %d", arrival.Unix(), arrival.Nanosecond()/1000))
	e.attr("create_time", strconv.FormatInt(max(0, h.Created.Unix()), 10))
	e.origin(env)
	e.attr("rewrite_context", env.RewriteContext)
	e.attr("envelope_id", env.EnvID)
	if env.Return != envelope.ReturnDefault {
		e.attr("ret_flags", strconv.Itoa(int(env.Return)))
	}
	e.record(FullName, env.FullName)
	e.b = Append(e.b, From, string(env.Sender))
	switch env.Encoding {
	case envelope.Encoding7bit:
		e.attr("encoding", "7bit")
	case envelope.Encoding8bit:
		e.attr("encoding", "8bit")
	}
	e.client(env)
	if env.Trace != envelope.TraceNone {
		place.Trace = e.offset()
		e.attr("trace_flags", strconv.Itoa(traceFlags[env.Trace]))
	}
	e.record(Verp, env.Verp)
	if !h.Warn.IsZero() {
		place.Warn = e.offset() + 2
		e.b = Append(e.b, Warn, warnText(h.Warn))
	}
	place.Recipients = make([]Mark, len(env.Recipients))
	for i := range env.Recipients {
		place.Recipients[i].Offset = e.recipient(&env.Recipients[i])
	}
	return e.b, place
}

// traceFlags are the DEL_REQ_FLAG bits of Postfix.
var traceFlags = [...]int{envelope.TraceProbe: 1 << 8, envelope.TraceVerify: 1 << 9, envelope.TraceReport: 1 << 10}

func warnText(at time.Time) string { return fmt.Sprintf("%*d", warnWidth, at.Unix()) }

// WarnedText takes the place of the text of a W record when the warning was
// sent.
func WarnedText() string { return fmt.Sprintf("%*d", warnWidth, 0) }

// origin writes the log_ attributes, whose presence also tells that the mail
// came from the network.
func (e *encoder) origin(env *envelope.Envelope) {
	o := originOf(env)
	if o.Name == "" && o.Address == "" {
		return
	}
	if o.QueueID == "" {
		o.QueueID = e.h.ID
	}
	e.attr("log_ident", o.QueueID)
}

// originOf is the forwarded client, or the client itself.
func originOf(env *envelope.Envelope) envelope.Origin {
	if env.Origin == (envelope.Origin{}) {
		return envelope.Origin{Client: env.Client}
	}
	return env.Origin
}

func (e *encoder) client(env *envelope.Envelope) {
	o, c := originOf(env), env.Client
	if o.Name != "" || o.Address != "" {
		e.attr("log_client_name", o.Name)
		e.attr("log_client_address", o.Address)
		e.attr("log_client_port", o.Port)
		e.attr("log_message_origin", o.Name+"["+o.Address+"]")
		e.attr("log_helo_name", o.Helo)
		e.attr("log_protocol_name", o.Protocol)
	}
	e.attr("sasl_method", env.Login.Method)
	e.attr("sasl_username", env.Login.Username)
	e.attr("sasl_sender", env.Login.Sender)
	e.attr("client_name", c.Name)
	e.attr("reverse_client_name", c.ReverseName)
	e.attr("client_address", c.Address)
	e.attr("client_port", c.Port)
	e.attr("server_address", c.ServerAddress)
	e.attr("server_port", c.ServerPort)
	e.attr("helo_name", c.Helo)
	e.attr("protocol_name", c.Protocol)
	if strings.Contains(c.Address, ":") {
		e.attr("client_address_type", "10") // AF_INET6 of Linux
	} else if c.Address != "" {
		e.attr("client_address_type", "2")
	}
}

func (e *encoder) recipient(r *envelope.Recipient) (offset int64) {
	if r.Notify != 0 {
		e.attr("notify_flags", strconv.Itoa(int(r.Notify)))
	}
	e.attr("dsn_orig_rcpt", r.ORCPT)
	e.record(OrigRcpt, string(r.Original))
	offset = e.offset()
	e.b = Append(e.b, Rcpt, string(r.Address))
	return offset
}

// AppendExtra adds the X segment and the end of the file.
func AppendExtra(b []byte, env *envelope.Envelope) []byte {
	e := &encoder{b: Append(b, Extra, "")}
	e.record(Filter, env.Filter)
	e.record(Redirect, string(env.Redirect))
	return Append(e.b, End, "")
}

// AppendPointer adds a record that continues the reading at target.
func AppendPointer(b []byte, target int64) []byte {
	return Append(b, Pointer, fmt.Sprintf("%15d", target))
}

// PointerLen is the length of a pointer record in the file.
const PointerLen = 2 + 15

// SetText takes a record that speaks for the whole message into env; others
// are passed over. The error is ErrFormat.
func SetText(env *envelope.Envelope, typ byte, text string) error {
	switch typ {
	case Time:
		if env.Arrival.IsZero() {
			return setArrival(env, text)
		}
	case From:
		env.Sender = addr.Address(text)
	case FullName:
		env.FullName = text
	case Inspector, Filter:
		env.Filter = text
	case Redirect:
		env.Redirect = addr.Address(text)
	case Verp:
		env.Verp = text
	case DSNRet:
		env.Return = returnOf(text)
	case DSNEnvID:
		env.EnvID = text
	}
	return nil
}

// SetAttr takes a "name=value" record: what speaks for the whole message into
// env, what speaks for the next recipient into next. False: there is no "=".
// Unknown names are passed over.
func SetAttr(env *envelope.Envelope, next *envelope.Recipient, text string) bool {
	name, value, ok := strings.Cut(text, "=")
	switch {
	case !ok:
	case name == "dsn_orig_rcpt":
		next.ORCPT = value
	case name == "notify_flags":
		next.Notify = notifyOf(value)
	default:
		setAttr(env, name, value)
	}
	return ok
}

func setArrival(env *envelope.Envelope, data string) error {
	sec, usec, _ := strings.Cut(data, " ")
	s, ok := number([]byte(sec))
	if !ok {
		return fmt.Errorf("%w: arrival time %q", ErrFormat, data)
	}
	us, _ := number([]byte(usec))
	env.Arrival = time.Unix(s, us%1e6*1000)
	return nil
}

func returnOf(text string) envelope.Return {
	switch text {
	case "1":
		return envelope.ReturnFull
	case "2":
		return envelope.ReturnHeaders
	}
	return envelope.ReturnDefault
}

func traceOf(text string) envelope.Trace {
	flags, _ := number([]byte(text))
	for trace, bit := range traceFlags {
		if bit != 0 && flags&int64(bit) != 0 {
			return envelope.Trace(trace)
		}
	}
	return envelope.TraceNone
}

// setAttr takes a named attribute that speaks for the whole message.
func setAttr(env *envelope.Envelope, name, value string) {
	switch name {
	case "rewrite_context":
		env.RewriteContext = value
	case "envelope_id":
		env.EnvID = value
	case "ret_flags":
		env.Return = returnOf(value)
	case "encoding":
		env.Encoding = map[string]envelope.Encoding{"7bit": envelope.Encoding7bit, "8bit": envelope.Encoding8bit}[value]
	case "trace_flags":
		env.Trace = traceOf(value)
	default:
		if field := textAttr(env, name); field != nil {
			*field = value
		}
	}
}

// textAttr is the field of env that an attribute is kept in, nil for none.
func textAttr(env *envelope.Envelope, name string) *string {
	o, c := &env.Origin, &env.Client
	switch name {
	case "log_ident":
		return &o.QueueID
	case "log_client_name":
		return &o.Name
	case "log_client_address":
		return &o.Address
	case "log_client_port":
		return &o.Port
	case "log_helo_name":
		return &o.Helo
	case "log_protocol_name":
		return &o.Protocol
	case "sasl_method":
		return &env.Login.Method
	case "sasl_username":
		return &env.Login.Username
	case "sasl_sender":
		return &env.Login.Sender
	case "client_name":
		return &c.Name
	case "reverse_client_name":
		return &c.ReverseName
	case "client_address":
		return &c.Address
	case "client_port":
		return &c.Port
	case "server_address":
		return &c.ServerAddress
	case "server_port":
		return &c.ServerPort
	case "helo_name":
		return &c.Helo
	case "protocol_name":
		return &c.Protocol
	}
	return nil
}
