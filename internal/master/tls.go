package master

import (
	"maps"
	"slices"
	"strings"

	"posthaste/internal/config"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/wire/mailtls"
)

// tellUnsupported names the settings about TLS that somebody made and that do
// nothing. prefix is "smtpd_", "smtp_" or "lmtp_": settings of others are not
// this role's to tell of.
func tellUnsupported(view *config.View, prefix string, log *maillog.Logger) {
	unsupported := mailtls.Unsupported()
	for _, name := range slices.Sorted(maps.Keys(unsupported)) {
		if view.Explicit(name) && (strings.HasPrefix(name, prefix) || strings.HasPrefix(name, "tls_")) {
			log.Warnf("%s is ignored: %s", name, unsupported[name])
		}
	}
}
