// Package virtual is virtual(8): mailboxes of users that exist in tables only.
//
// virtual_mailbox_maps says where a mailbox is below virtual_mailbox_base, and
// virtual_uid_maps and virtual_gid_maps with whose rights it is written; a
// name that ends in "/" is a Maildir, any other an mbox file. Recipients are
// looked up in lower case, with and without extension, then by "@domain".
//
// It promises that no mail is written with a user id below virtual_minimum_uid,
// that a loop (Delivered-To) ends, and that trouble with tables, locks and
// disks defers. The writing itself is package worker's.
package virtual

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Config is what virtual(8) reads of main.cf.
type Config struct {
	Base         string `param:"virtual_mailbox_base"`
	Maps         string `param:"virtual_mailbox_maps"`
	UIDMaps      string `param:"virtual_uid_maps"`
	GIDMaps      string `param:"virtual_gid_maps"`
	MinimumUID   int    `param:"virtual_minimum_uid"`
	Limit        int64  `param:"virtual_mailbox_limit"`
	MessageLimit int64  `param:"message_size_limit"`
	Lock         string `param:"virtual_mailbox_lock"`
	StrictOwner  bool   `param:"strict_mailbox_ownership"`
	Delimiter    string `param:"recipient_delimiter"`
	OwnerSpecial bool   `param:"owner_request_special"`
	DoubleBounce string `param:"double_bounce_sender"`
	KeepOriginal bool   `param:"enable_original_recipient"`
	mailbox.Locking
}

// Deps are the agent's neighbours.
type Deps struct {
	Host   worker.Host
	Tables *table.Opener
	Log    *maillog.Logger // tag postfix/virtual
	Now    func() time.Time
}

// Agent is the delivery agent. It serves all services of its program.
type Agent struct {
	cfg              Config
	deps             Deps
	locks            worker.Locks
	search           table.Search
	boxes, uids, gid *table.Maps
}

