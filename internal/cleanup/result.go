package cleanup

import (
	"errors"
	"strings"

	"posthaste/internal/mail/dsn"
	"posthaste/internal/queue"
)

// failure is why a message is not accepted; a set. The first in this order is
// what is answered.
type failure uint8

const (
	failDefer      failure = 1 << iota // try again later, see reason
	failRecipients                     // none
	failHops                           // hopcount_limit
	failSize                           // message_size_limit
	failContent                        // see reason
	failWrite                          // our own trouble
)

// temporary failures are never bounced.
const temporary = failDefer | failWrite

// result is the answer to a set of failures, as text for a report; reason is
// that of a content check, "5.7.1 text", or "".
func result(f failure, reason string) dsn.Status {
	switch {
	case f&failDefer != 0:
		return reasoned(451, "4.7.1", "service unavailable, try again later", reason)
	case f&failRecipients != 0:
		return dsn.New(550, "5.1.0", "no recipients specified")
	case f&failHops != 0:
		return dsn.New(554, "5.4.0", "too many hops")
	case f&failSize != 0:
		return dsn.New(552, "5.3.4", "message file too big")
	case f&failContent != 0:
		return reasoned(550, "5.7.1", "message content rejected", reason)
	case f&failWrite != 0:
		return dsn.New(451, "4.3.0", "queue file write error")
	}
	return dsn.New(250, "2.0.0", "Ok")
}

func reasoned(code int, enhanced, text, reason string) dsn.Status {
	if given, rest := dsn.SplitEnhanced(reason); given != "" {
		enhanced, text = given, rest
	}
	return dsn.New(code, enhanced, text)
}

// reply is the answer as an SMTP client gets it: failures without a reason of
// their own begin with "Error:".
func reply(f failure, reason string) dsn.Status {
	s := result(f, reason)
	if s.OK() || ((f&(failDefer|failContent)) != 0 && f&(failRecipients|failHops|failSize) == 0) {
		return s
	}
	return s.WithText("Error: " + s.Text())
}

// writeError is the answer when the queue fails.
func writeError(err error) dsn.Status {
	if errors.Is(err, queue.ErrFull) {
		return dsn.New(452, "4.3.1", "Insufficient system storage")
	}
	return dsn.Trouble(err, "Error: queue file write error")
}

// clip shortens what a log line quotes of a message.
func clip(text []byte) string {
	const limit = 200
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(string(text), "?")
}
