package policyd

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"posthaste/internal/policy/spf"
)

// What to do with a message, in the words of policyd-spf.
const (
	actDefer    = "defer"
	actReject   = "reject"
	actPrepend  = "prepend"
	actPass     = "result_only" // a restriction for those that pass
	actDunno    = "dunno"
	hiddenValue = "<UNKNOWN>"
)

// configured is policyd-spf.
type configured struct {
	Setup
	global Config
	attr   map[string]string
	memory memory[decision]
}

// decision is what was decided about a message.
type decision struct {
	made   bool
	action string
	text   string
	broken bool // because of PermError or TempError
}

// Configured makes the daemon with a configuration file.
func Configured(s Setup, c Config) Handler {
	return &configured{Setup: s, global: c, attr: map[string]string{}}
}

var attributeLine = regexp.MustCompile(`^\s*([^=\s]+)\s*=(.*)$`)

func (p *configured) attribute(line string) {
	line = strings.TrimRight(strings.ToValidUTF8(line, "\uFFFD"), " \t\r\n\f\v")
	if p.global.Debug >= 4 {
		p.Log.Infof("Read line: \"%s\"", line)
	}
	m := attributeLine.FindStringSubmatch(line)
	if m == nil {
		if p.global.Debug >= 0 {
			p.Log.Infof("ERROR: Could not match line \"%s\"", line)
		}
		return
	}
	name, value := m[1], m[2]
	if name != "protocol_state" && name != "protocol_name" && name != "queue_id" {
		value = strings.ToLower(value)
	}
	p.attr[name] = value
}

func (p *configured) action(ctx context.Context) string {
	defer clear(p.attr)
	c := p.global
	if c.deprecated != "" {
		p.Log.Infof("WARNING: Deprecated Config Option defaultSeedOnly in use in: %s", c.deprecated)
	}
	if c.Mock {
		return "dunno mock header field that should be ignored"
	}
	perUser := p.perUser(&c)
	d := p.decide(ctx, &c, perUser)
	if !c.IsReal && d.action != actPrepend {
		return actDunno
	}
	return p.answer(&c, d)
}

// perUser applies the settings of the recipient, or hides its local part.
func (p *configured) perUser(c *Config) bool {
	rcpt := p.attr["recipient"]
	if rcpt == "" {
		rcpt = "none"
	}
	p.attr["recipient"] = rcpt
	if _, file, ok := strings.Cut(c.PerUser, ","); ok {
		text, err := os.ReadFile(file)
		if err != nil {
			p.Log.Infof("ERROR stating \"%s\": %v", file, err)
			return false
		}
		user, ok := c.forUser(string(text), rcpt, p.Host)
		*c = user
		return ok
	}
	switch _, domain, ok := strings.Cut(rcpt, "@"); {
	case c.HideRcpt:
		p.attr["recipient"] = hiddenValue
	case ok:
		domain, _, _ = strings.Cut(domain, "@")
		p.attr["recipient"] = domain
	}
	return false
}

// answer turns a decision into an action, and logs it.
func (p *configured) answer(c *Config, d decision) string {
	reject, deferral := "550", "defer_if_permit"
	if c.Enhanced {
		reject, deferral = "550 5.7.23", "defer_if_permit 4.7.24"
		if d.broken {
			reject = "550 5.7.24"
		}
	}
	id := ""
	if queueID, ok := p.attr["queue_id"]; ok {
		id = queueID + ": "
	}
	log := func(format string, args ...any) {
		if c.Debug >= 1 {
			p.Log.Infof("%s%s", id, fmt.Sprintf(format, args...))
		}
	}
	switch d.action {
	case actReject:
		log("%s %s", reject, d.text)
		return reject + " " + d.text
	case actDefer:
		log("%s %s", deferral, d.text)
		return deferral + " " + d.text
	case actPass:
		log("result_only %s", d.text)
		return d.text
	case actPrepend:
		switch {
		case c.Prospective != "":
			return actDunno
		case c.Header == "None":
			log("Header field not prepended: %s", d.text)
			return actDunno
		}
		log("prepend %s", d.text)
		return "prepend " + d.text
	}
	return actDunno
}

// decide finds the decision about a message; later recipients of it share that.
func (p *configured) decide(ctx context.Context, c *Config, perUser bool) decision {
	known := &decision{}
	if !perUser {
		known = p.memory.of(p.attr["instance"])
	}
	if known.made {
		if known.action == actPrepend {
			return decision{action: actDunno}
		}
		d := *known
		d.broken = false // as it is in the original: the first answer alone says so
		return d
	}
	r := request{configured: p, c: c, sender: p.attr["sender"], helo: p.attr["helo_name"]}
	client := p.attr["client_address"]
	if c.Prospective != "" {
		client = c.Prospective
	}
	ip, ok := address(client)
	if !ok {
		return decision{action: actDunno}
	}
	r.ip, r.client = ip, client
	d := r.decide(ctx)
	d.made = d.action != actDunno
	*known = d
	return d
}

