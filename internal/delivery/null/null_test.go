package null

import (
	"context"
	"testing"

	"posthaste/internal/mail/envelope"
	"posthaste/internal/qmgr/transport"
	"posthaste/internal/sys/maillog"
)

func TestAgents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind          Kind
		nexthop, want string
		log           string
	}{
		{Error, "5.1.1 no such user", "550 5.1.1 no such user", ""},
		{Error, "no code", "550 5.0.0 no code", ""},
		{Error, "4.7.3 ugh", "550 5.0.0 ugh", `postfix/error: warning: bounce_append: ignoring dsn code "4.7.3"`},
		{Error, "", "550 5.0.0 Address is undeliverable", ""},
		{Retry, "4.1.9 later on", "450 4.1.9 later on", ""},
		{Retry, "5.1.9 later on", "450 4.0.0 later on", `postfix/error: warning: defer_append: ignoring dsn code "5.1.9"`},
		{Discard, "gone away", "250 2.0.0 gone away", ""},
		{Discard, "2.1.5 gone", "250 2.1.5 gone", ""},
		{Discard, "5.1.5 gone", "250 2.0.0 gone", `postfix/error: warning: sent: ignoring dsn code "5.1.5"`},
	} {
		log := &maillog.Memory{}
		var got []transport.Outcome
		New(c.kind, maillog.New(log, "postfix/error", 1, nil), nil).Deliver(context.Background(), &transport.Request{
			Nexthop: c.nexthop,
			Recipients: []transport.Recipient{
				{Recipient: envelope.Recipient{Address: "a@x.example"}, Index: 3}, {Recipient: envelope.Recipient{Address: "b@x.example"}, Index: 7},
			},
			Report: func(o transport.Outcome) { got = append(got, o) },
		})
		if len(got) != 2 || got[0].Index != 3 || got[1].Index != 7 || got[1].Recipient.Address != "b@x.example" || got[0].Relay != "none" {
			t.Fatalf("%q: outcomes %+v", c.nexthop, got)
		}
		if got[0].Status.String() != c.want || log.String() != c.log {
			t.Errorf("%d %q: %q, log %q", c.kind, c.nexthop, got[0].Status, log)
		}
	}
}
