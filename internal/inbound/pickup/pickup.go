// Package pickup is pickup(8): it takes what sendmail(1) and postdrop(1) left
// in the maildrop directory, and hands it to cleanup.
//
// A file is removed only after its message was committed; mail that cannot be
// taken now stays, and mail that cannot be read goes to the corrupt queue.
// Nothing in a file is trusted but its owner: users may write what they like
// there. Links, other than regular files and incomplete files are let alone.
//
// Package master calls Scan at every trigger and wakeup.
package pickup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"posthaste/internal/cleanup"
	"posthaste/internal/inbound/maildrop"
	"posthaste/internal/mail/addr"
	"posthaste/internal/mail/dsn"
	"posthaste/internal/mail/envelope"
	"posthaste/internal/mail/rfc822"
	"posthaste/internal/queue"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/vfs"
)

// Config is what pickup reads from main.cf and its line of master.cf.
type Config struct {
	Hostname string `param:"myhostname"`
	MailName string `param:"mail_name"`
	Filter   string `param:"content_filter"`
	Override string `param:"receive_override_options"`
}

// Submission is one message on its way through cleanup; *cleanup.Submission.
type Submission interface {
	ID() queue.ID
	Envelope() *envelope.Envelope
	SetSender(ctx context.Context, a addr.Address)
	AddRecipient(ctx context.Context, r envelope.Recipient)
	Write(p []byte) (int, error)
	Commit(ctx context.Context) dsn.Status
	Abort()
}

// Deps are the neighbours of a Pickup.
type Deps struct {
	FS    vfs.FS // the queue directory
	Owner int    // uid of mail_owner: whose files postsuper -r has put there
	// Flags and Begin are those of cleanup.Service.
	Flags func(cleanup.Source) cleanup.Flags
	Begin func(ctx context.Context, o cleanup.Options) (Submission, error)
	Log   *maillog.Logger // tag postfix/pickup
	Now   func() time.Time
}

// Pickup takes mail from the maildrop. Scan is not safe for concurrent use.
type Pickup struct {
	cfg   Config
	deps  Deps
	flags cleanup.Flags
}

// New makes a Pickup; the error is a bad receive_override_options.
func New(cfg Config, deps Deps) (*Pickup, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	flags, err := deps.Flags(cleanup.SourceSendmail).Override(cfg.Override)
	if err != nil {
		return nil, err
	}
	return &Pickup{cfg: cfg, deps: deps, flags: flags}, nil
}

// Begin adapts a cleanup service for Deps.
func Begin(s *cleanup.Service) func(context.Context, cleanup.Options) (Submission, error) {
	return func(ctx context.Context, o cleanup.Options) (Submission, error) {
		m, err := s.Begin(ctx, o)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
}

// errFull ends a scan early: the next message would fare no better.
var errFull = errors.New("pickup: cannot take mail now")

// Scan takes every complete file there is, and returns how many.
func (p *Pickup) Scan(ctx context.Context) (taken int) {
	var names []string
	err := p.deps.FS.ReadDir(maildrop.Dir, func(name string) bool {
		if queue.IsID(name) {
			names = append(names, name)
		}
		return true
	})
	if err != nil {
		p.deps.Log.Warnf("%s: %v", maildrop.Dir, err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return taken
		}
		err := p.take(ctx, maildrop.Dir+"/"+name, queue.ID(name))
		if errors.Is(err, errFull) {
			return taken
		}
		if err == nil {
			taken++
		}
	}
	return taken
}

// errSkip is a file that is not for us, now or ever.
var errSkip = errors.New("pickup: not complete")

// take handles one file.
func (p *Pickup) take(ctx context.Context, path string, id queue.ID) error {
	f, info, err := p.open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	trust := maildrop.FromUser
	if info.UID == p.deps.Owner {
		trust = maildrop.FromSystem
	}
	mail, err := maildrop.Read(f, trust)
	if damaged := new(maildrop.Error); errors.As(err, &damaged) {
		p.deps.Log.Warnf("uid=%d: %v", info.UID, damaged)
		return p.putAway(path, id)
	}
	if err != nil {
		p.deps.Log.Warnf("read %s: %v", path, err)
		return err
	}
	status := p.submit(ctx, mail, info)
	switch {
	case status.OK():
		return p.remove(path)
	case status.Permanent():
		// cleanup returns such mail to its sender; it could not.
		p.deps.Log.Warnf("uid=%d: %s", info.UID, status.Text())
		return p.putAway(path, id)
	}
	if status.Code() == 452 {
		return errFull
	}
	return errSkip
}

// open opens a complete file that can be nobody's trick.
func (p *Pickup) open(path string) (vfs.File, vfs.Info, error) {
	before, err := p.deps.FS.Lstat(path)
	if err != nil || !before.Mode.IsRegular() {
		if err == nil {
			p.deps.Log.Warnf("%s: uid %d: not a regular file", path, before.UID)
		}
		return nil, vfs.Info{}, errSkip
	}
	if !spool.Ready(before) {
		return nil, vfs.Info{}, errSkip
	}
	f, err := p.deps.FS.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			p.deps.Log.Warnf("open input file %s: %v", path, err)
		}
		return nil, vfs.Info{}, errSkip
	}
	info, err := f.Stat()
	if err == nil && info.Links != 1 {
		p.deps.Log.Warnf("%s: uid %d: file has %d links", path, info.UID, info.Links)
		err = errSkip
	}
	if err != nil || !spool.Ready(info) || info.UID != before.UID {
		f.Close()
		return nil, vfs.Info{}, errSkip
	}
	return f, info, nil
}