// request is one request that is being decided about.
type request struct {
	*configured
	c            *Config
	ip           netip.Addr
	client       string // as written
	sender, helo string
}

func (r *request) decide(ctx context.Context) decision {
	if comment := r.bypass(ctx); comment != "" {
		return decision{action: actPrepend, text: r.bypassHeader(comment)}
	}
	if r.sender == "" && r.helo == "" {
		return decision{action: actDunno}
	}
	if r.helo == "" {
		if _, r.helo, _ = strings.Cut(r.sender, "@"); r.helo == "" {
			r.helo = "unknown"
		}
	}
	var helo verdict
	if r.c.HELO != "No_Check" {
		helo = r.checkHELO(ctx)
		if helo.action == actReject || helo.action == actDefer {
			return decision{action: helo.action, text: r.refusal(&helo), broken: helo.broken()}
		}
	}
	if r.sender == "" {
		return r.nullSender(&helo)
	}
	if r.c.MailFrom == "No_Check" {
		if r.c.HELO == "No_Check" {
			return decision{action: actDunno}
		}
		return decision{action: actPrepend, text: helo.header}
	}
	return r.mailFrom(ctx, &helo)
}

func (r *request) nullSender(helo *verdict) decision {
	switch {
	case r.c.HELO == "No_Check":
		return decision{action: actDunno}
	case r.c.HELOPass != "" && helo.Result == spf.Pass:
		return decision{action: actPass, text: r.c.HELOPass}
	}
	return decision{action: helo.action, text: helo.header, broken: helo.broken()}
}

func (r *request) mailFrom(ctx context.Context, helo *verdict) decision {
	mfrom := r.checkMailFrom(ctx, helo)
	switch {
	case r.c.MailPass != "" && mfrom.Result == spf.Pass:
		return decision{action: actPass, text: r.c.MailPass}
	case r.c.HELOPass != "" && helo.Result == spf.Pass:
		return decision{action: actPass, text: r.c.HELOPass}
	case mfrom.action == actReject || mfrom.action == actDefer:
		return decision{action: mfrom.action, text: r.refusal(&mfrom), broken: mfrom.broken()}
	}
	header := mfrom.header
	if header == "" {
		header = helo.header
	}
	return decision{action: actPrepend, text: header}
}

// verdict is the result of a check and what is to be done about it.
type verdict struct {
	spf.Answer
	scope, name     string // "helo" or "mailfrom", and the identity
	comment, action string
	header          string // "" when it says nothing
}

func (v *verdict) broken() bool { return v.Result == spf.PermError || v.Result == spf.TempError }

