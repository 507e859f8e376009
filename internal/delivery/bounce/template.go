package bounce

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Template is the text of one kind of report (bounce(5)).
type Template struct {
	Name              string // "failure", "delay", "success" or "verify"
	Origin            string // file it is from, "[built-in]" for ours
	Charset           string
	From              string
	Subject           string
	PostmasterSubject string // "" if there is no copy for the postmaster
	Text              []string
}

// Templates are the four reports.
type Templates struct{ Failure, Delay, Success, Verify Template }

// Defaults are the built-in templates, the texts of Postfix. obsolete selects
// the old form of From: (postconf(5) header_from_format).
func Defaults(headerFrom string) Templates {
	t, err := ParseTemplates(strings.NewReader(defaultText), "[built-in]", Templates{})
	if err != nil {
		panic(err) // the text above is ours and tested
	}
	if headerFrom == "obsolete" {
		for _, one := range t.all() {
			one.From = "MAILER-DAEMON (Mail Delivery System)"
		}
	}
	return t
}

// DefaultText is the built-in templates in the format of bounce(5), as shown
// by postconf -t.
func DefaultText() string { return defaultText }

const defaultText = `failure_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Undelivered Mail Returned to Sender
Postmaster-Subject: Postmaster Copy: Undelivered Mail

This is the mail system at host $myhostname.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

For further assistance, please send mail to postmaster.

If you do so, please include this problem report. You can
delete your own text from the attached returned message.

                   The mail system
EOF

delay_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Delayed Mail (still being retried)
Postmaster-Subject: Postmaster Warning: Delayed Mail

This is the mail system at host $myhostname.

####################################################################
# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #
####################################################################

Your message could not be delivered for more than $delay_warning_time_hours hour(s).
It will be retried until it is $maximal_queue_lifetime_days day(s) old.

For further assistance, please send mail to postmaster.

If you do so, please include this problem report. You can
delete your own text from the attached returned message.

                   The mail system
EOF

success_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Successful Mail Delivery Report

This is the mail system at host $myhostname.

Your message was successfully delivered to the destination(s)
listed below. If the message was delivered to mailbox you will
receive no further notifications. Otherwise you may still receive
notifications of mail delivery errors from other systems.

                   The mail system
EOF

verify_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Mail Delivery Status Report

This is the mail system at host $myhostname.

Enclosed is the mail delivery report that you requested.

                   The mail system
EOF
`

func (t *Templates) all() []*Template {
	return []*Template{&t.Failure, &t.Delay, &t.Success, &t.Verify}
}

func (t *Templates) named(name string) *Template {
	switch name {
	case "failure_template":
		return &t.Failure
	case "delay_template":
		return &t.Delay
	case "success_template":
		return &t.Success
	case "verify_template":
		return &t.Verify
	}
	return nil
}

// maxTemplate bounds a template file; texts are a few hundred bytes.
const maxTemplate = 1 << 20

