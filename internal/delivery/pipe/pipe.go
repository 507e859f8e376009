// Package pipe is pipe(8): delivery to external commands, configured by the
// attributes of a service in master.cf.
//
// The command is executed without a shell, as the user that user= names,
// with next to nothing in its environment. What becomes of the mail follows
// from its exit status and, for failures, from an enhanced status code at the
// beginning of its output. It promises that a command never gets half of a
// message, and never more time than NAME_time_limit.
//
// Master makes one Agent for each service; package worker runs the commands.
package pipe

import (
	"context"
	"fmt"
	"time"

	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

// Config is what pipe(8) reads of main.cf.
type Config struct {
	TimeLimit    time.Duration `transport:"time_limit"`
	Delimiter    string        `param:"recipient_delimiter"`
	OwnerSpecial bool          `param:"owner_request_special"`
	DoubleBounce string        `param:"double_bounce_sender"`
	KeepOriginal bool          `param:"enable_original_recipient"`
	Export       string        `param:"export_environment"`
	Import       string        `param:"import_environment"`
	QueueDir     string        `param:"queue_directory"`
	ConfigDir    string        `param:"config_directory"`
}

// Deps are the agent's neighbours.
type Deps struct {
	Host   worker.Host
	Log    *maillog.Logger // tag postfix/pipe
	Now    func() time.Time
	Getenv func(string) (string, bool) // os.LookupEnv; nil for an empty environment
}

// Agent is the delivery agent of one service.
type Agent struct {
	cfg  Config
	set  Settings
	deps Deps
	env  []string
	ext  addr.Extensions
}

// New makes the agent of a service with the given attributes.
func New(cfg Config, settings Settings, deps Deps) *Agent {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Getenv == nil {
		deps.Getenv = func(string) (string, bool) { return "", false }
	}
	return &Agent{
		cfg: cfg, set: settings, deps: deps,
		env: mailbox.Environment(mailbox.Export(cfg.Export, cfg.Import, mailbox.WithConfig(cfg.ConfigDir, deps.Getenv))),
		ext: addr.Extensions{Delimiters: cfg.Delimiter, OwnerRequest: cfg.OwnerSpecial, DoubleBounce: cfg.DoubleBounce},
	}
}

// Deliver implements transport.Agent.
func (a *Agent) Deliver(ctx context.Context, r *transport.Request) {
	if len(r.Recipients) == 0 {
		return
	}
	begun := a.deps.Now()
	status := a.deliver(ctx, r)
	if ctx.Err() != nil && !status.OK() {
		return
	}
	for _, rcpt := range r.Recipients {
		r.Report(transport.Outcome{
			Index: rcpt.Index, Recipient: rcpt.Recipient, Status: status, Relay: r.Transport,
			Begun: begun, Relayed: status.OK() && !a.set.has('X'),
		})
	}
}

var configurationError = dsn.FromEnhanced("4.3.5", "mail system configuration error")

func (a *Agent) deliver(ctx context.Context, r *transport.Request) dsn.Status {
	for _, flag := range []byte("DO") {
		if a.set.has(flag) && len(r.Recipients) > 1 {
			a.deps.Log.Warnf("pipe flag `%c' requires %s_destination_recipient_limit = 1", flag, r.Transport)
			return configurationError
		}
	}
	if a.set.SizeLimit > 0 && r.Size > a.set.SizeLimit {
		return dsn.FromEnhanced("5.2.3", "message too large")
	}
	if mailbox.TraceOnly(r.Envelope) {
		return dsn.FromEnhanced("2.0.0", "delivers to command: "+a.set.Argv[0])
	}
	if a.set.has('D') {
		if problem := a.loops(r); !problem.IsZero() {
			return problem
		}
	}
	e := &expansion{s: &a.set, r: r, ext: a.ext, keep: mailbox.Keep(a.cfg.KeepOriginal)}
	argv, err := e.argv()
	if err != nil {
		a.deps.Log.Warnf("%s: %v", r.Transport, err)
		return configurationError
	}
	return a.run(ctx, r, argv, e)
}

func (a *Agent) loops(r *transport.Request) dsn.Status {
	seen, err := mailbox.ReadDelivered(r.Open())
	rcpt := r.Recipients[0].Address
	switch {
	case err != nil:
		a.deps.Log.Warnf("%s: cannot read message: %v", r.ID, err)
		return dsn.FromEnhanced("4.3.0", "message cannot be read")
	case seen.Has(rcpt):
		return dsn.FromEnhanced("5.4.6", "mail forwarding loop for "+rcpt.External())
	}
	return dsn.Status{}
}

func (a *Agent) run(ctx context.Context, r *transport.Request, argv []string, e *expansion) dsn.Status {
	dir := a.set.Directory
	if dir == "" && a.set.Rights.Chroot == "" {
		dir = a.cfg.QueueDir
	}
	done, err := a.deps.Host.Run(ctx, a.set.Rights, worker.Command{
		Argv: argv, Env: a.env, Dir: dir, TimeLimit: a.cfg.TimeLimit, Output: mailbox.OutputLimit,
		Body: a.form(r, e).Body(r.Open),
	})
	v := mailbox.Judge(done, err, argv[0], "pipe")
	if v.Fatal != "" {
		a.deps.Log.Fatalf("%s", v.Fatal)
	}
	if done.TimedOut {
		a.deps.Log.Warnf("pipe_command_read: read time limit exceeded")
	}
	if !v.Status.IsZero() {
		return v.Status
	}
	text := fmt.Sprintf("delivered via %s service", r.Transport)
	if v.Output != "" {
		text += " (" + v.Output + ")"
	}
	return dsn.FromEnhanced("2.0.0", text)
}

// form is the message as the flags want it.
func (a *Agent) form(r *transport.Request, e *expansion) mailbox.Form {
	f := mailbox.Form{
		From: a.set.has('F'), ReturnPath: a.set.has('R'), QuoteFrom: a.set.has('>'), QuoteDot: a.set.has('.'), BlankLine: a.set.has('B'),
		EOL: a.set.EOL, Sender: e.envelopeSender(), NullSender: a.set.NullSender, Time: a.deps.Now(),
	}
	if a.set.has('O') {
		f.OriginalTo = e.original(&r.Recipients[0])
	}
	if a.set.has('D') {
		f.DeliveredTo = r.Recipients[0].Address
	}
	return f
}
