package submission

import (
	"fmt"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/mail/envelope"
)

// optionSpec are the options of sendmail(1); many are there for old programs
// and do nothing.
const optionSpec = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx"

// defaultVerp stands for default_verp_delimiters until that is known.
const defaultVerp = "\x00"

// parse reads the options and leaves the recipients in s.args. It returns what
// is wrong with them. Nothing is said yet, except by getopt.
func (s *sendmail) parse(env *cli.Env) (problem string) {
	s.baptize(env.Name)
	s.oldForms()
	first := *env
	first.Args = s.args
	bad := false
	// Postfix reads the options twice, and getopt(3) complains twice.
	for options := first.Getopt(optionSpec); ; {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		bad = bad || letter == '?'
		if letter == 'C' {
			s.flagC = strings.TrimSuffix(value, "/main.cf")
		}
	}
	options := first.Getopt(optionSpec)
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		if text := s.option(letter, value); text != "" && problem == "" {
			problem = text
		}
	}
	s.args = options.Operands()
	if bad {
		return "usage: " + env.Name + " [options]"
	}
	return problem
}

// baptize sets the mode by the name that it is called by.
func (s *sendmail) baptize(name string) {
	switch name {
	case "mailq":
		s.mode = modeList
	case "newaliases":
		s.mode = modeAliases
	case "smtpd":
		s.mode = modeDaemon
	}
}

// oldForms rewrites what getopt cannot read: -q without a value, and VERP
// delimiters given by -V.
func (s *sendmail) oldForms() {
	var out []string
	for i := 0; i < len(s.args); i++ {
		arg := s.args[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			out = append(out, s.args[i:]...)
			break
		}
		switch {
		case arg == "-q":
			arg = "-q-"
		case arg == "-V" && i+1 < len(s.args) && len(s.args[i+1]) == 2:
			s.warn("option -V is deprecated with Postfix 2.3; specify -XV instead")
			arg = "-XV"
		case strings.HasPrefix(arg, "-V") && len(arg) == 4:
			s.warn("option %s is deprecated with Postfix 2.3; specify -X%s instead", arg, arg[1:])
			arg = "-X" + arg[1:]
		}
		out = append(out, arg)
		if valueFollows(arg) && i+1 < len(s.args) {
			i++
			out = append(out, s.args[i])
		}
	}
	s.args = out
}

// valueFollows tells that the next argument is the value of the last letter.
func valueFollows(arg string) bool {
	for i := 1; i < len(arg); i++ {
		at := strings.IndexByte(optionSpec, arg[i])
		if at >= 0 && strings.HasPrefix(optionSpec[at+1:], ":") {
			return i == len(arg)-1
		}
	}
	return false
}

// warn keeps a warning until there is a log.
func (s *sendmail) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// option takes one option; it returns what is wrong with it.
func (s *sendmail) option(letter byte, value string) string {
	switch letter {
	case 'B':
		return s.body(value)
	case 'F':
		s.fullName = value
	case 'G':
		s.RewriteContext = "remote"
	case 'I':
		s.mode = modeAliases
	case 'N':
		if s.Notify = notifyOf(value); s.Notify == 0 {
			s.warn("bad -N option value -- ignored")
		}
	case 'R':
		s.Return = map[string]envelope.Return{"full": envelope.ReturnFull, "hdrs": envelope.ReturnHeaders}[strings.ToLower(value)]
		if s.Return == envelope.ReturnDefault {
			s.warn("bad -R option value -- ignored")
		}
	case 'V':
		if s.EnvID = value; len(value) > maxEnvID {
			s.warn("too long -V option value -- ignored")
			s.EnvID = ""
		}
	case 'X':
		return s.verp(value)
	case 'b':
		return s.setMode(value)
	case 'f', 'r':
		s.sender = &value
	case 'i':
		s.dotEnds = false
	case 'o':
		s.old(value)
	case 'q':
		return s.queue(value)
	case 't':
		s.fromHeader = true
	case 'v':
		s.reports++
	}
	return ""
}

// maxEnvID is the limit of RFC 3461 §4.4.
const maxEnvID = 100

func (s *sendmail) body(value string) string {
	switch strings.ToUpper(value) {
	case "8BITMIME":
		s.Encoding = envelope.Encoding8bit
	case "7BIT":
		s.Encoding = envelope.Encoding7bit
	default:
		return "-B option needs 8BITMIME or 7BIT"
	}
	return ""
}

// notifyOf reads "never" or a list of the other conditions.
func notifyOf(text string) (n envelope.Notify) {
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		bit := map[string]envelope.Notify{"never": envelope.NotifyNever, "success": envelope.NotifySuccess,
			"failure": envelope.NotifyFailure, "delay": envelope.NotifyDelay}[word]
		if bit == 0 || bit == envelope.NotifyNever && n != 0 || n == envelope.NotifyNever {
			return 0
		}
		n |= bit
	}
	return n
}

// verp is -XV and -XVxy; other values of -X name a log file.
func (s *sendmail) verp(value string) string {
	switch {
	case value == "V":
		s.Verp = defaultVerp
	case strings.HasPrefix(value, "V") && len(value) == 3:
		s.Verp = value[1:]
	case strings.HasPrefix(value, "V"):
		return "-V requires two characters from $verp_delimiter_filter"
	}
	return ""
}

func (s *sendmail) setMode(value string) string {
	if value == "" {
		return "usage: sendmail [options]"
	}
	switch value[0] {
	case 'd', 'l':
		s.mode = modeDaemon
	case 'h', 'H':
		s.mode = modeNothing
	case 'i', 'm', 'p', 's', 'v':
		s.mode = mode(value[0])
	default:
		return "unsupported: -b" + value[:1]
	}
	return ""
}

// old is -o, with a letter of its own.
func (s *sendmail) old(value string) {
	switch {
	case value == "i":
		s.dotEnds = false
	case strings.HasPrefix(value, "A"):
		s.aliases = value[1:]
	case value == "7":
		s.Encoding = envelope.Encoding7bit
	case value == "8":
		s.Encoding = envelope.Encoding8bit
	}
}

// queue is -q: of everything, a site, a message; -q5m is for a daemon.
func (s *sendmail) queue(value string) string {
	switch {
	case value == "-":
		s.mode = modeFlush
	case value != "" && value[0] >= '0' && value[0] <= '9':
		if s.mode == modeSubmit {
			s.mode = modeNothing
		}
	case strings.HasPrefix(value, "R"):
		s.mode, s.site = modeFlush, value[1:]
	case strings.HasPrefix(value, "I"):
		s.mode, s.id = modeFlush, value[1:]
	default:
		return "-q" + value[:min(1, len(value))] + " is not implemented"
	}
	return ""
}
