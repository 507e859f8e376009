package command

import (
	"posthaste/internal/command/greylisting"
	"posthaste/internal/command/mailqueue"
	"posthaste/internal/command/scripting"
	"posthaste/internal/command/submission"
)

// commands maps the names of the multi-call binary to their functions.
var commands = map[string]Run{
	"master":             Master,
	"postfix":            Postfix,
	"posthaste-delivery": deliveryProcess,
	"posthaste-mail":     mailProcess,
	"try":                Try,
	"version":            Version,
	"greylist":           lower(greylisting.Greylist),
	"newaliases":         Newaliases,
	"postalias":          Postalias,
	"postgrey":           lower(greylisting.Postgrey),
	"postmap":            Postmap,
	"postconf":           Postconf,
	"mailq":              lower(mailqueue.Mailq),
	"postcat":            lower(mailqueue.Postcat),
	"postqueue":          lower(mailqueue.Postqueue),
	"postsuper":          lower(mailqueue.Postsuper),
	"postdrop":           lower(submission.Postdrop),
	"postkick":           lower(scripting.Postkick),
	"postlock":           lower(scripting.Postlock),
	"postlog":            lower(scripting.Postlog),
	"sendmail":           Sendmail,
	"spf":                SPF,
	"policyd-spf":        PolicydSPF,

	"postfix-policyd-spf-perl": PolicydSPFPerl,
}