// New opens the tables. An error is a setting that cannot be used, in the
// words of Postfix's fatal error.
func New(cfg Config, deps Deps) (*Agent, error) {
	locks, err := mailbox.ParseLocks(cfg.Lock)
	if err != nil {
		return nil, fmt.Errorf("virtual_mailbox_lock: %w", err)
	}
	if cfg.Limit > 0 && (cfg.MessageLimit > cfg.Limit || cfg.MessageLimit == 0) {
		return nil, fmt.Errorf("main.cf configuration error: virtual_mailbox_limit is smaller than message_size_limit")
	}
	if cfg.Base != "" && !strings.HasPrefix(cfg.Base, "/") {
		return nil, fmt.Errorf("do not specify relative pathname: virtual_mailbox_base = %s", cfg.Base)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	use := table.Use{Fold: true, NoSubstitution: true, NoProxy: true, Trusted: true}
	tables := deps.Tables.With(deps.Log)
	return &Agent{
		cfg: cfg, deps: deps, locks: locks,
		search: table.Search{Keys: table.MailboxKeys, Delimiters: cfg.Delimiter, OwnerRequest: cfg.OwnerSpecial, DoubleBounce: cfg.DoubleBounce},
		boxes:  tables.Maps("virtual_mailbox_maps", cfg.Maps, use),
		uids:   tables.Maps("virtual_uid_maps", cfg.UIDMaps, use),
		gid:    tables.Maps("virtual_gid_maps", cfg.GIDMaps, use),
	}, nil
}

// Close closes the tables.
func (a *Agent) Close() error {
	for _, m := range []*table.Maps{a.boxes, a.uids, a.gid} {
		if err := m.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Deliver implements transport.Agent.
func (a *Agent) Deliver(ctx context.Context, r *transport.Request) {
	seen, err := mailbox.ReadDelivered(r.Open())
	for _, rcpt := range r.Recipients {
		if ctx.Err() != nil {
			return
		}
		begun := a.deps.Now()
		status := dsn.FromEnhanced("4.3.0", "message cannot be read")
		if err != nil {
			a.deps.Log.Warnf("%s: cannot read message: %v", r.ID, err)
		} else {
			status = a.deliver(ctx, r, rcpt, seen)
		}
		if ctx.Err() != nil && !status.OK() {
			return
		}
		r.Report(transport.Outcome{Index: rcpt.Index, Recipient: rcpt.Recipient, Status: status, Relay: r.Transport, Begun: begun})
	}
}

var configurationError = dsn.FromEnhanced("4.3.5", "mail system configuration error")

// target is where the mail of one recipient goes.
type target struct {
	path string
	as   worker.Rights
}

func (a *Agent) deliver(ctx context.Context, r *transport.Request, rcpt transport.Recipient, seen mailbox.Delivered) dsn.Status {
	if seen.Has(rcpt.Address) {
		return dsn.FromEnhanced("5.4.6", "mail forwarding loop for "+rcpt.Address.External())
	}
	to, problem := a.find(ctx, rcpt.Address)
	if !problem.IsZero() {
		return problem
	}
	form := mailbox.MboxForm
	if strings.HasSuffix(to.path, "/") {
		form = mailbox.MaildirForm
	}
	form.Sender, form.Time, form.DeliveredTo = mailbox.Sender(r.Envelope, rcpt.Address), a.deps.Now(), rcpt.Address
	form.OriginalTo = mailbox.Original(rcpt.Recipient, mailbox.Keep(a.cfg.KeepOriginal))
	trace := mailbox.TraceOnly(r.Envelope)
	if strings.HasSuffix(to.path, "/") {
		if trace {
			return dsn.FromEnhanced("2.0.0", "delivers to maildir")
		}
		return a.maildir(ctx, to, form.Body(r.Open))
	}
	if trace {
		return dsn.FromEnhanced("2.0.0", "delivers to mailbox")
	}
	return a.mbox(ctx, to, rcpt.Address, form.Body(r.Open))
}

// find looks mailbox and owner up.
func (a *Agent) find(ctx context.Context, rcpt addr.Address) (to target, problem dsn.Status) {
	user := addr.Address(addr.Fold(string(rcpt)))
	box, found, err := a.boxes.Address(ctx, user, a.search)
	if err != nil {
		a.deps.Log.Warnf("table virtual_mailbox_maps: lookup %s: %s", user, "temporary error")
		return to, configurationError
	}
	if !found {
		return to, dsn.FromEnhanced("5.1.1", "unknown user: \""+user.External()+"\"")
	}
	to.path = box.Value
	if a.cfg.Base != "" {
		to.path = a.cfg.Base + "/" + box.Value
	}
	if !strings.HasPrefix(to.path, "/") {
		a.deps.Log.Warnf("recipient %s: mailbox %q is a relative pathname and virtual_mailbox_base is empty", user, to.path)
		return to, configurationError
	}
	if to.as.UID, problem = a.number(ctx, a.uids, user, "uid"); !problem.IsZero() {
		return to, problem
	}
	to.as.GID, problem = a.number(ctx, a.gid, user, "gid")
	return to, problem
}

// number looks a uid or gid up. An id of root, or of a system user, is never
// taken from a table.
func (a *Agent) number(ctx context.Context, maps *table.Maps, user addr.Address, what string) (int, dsn.Status) {
	match, found, err := maps.Address(ctx, user, a.search)
	if err != nil || !found {
		a.deps.Log.Warnf("recipient %s: not found in %s", user, maps.Title())
		return 0, configurationError
	}
	least := 1
	if what == "uid" {
		least = max(a.cfg.MinimumUID, 1)
	}
	n, err := strconv.Atoi(match.Value)
	if err != nil || n < least {
		a.deps.Log.Warnf("recipient %s: bad %s %s in %s", user, what, match.Value, maps.Title())
		return 0, configurationError
	}
	return n, dsn.Status{}
}

func (a *Agent) maildir(ctx context.Context, to target, body func(io.Writer) error) dsn.Status {
	err := a.deps.Host.Maildir(ctx, to.as, worker.Maildir{Dir: to.path, Hostname: mailbox.SystemName(), Limit: a.cfg.Limit, Body: body})
	if err == nil {
		return dsn.FromEnhanced("2.0.0", "delivered to maildir")
	}
	if isAccess(err) {
		a.deps.Log.Warnf("maildir access problem for UID/GID=%d/%d: %v", to.as.UID, to.as.GID, err)
		a.deps.Log.Warnf("perhaps you need to create the maildirs in advance")
	}
	return mailbox.Trouble(err, "4.2.0", "maildir delivery failed: ")
}

func (a *Agent) mbox(ctx context.Context, to target, rcpt addr.Address, body func(io.Writer) error) dsn.Status {
	_, err := a.deps.Host.Append(ctx, to.as, worker.Append{
		Path: to.path, Locks: a.locks, Attempts: a.cfg.Attempts, Delay: a.cfg.Delay, Stale: a.cfg.Stale, Limit: a.cfg.Limit,
		RegularOnly: true, CheckOwner: a.cfg.StrictOwner, Owner: to.as.UID, Body: body,
	})
	switch kindOf(err) {
	case worker.KindNotRegular:
		a.deps.Log.Warnf("recipient %s: destination %s is not a regular file", rcpt, to.path)
		return dsn.FromEnhanced("5.3.5", "delivery failed to mailbox "+to.path+": mail system configuration error")
	case worker.KindNotOwner:
		a.deps.Log.Warnf("specify \"strict_mailbox_ownership = no\" to ignore mailbox ownership mismatch")
	}
	if err != nil {
		return mailbox.Trouble(err, "4.2.0", "delivery failed to mailbox "+to.path+": ")
	}
	return dsn.FromEnhanced("2.0.0", "delivered to mailbox")
}

// StaticGroups are the groups that virtual_gid_maps names for everybody, as in
// "static:8": the delivery process must let workers have them.
func StaticGroups(gidMaps string) []int {
	var groups []int
	for _, spec := range table.SplitList(gidMaps) {
		if text, ok := strings.CutPrefix(spec, "static:"); ok {
			if gid, err := strconv.Atoi(text); err == nil && gid > 0 {
				groups = append(groups, gid)
			}
		}
	}
	return groups
}
