package mailbox

import (
	"errors"
	"fmt"
	"strings"

	"posthaste/internal/delivery/worker"
	"posthaste/internal/mail/dsn"
)

// OutputLimit is how much of a command's output is kept, in bytes.
const OutputLimit = 4096

// exits are the exit codes of <sysexits.h>.
var exits = map[int]struct{ enhanced, text string }{
	64: {"5.3.0", "command line usage error"},
	65: {"5.6.0", "data format error"},
	66: {"5.3.0", "cannot open input"},
	67: {"5.1.1", "user unknown"},
	68: {"5.1.2", "host name unknown"},
	69: {"5.3.0", "service unavailable"},
	70: {"5.3.0", "internal software error"},
	71: {"4.3.0", "system resource problem"},
	72: {"5.3.0", "critical OS file missing"},
	73: {"5.2.0", "can't create user output file"},
	74: {"5.3.0", "input/output error"},
	75: {"4.3.0", "temporary failure"},
	76: {"5.5.0", "remote error in protocol"},
	77: {"5.7.0", "permission denied"},
	78: {"5.3.5", "local configuration error"},
}

const (
	exitSoftware = 70
	exitTempFail = 75
)

// Verdict is what the end of a command means for a delivery.
type Verdict struct {
	// Status is zero for success; its text and scope are the caller's then.
	Status dsn.Status
	// Output is what a successful command said, trimmed.
	Output string
	// Fatal is to be logged as a fatal error of the child, "" for none.
	Fatal string
}

// Judge finds out what the end of a command means (pipe(8), DIAGNOSTICS; the
// same for local(8)). shown is the command as reports name it, and program the
// name of the mail program in the output that a failed start leaves:
// "local: fatal: ...".
func Judge(done worker.Finished, err error, shown, program string) Verdict {
	if err != nil {
		var e *worker.Error
		if errors.As(err, &e) {
			return Verdict{Status: dsn.FromEnhanced("4.3.0", fmt.Sprintf("Command failed: %s: %q", e.Text, shown))}
		}
		return Verdict{Status: Trouble(err, "4.3.0", "")}
	}
	output := clean(string(done.Output))
	if done.StartError != "" {
		return notStarted(done.StartError, program)
	}
	said := ""
	if output != "" {
		said = ". Command output: " + output
	}
	switch {
	case done.TimedOut:
		return verdict("5.3.0", fmt.Sprintf("Command time limit exceeded: \"%s\"%s", shown, said), output, exitSoftware)
	case done.Signal != 0:
		return verdict("4.3.0", fmt.Sprintf("Command died with signal %d: \"%s\"%s", done.Signal, shown, said), output, exitSoftware)
	case done.Exit != 0:
		return exited(done.Exit, shown, output, said)
	case done.InputError != "":
		return Verdict{Status: dsn.FromEnhanced("5.3.0", fmt.Sprintf("Command failed: %s: \"%s\"", done.InputError, shown))}
	}
	return Verdict{Output: strings.TrimSpace(output)}
}

func exited(code int, shown, output, said string) Verdict {
	// The class of a reply code is its own; 2.x.x cannot excuse a failure.
	if enhanced, text := dsn.SplitEnhanced(output); enhanced != "" && enhanced[0] != '2' {
		return verdict(enhanced, text, text, exitSoftware)
	}
	if known, ok := exits[code]; ok {
		return verdict(known.enhanced, known.text+said, output, code)
	}
	if output == "" {
		output = fmt.Sprintf("unknown mail system error %d", code)
	}
	return verdict("5.3.0", fmt.Sprintf("Command died with status %d: \"%s\"%s", code, shown, said), output, exitSoftware)
}

// verdict makes a failure with its diagnostic text for reports.
func verdict(enhanced, text, output string, code int) Verdict {
	if output == "" {
		output = exits[code].text
	}
	s := dsn.FromEnhanced(enhanced, text).WithRemote(dsn.Remote{DiagType: "x-unix", Diag: strings.TrimSpace(output)})
	return Verdict{Status: s}
}

// notStarted is a command whose child process could not even start it. A
// directory that cannot be entered is found before the output is connected.
func notStarted(why, program string) Verdict {
	fatal := "fatal: " + why
	if strings.HasPrefix(why, "cannot change directory") {
		v := verdict("4.3.0", exits[exitTempFail].text, "", exitTempFail)
		v.Fatal = why
		return v
	}
	if program == "pipe" {
		why = "pipe_command: " + why
		fatal = "fatal: " + why
	}
	output := program + ": " + fatal + " "
	v := verdict("4.3.0", exits[exitTempFail].text+". Command output: "+output, output, exitTempFail)
	v.Fatal = why
	return v
}

// clean makes the output of a command one line of text. A final line end stays
// as a blank, as in Postfix's reports.
func clean(output string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, output)
}

// Environment is the environment of commands but for what describes the
// message: a search path, and what export_environment lets through.
func Environment(exported []string) []string {
	return append([]string{"PATH=/usr/bin:/bin"}, exported...)
}

// Export selects from an environment by export_environment: names, and
// name=value settings. imported is what import_environment set, which wins
// over the process's own.
func Export(list, imported string, getenv func(string) (string, bool)) []string {
	given := map[string]string{}
	for _, item := range words(imported) {
		if name, value, ok := strings.Cut(item, "="); ok {
			given[name] = value
		}
	}
	var env []string
	for _, item := range words(list) {
		if strings.Contains(item, "=") {
			env = append(env, item)
			continue
		}
		value, ok := given[item]
		if !ok {
			value, ok = getenv(item)
		}
		if ok {
			env = append(env, item+"="+value)
		}
	}
	return env
}

// words divides at commas and white space; { } keep an item together.
func words(text string) []string {
	var list []string
	for {
		text = strings.TrimLeft(text, ", \t\r\n")
		if text == "" {
			return list
		}
		if end := strings.IndexByte(text, '}'); text[0] == '{' && end > 0 {
			list = append(list, strings.TrimSpace(text[1:end]))
			text = text[end+1:]
			continue
		}
		end := strings.IndexAny(text, ", \t\r\n")
		if end < 0 {
			end = len(text)
		}
		list = append(list, text[:end])
		text = text[end:]
	}
}

// WithConfig is getenv with MAIL_CONFIG as every Postfix process has it.
func WithConfig(dir string, getenv func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name == "MAIL_CONFIG" && dir != "" {
			return dir, true
		}
		return getenv(name)
	}
}
