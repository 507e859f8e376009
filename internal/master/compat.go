package master

import (
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/config/macro"
	"posthaste/internal/sys/maillog"
)

// oldDefaults are the parameters whose default depends on compatibility_level,
// with the level that brought the newer one (COMPATIBILITY_README).
var oldDefaults = map[string]string{
	"append_dot_mydomain":                       "1",
	"smtputf8_enable":                           "1",
	"mynetworks_style":                          "2",
	"relay_domains":                             "2",
	"smtpd_relay_before_recipient_restrictions": "3.6",
	"smtp_tls_security_level":                   "3.11",
}

// oldDefault logs a decision that an old default made, if that default is in
// force: the level is older, and the parameter is not set.
func oldDefault(view *config.View, log *maillog.Logger) func(setting, purpose string) {
	level, err := view.Level()
	if err != nil {
		return nil
	}
	return func(setting, purpose string) {
		param, _, _ := strings.Cut(setting, "=")
		newer, err := macro.ParseLevel(oldDefaults[param])
		if err == nil && level.Compare(newer) < 0 && !view.Explicit(param) {
			log.Infof("%s", strings.TrimSpace("using backwards-compatible default setting "+setting+" "+purpose))
		}
	}
}
