// Package local is local(8): delivery to the users of this host.
//
// A recipient is looked up as an alias first, then its user's .forward file is
// read, then the mail goes to a mailbox, a command or another transport; what
// is none of these is unknown. Aliases and .forward files may list addresses,
// |commands, /files and :include: files. An address that is not ours, or that
// must have its own record in the queue, is re-submitted as a new message.
//
// The expansion runs in the mail process; everything that needs a user's
// rights goes through worker.Host. It promises that expansion ends (nesting,
// duplicates, Delivered-To), that no file or command is touched with the rights
// of root, and that a recipient with a part that must be tried again is not
// forwarded yet.
//
// Master makes one Agent for the services of this program.
package local

import (
	"context"
	"fmt"
	"strings"
	"time"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/route"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/queue"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/table"
)

// Config is what local(8) reads of main.cf.
type Config struct {
	Hostname     string `param:"myhostname"`
	MailName     string `param:"mail_name"`
	AliasMaps    string `param:"alias_maps"`
	DefaultPrivs string `param:"default_privs"`
	Delimiter    string `param:"recipient_delimiter"`
	OwnerSpecial bool   `param:"owner_request_special"`
	DoubleBounce string `param:"double_bounce_sender"`
	KeepOriginal bool   `param:"enable_original_recipient"`
	Propagate    string `param:"propagate_unmatched_extensions"`
	DuplicateMax int    `param:"duplicate_filter_limit"`
	StrictOwner  bool   `param:"strict_mailbox_ownership"`
	RequireHome  bool   `param:"require_home_directory"`
	Biff         bool   `param:"biff"`
	QueueDir     string `param:"queue_directory"`
	ConfigDir    string `param:"config_directory"`

	// Aliases and .forward files.
	ExpandOwner   bool   `param:"expand_owner_alias"`
	ResetOwner    bool   `param:"reset_owner_alias"`
	Frozen        bool   `param:"frozen_delivered_to"`
	ForwardPath   string `param:"forward_path,raw"`
	ForwardFilter string `param:"forward_expansion_filter"`
	AllowCommands string `param:"allow_mail_to_commands"`
	AllowFiles    string `param:"allow_mail_to_files"`
	Prepend       string `param:"prepend_delivered_header"`

	// Mailboxes.
	HomeMailbox   string `param:"home_mailbox"`
	SpoolDir      string `param:"mail_spool_directory"`
	SizeLimit     int64  `param:"mailbox_size_limit"`
	MessageLimit  int64  `param:"message_size_limit"`
	Lock          string `param:"mailbox_delivery_lock"`
	Transport     string `param:"mailbox_transport"`
	TransportMaps string `param:"mailbox_transport_maps"`
	Fallback      string `param:"fallback_transport"`
	FallbackMaps  string `param:"fallback_transport_maps"`
	LuserRelay    string `param:"luser_relay,raw"`
	mailbox.Locking

	// Commands.
	MailboxCommand string        `param:"mailbox_command"`
	CommandMaps    string        `param:"mailbox_command_maps"`
	TimeLimit      time.Duration `param:"command_time_limit"`
	CommandFilter  string        `param:"command_expansion_filter"`
	Shell          string        `param:"local_command_shell"`
	Directory      string        `param:"command_execution_directory,raw"`
	DirFilter      string        `param:"execution_directory_expansion_filter"`
	Export         string        `param:"export_environment"`
	Import         string        `param:"import_environment"`
}

// Resolver finds out where an address of an alias goes.
type Resolver interface {
	// Rewrite brings an address into standard form in a context ("local").
	Rewrite(ctx context.Context, where string, a addr.Address) addr.Address
	// Resolve is route.Resolver's. An error means "try again".
	Resolve(ctx context.Context, sender, rcpt addr.Address) (route.Route, error)
}

// Submission is a new message on its way into the queue; *cleanup.Submission
// is one.
type Submission interface {
	ID() queue.ID
	Envelope() *envelope.Envelope
	SetSender(ctx context.Context, a addr.Address)
	AddRecipient(ctx context.Context, r envelope.Recipient)
	Trace(ctx context.Context, headers []byte)
	Write(p []byte) (int, error)
	Commit(ctx context.Context) dsn.Status
	Abort()
}

// Deps are the agent's neighbours.
type Deps struct {
	Host     worker.Host
	Tables   *table.Opener
	Users    Users
	Resolver Resolver
	// Submit begins a message that is forwarded; size is that of its content.
	Submit func(ctx context.Context, size int64) (Submission, error)
	// Pass has another transport deliver a request with one recipient, and
	// returns after its outcome was reported. An error means that there is no
	// such transport.
	Pass func(ctx context.Context, r *transport.Request) error
	// Notify tells comsat(8) about mail at offset of a user's mailbox; nil
	// for nobody. See ComsatNotify.
	Notify func(user string, offset int64)
	Log    *maillog.Logger // tag postfix/local
	Now    func() time.Time
	Getenv func(string) (string, bool) // os.LookupEnv; nil for an empty environment
}

