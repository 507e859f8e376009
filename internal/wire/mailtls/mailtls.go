// Package mailtls is TLS as Postfix configures and logs it, on top of
// crypto/tls: protocol and cipher lists, certificate files, SNI, client
// certificates and fingerprints on the server's side; security levels, trust
// and matching of names on the client's (TLS_README).
//
// It promises that certificates are read again when their files change and
// that the last good ones stay in use when they cannot be; that what
// crypto/tls cannot do is named in the log and never silently different; and
// that a handshake ends within its time limit. The SMTP server and client use
// it. Which level is in force, and what a failed handshake means for the mail,
// is theirs to decide.
package mailtls

import (
	"os"
	"time"

	"posthaste/internal/sys/maillog"
)

// Deps are the neighbours of a Server or Client.
type Deps struct {
	Log *maillog.Logger
	// OpenFile opens certificate and key files, which only root may read;
	// nil is os.Open.
	OpenFile func(path string) (*os.File, error)
	Now      func() time.Time // nil: time.Now
}

func (d Deps) filled() Deps {
	if d.OpenFile == nil {
		d.OpenFile = os.Open
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return d
}

// Problem is why TLS cannot be used: lines for the log, the last of which ends
// in "disabling TLS support" or the like.
type Problem struct {
	Lines []string
	// Plain: the first line is no warning for Postfix.
	Plain bool
}

func (p Problem) Error() string {
	if len(p.Lines) == 0 {
		return "TLS is not available"
	}
	return p.Lines[0]
}

// warn writes the lines of a problem.
func warn(log *maillog.Logger, err error) {
	if p, ok := err.(Problem); ok {
		for i, line := range p.Lines {
			if i == 0 && p.Plain {
				log.Infof("%s", line)
				continue
			}
			log.Warnf("%s", line)
		}
		return
	}
	log.Warnf("%v", err)
}

// library is a line of OpenSSL's: those who watch logs know them.
func library(text string) string { return "TLS library problem: " + text }