// ParseTemplates reads a file in the format of bounce(5); what it does not set
// is taken from defaults. origin is its name. An error names file and line.
func ParseTemplates(r io.Reader, origin string, defaults Templates) (Templates, error) {
	p := parser{origin: origin, out: defaults, lines: bufio.NewScanner(io.LimitReader(r, maxTemplate))}
	p.lines.Buffer(nil, maxTemplate)
	for p.next() {
		line := strings.TrimSpace(p.line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := p.template(line); err != nil {
			return Templates{}, fmt.Errorf("%s, line %d: %w", origin, p.number, err)
		}
	}
	if err := p.lines.Err(); err != nil {
		return Templates{}, fmt.Errorf("%s: %w", origin, err)
	}
	return p.out, nil
}

type parser struct {
	origin string
	out    Templates
	lines  *bufio.Scanner
	line   string
	number int
}

func (p *parser) next() bool {
	if !p.lines.Scan() {
		return false
	}
	p.line = strings.TrimSuffix(p.lines.Text(), "\r")
	p.number++
	return true
}

// template reads "name = <<WORD" and the lines up to WORD.
func (p *parser) template(line string) error {
	name, word, ok := strings.Cut(line, "=")
	name, word = strings.TrimSpace(name), strings.TrimSpace(word)
	word, marked := strings.CutPrefix(word, "<<")
	word = strings.TrimSpace(word)
	if !ok || !marked || word == "" {
		return fmt.Errorf("want template_name = <<EOF, found %q", line)
	}
	t := p.out.named(name)
	if t == nil {
		return fmt.Errorf("unknown template name %q", name)
	}
	fresh := Template{Name: strings.TrimSuffix(name, "_template"), Origin: p.origin,
		Charset: t.Charset, From: t.From, Subject: t.Subject, PostmasterSubject: t.PostmasterSubject}
	header := true
	for p.next() {
		switch {
		case p.line == word:
			*t = fresh
			return nil
		case !header:
			fresh.Text = append(fresh.Text, p.line)
		case strings.TrimSpace(p.line) == "":
			header = false
		default:
			if known, err := fresh.header(p.line); err != nil {
				return err
			} else if !known {
				// No header at all: the text starts here.
				header = false
				fresh.Text = append(fresh.Text, p.line)
			}
		}
	}
	return fmt.Errorf("template %q has no end marker %q", name, word)
}

func (t *Template) header(line string) (known bool, err error) {
	label, value, ok := strings.Cut(line, ":")
	if !ok || strings.ContainsAny(label, " \t") {
		return false, nil
	}
	for i := 0; i < len(value); i++ {
		if value[i] >= 0x80 || value[i] == 0 {
			return true, fmt.Errorf("header %q: only ASCII text is allowed", label)
		}
	}
	value = strings.TrimSpace(value)
	switch strings.ToLower(label) {
	case "charset":
		t.Charset = value
	case "from":
		t.From = value
	case "subject":
		t.Subject = value
	case "postmaster-subject":
		t.PostmasterSubject = value
	default:
		return true, fmt.Errorf("unknown template header %q", label)
	}
	return true, nil
}

// Values are what $name stands for in a template text.
type Values struct {
	Lookup      func(name string) (string, bool) // main.cf parameters, expanded
	DelayTime   time.Duration                    // delay_warning_time
	MaxLifetime time.Duration                    // maximal_queue_lifetime
	Warnf       func(format string, args ...any) // may be nil
}

// Expand returns the text lines with $name, ${name} and $(name) replaced; $$
// is a dollar sign. An unknown name is an error.
func (t *Template) Expand(v Values) ([]string, error) {
	lines := make([]string, 0, len(t.Text))
	for _, line := range t.Text {
		expanded, err := t.expand(line, v)
		if err != nil {
			return nil, err
		}
		lines = append(lines, expanded)
	}
	return lines, nil
}

func (t *Template) expand(line string, v Values) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(line, "$")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		if after, found := strings.CutPrefix(rest, "$"); found {
			b.WriteByte('$')
			line = after
			continue
		}
		name, after := variable(rest)
		value, found := t.value(name, v)
		if !found {
			return "", fmt.Errorf("%s: undefined $name %q in %s template", t.Origin, name, t.Name)
		}
		b.WriteString(value)
		line = after
	}
}

// variable splits the name at the start of what follows a dollar sign.
func variable(text string) (name, rest string) {
	if text != "" && (text[0] == '{' || text[0] == '(') {
		closing := "}"
		if text[0] == '(' {
			closing = ")"
		}
		name, rest, _ := strings.Cut(text[1:], closing)
		return name, rest
	}
	n := 0
	for n < len(text) && (text[n] == '_' || text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z' || text[n] >= '0' && text[n] <= '9') {
		n++
	}
	return text[:n], text[n:]
}

var timeUnits = map[string]time.Duration{"seconds": time.Second, "minutes": time.Minute, "hours": time.Hour,
	"days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour}

func (t *Template) value(name string, v Values) (string, bool) {
	for _, timed := range []struct {
		prefix string
		value  time.Duration
	}{{"delay_warning_time_", v.DelayTime}, {"maximal_queue_lifetime_", v.MaxLifetime}} {
		suffix, ok := strings.CutPrefix(name, timed.prefix)
		if !ok {
			continue
		}
		unit, ok := timeUnits[suffix]
		if !ok {
			return "", false
		}
		n := int64(timed.value / unit)
		if n == 0 && timed.value > 0 && v.Warnf != nil {
			v.Warnf("%s: zero result in %s template conversion of parameter \"%s\"", t.Origin, t.Name, name)
			v.Warnf("please reduce time unit \"%s\" of \"%s\" in %s template", suffix, name, t.Name)
			v.Warnf("for instructions see the bounce(5) manual")
		}
		return strconv.FormatInt(n, 10), true
	}
	if v.Lookup == nil {
		return "", false
	}
	return v.Lookup(name)
}