// capital is a result's name as this daemon writes it.
func capital(r spf.Result) string {
	name := r.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

func (r *request) check(ctx context.Context, q spf.Query) spf.Answer {
	checker := r.checker()
	checker.Receiver = "" // its explanations do not name the receiver
	checker.Timeout, checker.VoidLimit = r.c.Lookup, r.c.VoidLimit
	q.IP, q.Helo = r.ip, r.helo
	return checker.Check(ctx, q)
}

func (r *request) checkHELO(ctx context.Context) verdict {
	v := verdict{Answer: r.check(ctx, spf.Query{Scope: spf.Helo}), scope: "helo", name: r.helo}
	policy, local := r.c.HELO, r.isListed(r.helo)
	if local {
		policy = "SPF_Not_Pass"
	}
	if r.c.HELO == "Null" && r.sender != "" {
		v.action = actDunno
	} else {
		v.action = r.c.actionFor(v.Result, policy)
	}
	r.finish(&v, local)
	return v
}

func (r *request) checkMailFrom(ctx context.Context, helo *verdict) verdict {
	v := verdict{Answer: r.check(ctx, spf.Query{Sender: r.sender}), scope: "mailfrom", name: r.sender}
	_, domain, _ := strings.Cut(r.sender, "@")
	policy, local := r.c.MailFrom, r.isListed(domain)
	if local {
		policy = "SPF_Not_Pass"
	}
	v.action = r.c.actionFor(v.Result, policy)
	r.finish(&v, local)
	if v.Result == spf.None && helo.Result != spf.None {
		v.header = "" // the HELO name's says more
	}
	return v
}

// actionFor is what a policy such as HELO_reject says about a result.
func (c *Config) actionFor(result spf.Result, policy string) string {
	refused := map[string][]spf.Result{
		"SPF_Not_Pass": {spf.Fail, spf.SoftFail, spf.Neutral},
		"Softfail":     {spf.Fail, spf.SoftFail},
		"Fail":         {spf.Fail},
		"Null":         {spf.Fail},
	}
	switch {
	case slices.Contains(refused[policy], result),
		result == spf.PermError && c.PermError && policy != "False":
		return actReject
	case result == spf.TempError && c.TempError && policy != "False":
		return actDefer
	}
	return actPrepend
}

// isListed reports whether a domain is in Reject_Not_Pass_Domains.
func (r *request) isListed(domain string) bool {
	for _, listed := range strings.Split(r.c.RejectNot, ",") {
		if listed != "" && (domain == listed || strings.HasSuffix(domain, "."+listed)) {
			return true
		}
	}
	return false
}

// finish completes a verdict with comment and header, and applies No_Mail.
func (r *request) finish(v *verdict, local bool) {
	v.comment = reason(&v.Answer)
	if r.c.Debug >= 2 {
		r.Log.Infof("spfcheck: pyspf result: \"['%s', '%s', '%s']\"", capital(v.Result), v.comment, v.scope)
	}
	if local {
		v.comment = "Receiver policy for SPF " + capital(v.Result)
	}
	if v.Result == spf.None {
		v.comment = "no SPF record"
	}
	sender := r.sender
	if sender == "" {
		sender = "<>"
	}
	detail := fmt.Sprintf("client-ip=%s; helo=%s; envelope-from=%s; receiver=%s", r.client, r.helo, sender, r.attr["recipient"])
	if r.c.Debug >= 2 {
		r.Log.Infof("%s; identity=%s; %s ", capital(v.Result), v.scope, detail)
	}
	v.header = r.header(v, detail)
	if v.action == actReject && r.c.NoMail && v.Record != "v=spf1 -all" {
		v.action = actPrepend
	}
}

func (r *request) header(v *verdict, detail string) string {
	if strings.Contains(r.c.Header, "AR") {
		property, value := "helo", r.helo
		if v.scope == "mailfrom" {
			property, value = "mailfrom", v.name[strings.LastIndexByte(v.name, '@')+1:]
		}
		return fmt.Sprintf("Authentication-Results: %s; spf=%s (%s) smtp.%s=%s (%s)", r.c.AuthservID, v.Result, v.comment, property, value, detail)
	}
	comment := v.comment
	if v.scope == "mailfrom" {
		comment = v.scope
	}
	return fmt.Sprintf("Received-SPF: %s (%s) identity=%s; %s ", capital(v.Result), comment, v.scope, detail)
}

// refusal is Reason_Message.
func (r *request) refusal(v *verdict) string {
	scope, done := "mfrom", "rejected"
	if v.scope == "helo" {
		scope = "helo"
	}
	if v.action == actDefer {
		done = "deferred"
	}
	url := fmt.Sprintf("http://www.openspf.net/Why?s=%s;id=%s;ip=%s;r=%s", scope, v.name, r.client, r.attr["recipient"])
	return strings.NewReplacer("{rejectdefer}", done, "{spf}", v.comment, "{url}", url, "{{", "{", "}}", "}").Replace(r.c.Reason)
}

// reason says why in the words of this daemon.
func reason(a *spf.Answer) string {
	switch a.Result {
	case spf.Pass:
		return "sender SPF authorized"
	case spf.Fail:
		if a.Explanation != "" {
			return a.Explanation
		}
		return "SPF fail - not authorized"
	case spf.SoftFail:
		return "domain owner discourages use of this host"
	case spf.Neutral:
		return "access neither permitted nor denied"
	case spf.TempError:
		return "SPF Temporary Error: " + a.Reason
	case spf.PermError:
		return "SPF Permanent Error: " + fault(a)
	}
	return ""
}

// faults are errors of records in the words of this daemon.
var faults = []struct{ begin, instead string }{
	{"Unknown mechanism type", "Unknown mechanism found: "},
	{"Missing required IPv4 address", "Invalid IP4 address: "},
	{"Missing required IPv6 address", "Invalid IP6 address: "},
	{"Invalid IPv4 prefix length", "Invalid IP4 CIDR length: "},
	{"Invalid IPv6 prefix length", "Invalid IP6 CIDR length: "},
}

func fault(a *spf.Answer) string {
	for _, f := range faults {
		if strings.HasPrefix(a.Reason, f.begin) {
			return f.instead + a.Term
		}
	}
	switch {
	case strings.HasPrefix(a.Reason, "Redundant"):
		return "Two or more type TXT spf records found."
	case strings.HasPrefix(a.Reason, "Included domain"):
		_, domain, _ := strings.Cut(a.Term, ":")
		return "No valid SPF record for included domain: " + domain + ": " + a.Term
	case strings.HasSuffix(a.Term, ":"):
		return "empty domain:: " + a.Term
	case strings.HasPrefix(a.Reason, "Maximum DNS"):
		return "Too many DNS lookups"
	case strings.HasPrefix(a.Reason, "Maximum void"):
		return fmt.Sprintf("Void lookup limit of %d exceeded", a.Voids-1)
	}
	return a.Reason
}
