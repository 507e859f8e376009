package route

import (
	"context"
	"fmt"
	"strings"
)

// query is one resolution under way, behind the parsing.
type query struct {
	r      *Resolver
	ctx    context.Context
	sender string
	domain string // of the recipient
	route  Route
}

// local fills the route of a domain that is ours.
func (q *query) local() error {
	q.nag("mydestination", "virtual_alias_domains", q.r.tables.VirtualAliasDomains)
	q.nag("mydestination", "virtual_mailbox_domains", q.r.tables.VirtualMailboxDomains)
	q.route.Class = ClassLocal
	q.route.Nexthop = q.domain
	return q.transport(q.r.cfg.Routing.LocalTransport, q.r.cfg.Routing.name(nameLocal))
}

// remote finds the class of a domain that is not in mydestination.
func (q *query) remote() error {
	t := &q.r.tables
	alias, err := q.r.match(q.ctx, t.VirtualAliasDomains, "virtual_alias_domains", q.domain)
	if err != nil {
		return err
	}
	if alias {
		q.nag("virtual_alias_domains", "virtual_mailbox_domains", t.VirtualMailboxDomains)
		q.nag("virtual_alias_domains", "relay_domains", t.RelayDomains)
		return q.virtualAlias()
	}
	mailbox, err := q.r.match(q.ctx, t.VirtualMailboxDomains, "virtual_mailbox_domains", q.domain)
	if err != nil {
		return err
	}
	if mailbox {
		q.nag("virtual_mailbox_domains", "relay_domains", t.RelayDomains)
		q.route.Class = ClassVirtualMailbox
		q.route.Nexthop = q.domain
		return q.transport(q.r.cfg.Routing.VirtualTransport, q.r.cfg.Routing.name(nameVirtual))
	}
	return q.offHost()
}

// virtualAlias is for addresses in virtual_alias_domains that
// virtual_alias_maps left in place: there are no mailboxes behind them.
func (q *query) virtualAlias() error {
	q.route.Class = ClassVirtualAlias
	q.route.Transport = "error"
	q.route.Nexthop = "5.1.1 User unknown"
	if q.r.cfg.ShowTable {
		q.route.Nexthop += " in virtual alias table"
	}
	return nil
}

// offHost routes relay and default destinations: the transport of the class,
// and the relayhost before the recipient's domain.
func (q *query) offHost() error {
	routing := &q.r.cfg.Routing
	relay, err := q.r.match(q.ctx, q.r.tables.RelayDomains, "relay_domains", q.domain)
	if err != nil {
		return err
	}
	setting, blame := routing.RelayTransport, routing.name(nameRelay)
	q.route.Class = ClassRelay
	if !relay {
		q.route.Class = ClassDefault
		if setting, blame, err = q.defaultTransport(); err != nil {
			return err
		}
	}
	nexthop, err := q.relayhost()
	if err != nil {
		return err
	}
	q.route.Nexthop = nexthop
	return q.transport(setting, blame)
}

// defaultTransport is the transport of the default class and the parameter it
// came from.
func (q *query) defaultTransport() (setting, blame string, err error) {
	routing := &q.r.cfg.Routing
	name := routing.name(nameSenderTransport)
	value, found, err := q.bySender(q.r.tables.SenderTransport, name, q.r.cfg.NullTransportKey)
	if err != nil {
		return "", "", err
	}
	if !found {
		return routing.DefaultTransport, routing.name(nameDefault), nil
	}
	if strings.EqualFold(value, "DUNNO") {
		return routing.DefaultTransport, name, nil
	}
	return value, name, nil
}

// relayhost is the nexthop for mail that leaves: the sender's, else the global
// one, which is also meant by DUNNO.
func (q *query) relayhost() (string, error) {
	routing := &q.r.cfg.Routing
	value, found, err := q.bySender(q.r.tables.SenderRelayhost, routing.name(nameSenderRelayhost), q.r.cfg.NullRelayhostKey)
	switch {
	case err != nil:
		return "", err
	case found && !strings.EqualFold(value, "DUNNO"):
		return value, nil
	case routing.Relayhost != "":
		return routing.Relayhost, nil
	}
	return q.domain, nil
}

// bySender looks the sender up in a sender dependent table.
func (q *query) bySender(find Finder, param, nullKey string) (value string, found bool, err error) {
	key := q.sender
	if key == "" {
		key = nullKey
	}
	value, found, err = q.find(find, param, key)
	if found && value == "" {
		q.r.log.Warnf("%s: ignoring null lookup result for %s", param, key)
		value = "DUNNO"
	}
	return value, found, err
}

func (q *query) find(find Finder, param, key string) (value string, found bool, err error) {
	if find == nil || key == "" {
		return "", false, nil
	}
	value, found, err = find(q.ctx, key)
	if err != nil {
		q.r.log.Warnf("%s lookup failure", param)
		return "", false, err
	}
	return value, found, nil
}

// transport applies a setting transport[:nexthop] of main.cf; blame is the
// parameter's name.
func (q *query) transport(setting, blame string) error {
	transport, nexthop, _ := strings.Cut(setting, ":")
	if transport == "" {
		q.r.log.Warnf("parameter %s: null transport is not allowed", blame)
		return fmt.Errorf("parameter %s: null transport is not allowed", blame)
	}
	q.route.Transport = transport
	if nexthop != "" {
		q.route.Nexthop = nexthop
	}
	return nil
}

// override applies transport_maps and relocated_maps, in this order. Addresses
// in virtual alias domains keep "User unknown": no transport knows them.
func (q *query) override() error {
	key := string(q.route.Recipient)
	if q.route.Class != ClassVirtualAlias {
		value, found, err := q.find(q.r.tables.Transport, q.r.cfg.Routing.name(nameTransportMaps), key)
		if err != nil {
			return err
		}
		if found {
			q.mapped(value)
		}
	}
	moved, found, err := q.find(q.r.tables.Relocated, "relocated_maps", key)
	if err != nil || !found {
		return err
	}
	q.route.Transport = "error"
	q.route.Nexthop = moved
	if q.r.cfg.RelocatedPrefix {
		q.route.Nexthop = "5.1.6 User has moved to " + moved
	}
	return nil
}

// mapped applies a result of transport(5): without transport, only a nexthop
// is changed; with one, an absent nexthop means the recipient's domain.
func (q *query) mapped(value string) {
	transport, nexthop, _ := strings.Cut(value, ":")
	switch {
	case transport == "":
		if nexthop != "" {
			q.route.Nexthop = nexthop
		}
		return
	case nexthop != "":
	case transport == "error" || transport == "retry":
		nexthop = "Address is undeliverable"
	default:
		nexthop = q.domain
	}
	q.route.Transport, q.route.Nexthop = transport, nexthop
}

// nag warns of a domain in two classes: which one wins is an accident.
func (q *query) nag(has, also string, list Matcher) {
	if !q.r.cfg.HelpfulWarnings || list == nil {
		return
	}
	if both, err := list.Match(q.ctx, q.domain); err == nil && both {
		q.r.log.Warnf("do not list domain %s in BOTH %s and %s", q.domain, has, also)
	}
}
