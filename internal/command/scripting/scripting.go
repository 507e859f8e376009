// Package scripting holds the small commands that scripts around the mail
// system use: postlog(1), postkick(1) and postlock(1).
package scripting

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/maillog"
)

// priorities are the words of postlog -p.
var priorities = map[string]maillog.Severity{
	"info": maillog.Info, "warn": maillog.Warning, "warning": maillog.Warning,
	"error": maillog.Error, "fatal": maillog.Fatal, "panic": maillog.Panic,
}

// Postlog is postlog(1): its arguments, or the lines of its standard input,
// go to the log and to standard error.
func Postlog(_ context.Context, env *cli.Env) int {
	options := env.Getopt("c:ip:t:v")
	flagC, tag, pid, severity, problem := "", "", false, maillog.Info, ""
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case 'i':
			pid = true
		case 'p':
			known := false
			if severity, known = priorities[strings.ToLower(value)]; !known {
				problem = fmt.Sprintf("unknown severity: %s", value)
			}
		case 't':
			tag = value
		case '?':
			problem = "usage: " + env.Name + " [-c config_dir] [-i] [-p priority] [-t tag] [-v] [text]"
		}
	}
	t, status := env.Load(flagC)
	if status != 0 {
		return status
	}
	if problem != "" {
		return t.Fatal(1, "%s", problem)
	}
	shown := t.Log.Tag()
	if pid {
		shown = fmt.Sprintf("%s[%d]", shown, os.Getpid())
	}
	log := t.Log
	if tag != "" {
		log = log.With(tag)
	}
	return each(options.Operands(), t.Stdin, func(text string) {
		fmt.Fprintf(t.Stderr, "%s: %s%s\n", shown, severity.Prefix(), maillog.Printable(text))
		write(log, severity, text)
	})
}

func write(log *maillog.Logger, severity maillog.Severity, text string) {
	switch severity {
	case maillog.Info:
		log.Infof("%s", text)
	case maillog.Warning:
		log.Warnf("%s", text)
	case maillog.Error:
		log.Errorf("%s", text)
	case maillog.Fatal:
		log.Fatalf("%s", text)
	default:
		log.Panicf("%s", text)
	}
}

// maxLine is where a line of standard input is cut.
const maxLine = 64 << 10

func each(words []string, in io.Reader, fn func(text string)) int {
	if len(words) > 0 {
		fn(strings.Join(words, " "))
		return 0
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		fn(lines.Text())
	}
	if lines.Err() != nil {
		return 1
	}
	return 0
}

// Postkick is postkick(1): it sends a request to a service of master.cf.
func Postkick(ctx context.Context, env *cli.Env) int {
	options := env.Getopt("c:v")
	flagC, bad := "", false
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case '?':
			bad = true
		}
	}
	t, status := env.Load(flagC)
	if status != 0 {
		return status
	}
	words := options.Operands()
	if bad || len(words) != 3 {
		return t.Fatal(1, "usage: %s [-c config_dir] [-v] class service request", env.Name)
	}
	class, service, request := words[0], words[1], words[2]
	var c struct {
		Dir string `param:"queue_directory"`
	}
	if status := t.Fill(&c); status != 0 {
		return status
	}
	var err error
	if class != "public" && class != "private" || strings.Contains(service, "/") {
		err = os.ErrInvalid
	} else {
		err = trigger.Send(ctx, filepath.Join(c.Dir, class, service), request)
	}
	if err != nil {
		return t.Fatal(1, "Cannot contact class %s service %s - perhaps the mail system is down", class, service)
	}
	return 0
}
