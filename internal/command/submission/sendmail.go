// Package submission holds the commands that hand mail in: sendmail(1) in all
// its modes, and postdrop(1), its set-gid helper.
//
// sendmail reads a message, finds out sender and recipients, and pipes the
// result into postdrop, which writes the file that pickup(8) takes up. It
// needs no privilege, and works while the mail system is down. Every fatal
// error of sendmail is exit status 75: whoever called it keeps the mail.
package submission

import (
	"context"
	"os"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/mail/envelope"
)

// Host is what the program around sendmail(1) can do for it.
type Host struct {
	// Run runs another command ("postqueue") in this process.
	Run func(ctx context.Context, name string, args []string) int
}

// mode is what sendmail(1) is asked to do.
type mode byte

const (
	modeSubmit  mode = 'm'
	modeVerify  mode = 'v'
	modeSMTP    mode = 's'
	modeList    mode = 'p'
	modeAliases mode = 'i'
	modeDaemon  mode = 'd'
	modeFlush   mode = 'q'
	modeNothing mode = 'h'
)

// sendmail is one run.
type sendmail struct {
	*cli.Tool
	host Host
	args []string // with some options rewritten

	c settings
	message

	flagC      string
	mode       mode
	sender     *string
	fullName   string
	fromHeader bool // -t
	dotEnds    bool
	reports    int // -v
	site, id   string
	aliases    string
	warnings   []string
}

// settings are what sendmail and postdrop read.
type settings struct {
	QueueDir  string `param:"queue_directory"`
	Commands  string `param:"command_directory"`
	Delimiter string `param:"default_verp_delimiters"`
	VerpChars string `param:"verp_delimiter_filter"`
	LineEnds  string `param:"sendmail_fix_line_endings"`
	Submit    string `param:"authorized_submit_users"`
	Tokens    int    `param:"header_address_token_limit"`
	HeaderLen int    `param:"header_size_limit"`
	Limit     int64  `param:"message_size_limit"`
	LongIDs   bool   `param:"enable_long_queue_ids"`
	Pickup    string `param:"pickup_service_name"`
	Flush     string `param:"flush_service_name"`
}

// Sendmail is sendmail(1).
func Sendmail(ctx context.Context, env *cli.Env, host Host) int {
	s := &sendmail{host: host, mode: modeSubmit, dotEnds: true, args: env.Args}
	s.RewriteContext = "local"
	problem := s.parse(env)
	status := 0
	if s.Tool, status = env.Load(s.flagC); status != 0 {
		return cli.ExitTempFail
	}
	if status := s.Fill(&s.c); status != 0 {
		return cli.ExitTempFail
	}
	for _, text := range s.warnings {
		s.Warnf("%s", text)
	}
	if s.Verp == defaultVerp {
		s.Verp = s.c.Delimiter
	}
	if problem == "" {
		problem = s.contradiction()
	}
	if problem != "" {
		return s.fatal("%s", problem)
	}
	return s.run(ctx)
}

// fatal is Fatal with the status that keeps the mail where it is.
func (s *sendmail) fatal(format string, args ...any) int {
	return s.Fatal(cli.ExitTempFail, format, args...)
}

// contradiction finds arguments that do not go together.
func (s *sendmail) contradiction() string {
	const noRecipient = " mode requires no recipient"
	if len(s.args) > 0 {
		switch s.mode {
		case modeSMTP:
			return "stand-alone" + noRecipient
		case modeList:
			return "display queue" + noRecipient
		case modeFlush:
			return "flush queue" + noRecipient
		case modeAliases:
			return "alias initialization" + noRecipient
		}
	}
	switch {
	case s.fromHeader && s.mode == modeVerify:
		return "-t option cannot be used in delivery status notification mode"
	case s.site != "" && s.id != "":
		return "specify one of -qI or -qR"
	}
	return ""
}

func (s *sendmail) run(ctx context.Context) int {
	switch s.mode {
	case modeSMTP:
		return s.smtp(ctx)
	case modeList:
		return s.command(ctx, "postqueue", "-p")
	case modeFlush:
		switch {
		case s.site != "":
			return s.command(ctx, "postqueue", "-s", s.site)
		case s.id != "":
			return s.command(ctx, "postqueue", "-i", s.id)
		}
		return s.command(ctx, "postqueue", "-f")
	case modeAliases:
		if s.aliases != "" {
			return s.command(ctx, "postalias", s.aliases)
		}
		return s.command(ctx, "newaliases")
	case modeDaemon:
		return s.command(ctx, "postfix", "start")
	case modeNothing:
		return 0
	}
	return s.submit(ctx)
}

// command runs another command of the mail system: as a process of its own if
// that one may have rights that we lack.
func (s *sendmail) command(ctx context.Context, name string, args ...string) int {
	if s.flagC != "" {
		args = append([]string{"-c", s.flagC}, args...)
	}
	if path := s.helper(name); path != "" && os.Geteuid() != 0 && isSetgid(path) {
		return s.process(ctx, path, args)
	}
	return s.host.Run(ctx, name, args)
}

// helper finds another command: beside us, else in command_directory, where
// another mail system may have left its own.
func (s *sendmail) helper(name string) string {
	for _, dir := range []string{executableDir(), s.c.Commands} {
		if info, err := os.Stat(dir + "/" + name); dir != "" && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return dir + "/" + name
		}
	}
	return ""
}

func isSetgid(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeSetgid != 0
}

func executableDir() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path[:max(0, strings.LastIndexByte(path, '/'))]
}

// trace is the report that was asked for.
func (s *sendmail) trace() envelope.Trace {
	switch {
	case s.mode == modeVerify:
		return envelope.TraceVerify
	case s.reports > 0:
		return envelope.TraceReport
	}
	return envelope.TraceNone
}
