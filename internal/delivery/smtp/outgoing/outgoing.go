// Package outgoing is what smtp(8) and lmtp(8) change about a message on its
// way out: addresses by generic(5), headers and body lines by
// smtp_header_checks and its kin, and 8-bit text for servers that take no more
// than seven bits (RFC 6152 §3, quoted-printable).
//
// It promises that nothing is changed unless the configuration or the server
// asks for it, and that a lookup which fails is an error: the message waits.
//
// The agent in package smtp makes one Rewriter and calls it for each delivery.
package outgoing

import (
	"context"
	"errors"
	"io"
	"strings"

	"posthaste/internal/cleanup/content"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Config is what main.cf says about it; lmtp(8) reads the names with lmtp_ in
// place of smtp_.
type Config struct {
	Generic   string `param:"smtp_generic_maps"`
	Header    string `param:"smtp_header_checks"`
	MIME      string `param:"smtp_mime_header_checks"`
	Nested    string `param:"smtp_nested_header_checks"`
	Body      string `param:"smtp_body_checks"`
	BodySize  int    `param:"body_checks_size_limit"`
	Propagate string `param:"propagate_unmatched_extensions"`

	NoConversion bool `param:"disable_mime_output_conversion"`
	LineLimit    int  `param:"line_length_limit"`
	HeaderSize   int  `param:"header_size_limit"`
	HeaderTokens int  `param:"header_address_token_limit"`
	Boundary     int  `param:"mime_boundary_length_limit"`
	Nesting      int  `param:"mime_nesting_limit"`

	Delimiters   string `param:"recipient_delimiter"`
	OwnerRequest bool   `param:"owner_request_special"`
	DoubleBounce string `param:"double_bounce_sender"`
	MyOrigin     string `param:"myorigin"`
}

// Rewriter has the tables of one service. Safe for concurrent use.
type Rewriter struct {
	cfg       Config
	log       *maillog.Logger
	generic   *table.Maps
	inspector *content.Inspector
	search    table.Search
	propagate bool
}

// Open opens the tables; program ("smtp") is what the parameters' names begin
// with. isLocal tells domains whose addresses are looked up by local part, too.
func Open(c Config, program string, tables *table.Opener, isLocal func(ctx context.Context, domain string) (bool, error)) *Rewriter {
	r := &Rewriter{cfg: c, search: table.Search{
		Keys: table.AddressKeys, Delimiters: c.Delimiters, OwnerRequest: c.OwnerRequest, DoubleBounce: c.DoubleBounce,
		IsLocal: func(ctx context.Context, domain string) (bool, error) {
			if strings.EqualFold(domain, c.MyOrigin) || isLocal == nil {
				return strings.EqualFold(domain, c.MyOrigin), nil
			}
			return isLocal(ctx, domain)
		},
	}}
	for _, name := range table.SplitList(c.Propagate) {
		r.propagate = r.propagate || strings.EqualFold(name, "generic")
	}
	if tables == nil {
		r.inspector = &content.Inspector{}
		return r
	}
	r.log = tables.Log()
	if c.Generic != "" {
		r.generic = tables.Maps(program+"_generic_maps", c.Generic, table.FoldedKeys)
	}
	r.inspector = content.NewNamed(program+"_", content.Config{Header: c.Header, MIME: c.MIME, Nested: c.Nested, Body: c.Body, BodySize: c.BodySize}, tables)
	return r
}

// Close closes the tables.
func (r *Rewriter) Close() error { return errors.Join(r.generic.Close(), r.inspector.Close()) }

// Address is what an envelope or header address becomes by generic(5). An
// error means try again; it was logged.
func (r *Rewriter) Address(ctx context.Context, a addr.Address) (addr.Address, error) {
	if r.generic.Empty() || a == "" {
		return a, nil
	}
	match, found, err := r.generic.Address(ctx, a, r.search)
	if err != nil || !found {
		return a, err
	}
	extension := ""
	if r.propagate {
		extension = match.Extension
	}
	if strings.HasPrefix(match.Value, "@") {
		return addr.Address(strings.TrimSuffix(a.Local(), match.Extension) + extension + match.Value), nil
	}
	boxes := addr.ParseList(match.Value, r.cfg.HeaderTokens).Mailboxes()
	if len(boxes) == 0 {
		return a, nil
	}
	if len(boxes) > 1 {
		r.log.Warnf("multi-valued %s entry for %s", r.generic.Title(), a.External())
	}
	result := boxes[0].Address()
	if extension == "" {
		return result, nil
	}
	local, domain, has := result.Split()
	result = addr.Address(local + extension)
	if has {
		result += addr.Address("@" + domain)
	}
	return result, nil
}

// Limit is what a server takes.
type Limit uint8

// Limits.
const (
	EightBit Limit = iota // 8BITMIME
	SevenBit              // text is to be converted
)

// Copy writes the content from src to w, changed as the configuration and the
// server's limit say. An error of src or of a table is a SourceError.
func (r *Rewriter) Copy(ctx context.Context, id queue.ID, limit Limit, w io.Writer, src io.Reader) error {
	convert := limit == SevenBit && !r.cfg.NoConversion
	if !convert && r.generic.Empty() && r.inspector.Empty() {
		return copyPlain(w, src)
	}
	p := &pass{r: r, ctx: ctx, id: id, out: w, convert: convert}
	p.walker = rfc822.NewWalker(rfc822.Options{
		LineLimit: r.cfg.LineLimit, HeaderLimit: max(r.cfg.HeaderSize, 1000), MaxBoundary: r.cfg.Boundary, Nesting: r.cfg.Nesting,
		Parts: convert || r.inspector.Parts(), Lines: convert || r.inspector.Lines(),
	}, p)
	err := copyPlain(walkerOf{p}, src)
	if err == nil {
		p.walker.Close()
		p.endConversion()
		err = p.err
	}
	return err
}

// SourceError is trouble with our own copy of the message, or with a table.
type SourceError struct{ Err error }

func (e SourceError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e SourceError) Unwrap() error { return e.Err }

const copyBuffer = 16 << 10

// copyPlain copies, and tells errors of src from those of w.
func copyPlain(w io.Writer, src io.Reader) error {
	buffer := make([]byte, copyBuffer)
	for {
		n, err := src.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return SourceError{err}
		}
	}
}

// walkerOf lets copyPlain write into a pass.
type walkerOf struct{ *pass }

func (w walkerOf) Write(p []byte) (int, error) {
	w.walker.Write(p)
	return len(p), w.err
}