func (p *Pickup) remove(path string) error {
	err := p.deps.FS.Remove(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.deps.Log.Warnf("remove %s: %v", path, err)
		return err
	}
	return nil
}

// putAway moves a file to the corrupt queue.
func (p *Pickup) putAway(path string, id queue.ID) error {
	to := string(queue.Corrupt) + "/" + string(id)
	p.deps.Log.Warnf("saving corrupt file %q from queue %q to queue %q", id, maildrop.Dir, queue.Corrupt)
	if err := p.deps.FS.Rename(path, to); err != nil {
		p.deps.Log.Warnf("rename %s to %s: %v", path, to, err)
	}
	return errSkip
}

// submit hands one message to cleanup.
func (p *Pickup) submit(ctx context.Context, mail *maildrop.Mail, info vfs.Info) dsn.Status {
	m, err := p.deps.Begin(ctx, cleanup.Options{Flags: p.flags, Origin: "local", Size: info.Size})
	if err != nil {
		p.deps.Log.Warnf("uid=%d: %v", info.UID, err)
		if errors.Is(err, queue.ErrFull) {
			return dsn.New(452, "4.3.1", "Insufficient system storage")
		}
		return dsn.Trouble(err, "queue file write error")
	}
	defer m.Abort()
	origin := ""
	if mail.OrigID != "" {
		origin = " orig_id=" + mail.OrigID
	}
	p.deps.Log.Infof("%s: uid=%d from=<%s>%s", m.ID(), info.UID, mail.Envelope.Sender.External(), origin)
	env := m.Envelope()
	*env = mail.Envelope
	env.Recipients = nil
	env.Inject = "pickup"
	now := p.deps.Now()
	if env.Arrival.IsZero() || env.Arrival.After(now) {
		env.Arrival = now
	}
	if p.cfg.Filter != "" {
		env.Filter = p.cfg.Filter
	}
	m.SetSender(ctx, mail.Envelope.Sender)
	for _, r := range mail.Envelope.Recipients {
		m.AddRecipient(ctx, r)
	}
	_, err = fmt.Fprintf(m, "Received: by %s (%s, from userid %d)\n\tid %s; %s\n",
		p.cfg.Hostname, p.cfg.MailName, info.UID, m.ID(), rfc822.FormatDate(env.Arrival))
	if err == nil {
		err = copyContent(m, mail)
	}
	if err != nil {
		p.deps.Log.Warnf("%s: %v", m.ID(), err)
		return dsn.Trouble(err, "queue file read error")
	}
	return m.Commit(ctx)
}

// copyContent passes the content on; io.Copy would use the reader's WriteTo,
// a line at a time.
func copyContent(m Submission, mail *maildrop.Mail) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := mail.Content.Read(buf)
		if n > 0 {
			if _, werr := m.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
