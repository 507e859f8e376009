// Package cleanup is cleanup(8): it turns an envelope and a content stream
// into one committed queue entry.
//
// On the way it adds missing headers, rewrites addresses, expands aliases,
// adds BCC recipients, removes duplicates and inspects content. Entrances
// (smtpd, pickup, qmqpd) and internal mail (bounce, local forwarding) use the
// same Submission. It promises that nothing is queued unless Commit said so,
// that trouble of ours (a table, the disk) is a 4xx answer, and that memory
// does not grow with the size of a message.
//
// Package rewrite below it maps addresses, package content inspects headers
// and body lines; the header lexer and the MIME machine are in mail/rfc822.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"posthaste/internal/cleanup/content"
	"posthaste/internal/cleanup/rewrite"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/qmgr"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Deps are the neighbours of a Service. Store, Standard and Tables must be
// there; without a Bouncer, refused mail is only answered.
type Deps struct {
	Store    queue.Store
	Standard *route.Rewriter // brings addresses into standard form
	Search   table.Search    // how addresses are looked up (route.Resolver)
	Tables   *table.Opener
	// Bouncer takes reports about mail that was refused when its entrance can
	// tell nobody (Flags Bounce), and about aliases whose sender wants to hear
	// of success.
	Bouncer qmgr.Bouncer
	Log     *maillog.Logger // tag postfix/cleanup
	Now     func() time.Time
}

// Service makes submissions. It is safe for concurrent use and belongs to one
// configuration snapshot.
type Service struct {
	cfg       Config
	deps      Deps
	mapper    *rewrite.Mapper
	inspector *content.Inspector
	drop      map[rfc822.Known]bool
	dropOther map[string]bool // dropped headers that are not known, in lower case
	strip     []byte
	reject    string
	filtered  map[Source]bool
	detected  map[Source]bool
}

// New makes a service and opens its tables. An error is a setting that cannot
// be used; a table that cannot be opened is none, but makes mail wait.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Service{cfg: cfg, deps: deps, drop: map[rfc822.Known]bool{}, dropOther: map[string]bool{}}
	for _, name := range table.SplitList(cfg.DropHeaders) {
		if known := rfc822.Lookup([]byte(name)); known != rfc822.None {
			s.drop[known] = true
		} else {
			s.dropOther[strings.ToLower(name)] = true
		}
	}
	strip, err := unescape(cfg.StripChars)
	if err != nil {
		return nil, fmt.Errorf("message_strip_characters: %w", err)
	}
	reject, err := unescape(cfg.RejectChars)
	if err != nil {
		return nil, fmt.Errorf("message_reject_characters: %w", err)
	}
	s.strip, s.reject = strip, string(reject)
	switch cfg.EndOfHeader {
	case "", fixQuietly, fixAddHeader, fixReject:
	default:
		return nil, fmt.Errorf("non_empty_end_of_header_action: unknown name \"%s\"", cfg.EndOfHeader)
	}
	s.filtered, err = sources("internal_mail_filter_classes", cfg.FilterClasses)
	if err != nil {
		return nil, err
	}
	s.detected, err = sources("smtputf8_autodetect_classes", cfg.UTF8Classes)
	if err != nil {
		return nil, err
	}
	s.mapper, err = rewrite.New(cfg.Rewrite, deps.Tables, deps.Standard, deps.Search)
	if err != nil {
		return nil, err
	}
	s.inspector = content.New(cfg.Content, deps.Tables)
	return s, nil
}

// Close closes the tables; submissions must have ended.
func (s *Service) Close() error {
	return errors.Join(s.mapper.Close(), s.inspector.Close())
}

// Begin starts a message and reserves its queue ID. The caller ends it with
// Commit or Abort. ctx bounds everything that happens until then. The error is
// machinery trouble: queue.ErrFull is 452.
func (s *Service) Begin(ctx context.Context, o Options) (*Submission, error) {
	draft, err := s.deps.Store.Begin(ctx, queue.Hint{Size: o.Size})
	if err != nil {
		return nil, err
	}
	return newSubmission(ctx, s, o, draft), nil
}

// Submit is Begin to Commit in one, for mail that is there as a whole. The
// envelope is not changed. A content that ends with an error is not queued.
func (s *Service) Submit(ctx context.Context, o Options, e *envelope.Envelope, content io.Reader) (queue.ID, dsn.Status) {
	m, err := s.Begin(ctx, o)
	if err != nil {
		return "", writeError(err)
	}
	defer m.Abort()
	*m.Envelope() = *e
	m.Envelope().Recipients = nil
	m.SetSender(ctx, e.Sender)
	for _, r := range e.Recipients {
		m.AddRecipient(ctx, r)
	}
	_, err = io.Copy(m, content)
	if err != nil {
		return m.ID(), writeError(err)
	}
	return m.ID(), m.Commit(ctx)
}
