// Package version names the release: what mail_version and
// mail_release_date expand to, and what sessions and reports announce.
package version

// Mail is the default of mail_version: the Postfix release whose behaviour
// and settings this program has, and its own version.
const Mail = Postfix + "-posthaste." + Own

// Postfix is the release of Postfix that serves as the specification.
const Postfix = "3.11.6"

// Own is the version of this program.
const Own = "0.1.0"

// ReleaseDate is the default of mail_release_date, as YYYYMMDD.
const ReleaseDate = "20260809"

// Level is the newest compatibility level, the one that turns every
// backwards-compatible default off.
const Level = "3.11"
