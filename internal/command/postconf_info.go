package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/config/maincf"
	"posthaste/internal/config/params"
	"posthaste/internal/delivery/bounce"
)

// lists shows what this build supports.
func (p *postconf) lists() error {
	var names []string
	switch {
	case p.has(pcMaps):
		names = params.TableTypes
	case p.has(pcLocks):
		names = []string{"flock", "fcntl", "dotlock"}
	case p.has(pcServerSASL):
		names = []string{"cyrus", "dovecot"}
	default:
		names = []string{"cyrus"}
	}
	for _, name := range names {
		fmt.Fprintln(p.Stdout, name)
	}
	return nil
}

// tls answers -T. There is no OpenSSL in this program; programs that ask
// compare versions, and are told the one whose features they get.
func (p *postconf) tls() error {
	switch strings.ToLower(p.tlsMode) {
	case "compile-version", "run-version":
		fmt.Fprintf(p.Stdout, "OpenSSL 3.0.0 (not linked: Go crypto/tls of %s)\n", runtime.Version())
	case "public-key-algorithms":
		fmt.Fprint(p.Stdout, "ecdsa\ned25519\nrsa\n")
	default:
		p.Warnf("unknown 'postconf -T' mode: %s", p.tlsMode)
		return errSilent
	}
	return nil
}

// templates shows the texts of bounce(5), with -b as they are sent.
func (p *postconf) templates() error {
	if len(p.names) > 1 {
		return errors.New("options -b and -t require at most one template file")
	}
	s, err := config.LoadMain(p.dir)
	if err != nil {
		return err
	}
	for _, warning := range s.MainFile().Warnings {
		p.Warnf("%s", warning.Text)
	}
	if err := p.showTemplates(s.Main()); err != nil {
		// The report is bounce(8)'s, which writes these texts.
		fmt.Fprintf(p.Stderr, "postfix/bounce: fatal: %s\n", err)
		return errSilent
	}
	return nil
}

func (p *postconf) showTemplates(main *config.View) error {
	path, err := main.String("bounce_template_file")
	if err != nil {
		return err
	}
	if len(p.names) == 1 {
		path = p.names[0]
	}
	from, err := main.String("header_from_format")
	if err != nil {
		return err
	}
	all := bounce.Defaults(from)
	if path != "" {
		if all, err = readTemplates(p.dir, path, all); err != nil {
			return err
		}
	}
	for i, t := range []bounce.Template{all.Failure, all.Delay, all.Success, all.Verify} {
		if i > 0 {
			fmt.Fprintln(p.Stdout)
		}
		if err := p.template(main, t); err != nil {
			return err
		}
	}
	return nil
}

func readTemplates(dir, path string, defaults bounce.Templates) (bounce.Templates, error) {
	if !filepath.IsAbs(path) {
		if _, err := os.Stat(path); err != nil {
			path = filepath.Join(dir, path)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return defaults, maincf.OpenError(path, err)
	}
	defer file.Close()
	return bounce.ParseTemplates(file, path, defaults)
}

func (p *postconf) template(main *config.View, t bounce.Template) error {
	text := t.Text
	if p.has(pcExpandedTemplates) {
		var err error
		if text, err = p.expandTemplate(main, t); err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "expanded_%s_text = <<EOF\n", t.Name)
	} else {
		fmt.Fprintf(p.Stdout, "%s_template = <<EOF\n", t.Name)
		for _, header := range [][2]string{{"Charset", t.Charset}, {"From", t.From}, {"Subject", t.Subject},
			{"Postmaster-Subject", t.PostmasterSubject}} {
			if header[1] != "" {
				fmt.Fprintf(p.Stdout, "%s: %s\n", header[0], header[1])
			}
		}
		fmt.Fprintln(p.Stdout)
	}
	for _, line := range text {
		fmt.Fprintln(p.Stdout, line)
	}
	fmt.Fprintln(p.Stdout, "EOF")
	return nil
}

func (p *postconf) expandTemplate(main *config.View, t bounce.Template) ([]string, error) {
	var times [2]time.Duration
	for i, name := range []string{"delay_warning_time", "maximal_queue_lifetime"} {
		var err error
		if times[i], err = main.Duration(name); err != nil {
			return nil, err
		}
	}
	return t.Expand(bounce.Values{
		Lookup: func(name string) (string, bool) {
			value, err := main.String(name)
			return value, err == nil && main.Known(name)
		},
		DelayTime: times[0], MaxLifetime: times[1], Warnf: p.Warnf,
	})
}