// Agent is the delivery agent.
type Agent struct {
	cfg      Config
	deps     Deps
	ext      addr.Extensions
	locks    worker.Locks
	defaults worker.Rights // of default_privs
	aliases  []aliasTable
	owners   *table.Maps // alias maps with fixed keys

	transports, fallbacks, commands *table.Maps

	commandsFrom, filesFrom, propagate, prepend map[string]bool
	env                                         []string
}

// New opens the tables. An error is a setting that cannot be used.
func New(cfg Config, deps Deps) (*Agent, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Getenv == nil {
		deps.Getenv = func(string) (string, bool) { return "", false }
	}
	a := &Agent{cfg: cfg, deps: deps, ext: addr.Extensions{Delimiters: cfg.Delimiter, OwnerRequest: cfg.OwnerSpecial, DoubleBounce: cfg.DoubleBounce}}
	var err error
	if a.locks, err = mailbox.ParseLocks(cfg.Lock); err != nil {
		return nil, fmt.Errorf("mailbox_delivery_lock: %w", err)
	}
	if cfg.SizeLimit > 0 && (cfg.MessageLimit > cfg.SizeLimit || cfg.MessageLimit == 0) {
		return nil, fmt.Errorf("main.cf configuration error: mailbox_size_limit is smaller than message_size_limit")
	}
	user, found, err := deps.Users.ByName(cfg.DefaultPrivs)
	if err != nil || !found || user.UID == 0 {
		return nil, fmt.Errorf("file main.cf: parameter default_privs: unknown or privileged user %q", cfg.DefaultPrivs)
	}
	a.defaults = user.Rights()
	a.commandsFrom, a.filesFrom = set(cfg.AllowCommands), set(cfg.AllowFiles)
	a.propagate, a.prepend = set(cfg.Propagate), set(cfg.Prepend)
	a.env = mailbox.Environment(mailbox.Export(cfg.Export, cfg.Import, mailbox.WithConfig(cfg.ConfigDir, deps.Getenv)))
	a.open()
	return a, nil
}

func (a *Agent) open() {
	use := table.Use{Fold: true, NoSubstitution: true, NoProxy: true, Trusted: true}
	tables := a.deps.Tables.With(a.deps.Log)
	all := tables.Maps("alias_maps", a.cfg.AliasMaps, use)
	var fixed []table.Table
	for _, t := range all.Tables() {
		a.aliases = append(a.aliases, aliasTable{t})
		if t.Fixed() {
			fixed = append(fixed, t)
		}
	}
	a.owners = table.NewMaps("alias_maps", a.deps.Log, fixed...)
	private := table.Use{NoSubstitution: true}
	a.transports = tables.Maps("mailbox_transport_maps", a.cfg.TransportMaps, private)
	a.fallbacks = tables.Maps("fallback_transport_maps", a.cfg.FallbackMaps, private)
	a.commands = tables.Maps("mailbox_command_maps", a.cfg.CommandMaps, use)
}

// Close closes the tables.
func (a *Agent) Close() error {
	for _, t := range a.aliases {
		if err := t.Close(); err != nil {
			return err
		}
	}
	for _, m := range []*table.Maps{a.transports, a.fallbacks, a.commands} {
		if err := m.Close(); err != nil {
			return err
		}
	}
	return nil
}

func set(list string) map[string]bool {
	members := map[string]bool{}
	for _, name := range table.SplitList(list) {
		members[strings.ToLower(name)] = true
	}
	return members
}

// Deliver implements transport.Agent.
func (a *Agent) Deliver(ctx context.Context, r *transport.Request) {
	seen, err := mailbox.ReadDelivered(r.Open())
	if err != nil {
		a.deps.Log.Warnf("%s: cannot read message: %v", r.ID, err)
	}
	for _, rcpt := range r.Recipients {
		if ctx.Err() != nil {
			return
		}
		d := &delivery{agent: a, ctx: ctx, r: r, index: rcpt.Index, begun: a.deps.Now(), seen: seen, done: map[string]bool{}}
		m := mail{rcpt: rcpt.Recipient, sender: mailbox.Sender(r.Envelope, rcpt.Address)}
		m.rcpt.Original = mailbox.Original(rcpt.Recipient, mailbox.Keep(a.cfg.KeepOriginal))
		if err != nil {
			d.answer(m, dsn.FromEnhanced("4.3.0", "message cannot be read"))
			continue
		}
		d.complete(m)
	}
}
