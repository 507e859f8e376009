package local

import (
	"errors"
	"strings"

	"posthaste/internal/config/macro"
	"posthaste/internal/delivery/mailbox"
	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/dsn"
)

// rights are those of the alias or user, never root's.
func (d *delivery) rights(m mail) worker.Rights {
	if m.who.UID == 0 {
		return d.agent.defaults
	}
	return m.who.Rights
}

// file delivers to /file/name, or to a Maildir /dir/name/.
func (d *delivery) file(m mail, path string) result {
	if d.before("file %d %s", m.who.UID, path) {
		return settled
	}
	if !d.agent.filesFrom[string(m.origin)] {
		return d.fail(m, "5.7.1", "mail to file is restricted")
	}
	if d.traceOnly() {
		return d.sent(m, "delivers to file: %s", path)
	}
	as := d.rights(m)
	if strings.HasSuffix(path, "/") {
		return d.maildir(m, as, path)
	}
	form := d.form(m, mailbox.MboxForm, "file")
	done, err := d.agent.deps.Host.Append(d.ctx, as, worker.Append{
		Path: path, Locks: d.agent.locks | worker.LockDotMayFail, Attempts: d.agent.cfg.Attempts, Delay: d.agent.cfg.Delay,
		Stale: d.agent.cfg.Stale, Limit: d.agent.cfg.SizeLimit, NoExec: true, Body: form.Body(d.r.Open),
	})
	if done.Warning != "" {
		d.warn("%s", done.Warning)
	}
	if err != nil {
		return d.answer(m, mailbox.Trouble(err, "5.2.0", "cannot append message to file "+path+": "))
	}
	return d.sent(m, "delivered to file: %s", path)
}

// plain are the characters of commands that need no shell.
const plain = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t"

// command delivers to "|command".
func (d *delivery) command(m mail, line string) result {
	if d.before("command %d %s", m.who.UID, line) {
		return settled
	}
	if d.traceOnly() {
		return d.sent(m, "delivers to command: %s", line)
	}
	dir, err := d.workingDirectory(m)
	if err != nil {
		d.warn("bad parameter value syntax for command_execution_directory: %s", d.agent.cfg.Directory)
		return d.fail(m, "4.3.5", "mail system configuration error")
	}
	form := d.form(m, mailbox.Form{From: true, ReturnPath: true}, "command")
	job := worker.Command{
		Line: line, Env: d.environment(m), Dir: dir, TimeLimit: d.agent.cfg.TimeLimit,
		Output: mailbox.OutputLimit, Body: form.Body(d.r.Open),
	}
	switch {
	case d.agent.cfg.Shell != "":
		// A shell of the postmaster's choice sees every command.
		job.Argv, job.Line = append(strings.Fields(d.agent.cfg.Shell), line), ""
	case strings.Trim(line, plain) == "" && strings.TrimSpace(line) != "":
		job.Argv = strings.Fields(line)
	}
	done, err := d.agent.deps.Host.Run(d.ctx, d.rights(m), job)
	v := mailbox.Judge(done, err, line, "local")
	if v.Fatal != "" {
		d.agent.deps.Log.Fatalf("%s", v.Fatal)
	}
	if done.TimedOut {
		d.warn("pipe_command_read: read time limit exceeded")
	}
	if !v.Status.IsZero() {
		return d.answer(m, v.Status)
	}
	return d.answer(m, dsn.FromEnhanced("2.0.0", "delivered to command: "+line))
}

func (d *delivery) workingDirectory(m mail) (string, error) {
	if d.agent.cfg.Directory == "" {
		return d.agent.cfg.QueueDir, nil
	}
	dir, err := d.expander(m, d.agent.cfg.DirFilter).Expand(d.agent.cfg.Directory)
	if err == nil && dir == "" {
		err = errors.New("empty")
	}
	return dir, err
}

// environment tells the command about the message. What strangers may have
// chosen is cut down to harmless characters.
func (d *delivery) environment(m mail) []string {
	e := d.r.Envelope
	allowed := macro.NewByteSet(d.agent.cfg.CommandFilter)
	env := append([]string{}, d.agent.env...)
	add := func(name, value string) { env = append(env, name+"="+allowed.Filter(value)) }
	for _, v := range []struct{ name, value string }{
		{"HOME", m.who.home}, {"SHELL", m.who.shell}, {"DOMAIN", m.domain}, {"EXTENSION", m.extension},
		{"ORIGINAL_RECIPIENT", string(m.rcpt.Original)}, {"ENVID", e.EnvID},
		{"CLIENT_HOSTNAME", e.Client.Name}, {"CLIENT_ADDRESS", e.Client.Address}, {"CLIENT_HELO", e.Client.Helo},
		{"CLIENT_PROTOCOL", e.Client.Protocol},
		{"SASL_METHOD", e.Login.Method}, {"SASL_SENDER", e.Login.Sender}, {"SASL_USERNAME", e.Login.Username},
	} {
		if v.value != "" {
			add(v.name, v.value)
		}
	}
	for _, v := range []struct{ name, value string }{
		{"LOGNAME", m.user}, {"USER", m.user}, {"SENDER", string(m.sender)},
		{"RECIPIENT", string(m.rcpt.Address)}, {"LOCAL", m.local},
	} {
		add(v.name, v.value)
	}
	return env
}
