package route

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"

	"posthaste/internal/mail/addr"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
)

// Lists keeps what Open opened, to be closed when the configuration goes.
type Lists []io.Closer

// Close closes all tables.
func (l Lists) Close() error {
	var errs []error
	for _, c := range l {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Open opens the lists and tables of cfg and makes a resolver of them. own
// reports whether an address is one of inet_interfaces or proxy_interfaces; it
// must say no when it does not know. Warnings go to the opener's log. Tables
// that cannot be opened make Resolve fail, not Open.
func Open(cfg Config, o *table.Opener, own func(netip.Addr) bool) (*Resolver, Lists) {
	myDestination := matchlist.NewStrings(o, "mydestination", cfg.MyDestination)
	virtualAlias := matchlist.NewStrings(o, "virtual_alias_domains", cfg.VirtualAliasDomains)
	virtualMailbox := matchlist.NewStrings(o, "virtual_mailbox_domains", cfg.VirtualMailboxDomains)
	relay := matchlist.NewDomains(o, "relay_domains", cfg.RelayDomains,
		table.MatchesSubdomains(cfg.ParentDomains, "relay_domains"))
	lists := Lists{myDestination, virtualAlias, virtualMailbox, relay}
	maps := func(i int, list string) *table.Maps {
		m := o.Maps(cfg.Routing.name(i), list, table.FoldedKeys)
		lists = append(lists, m)
		return m
	}
	transport := maps(nameTransportMaps, cfg.Routing.TransportMaps)
	senderRelay := maps(nameSenderRelayhost, cfg.Routing.SenderRelayhost)
	senderTransport := maps(nameSenderTransport, cfg.Routing.SenderTransport)
	relocated := o.Maps("relocated_maps", cfg.RelocatedMaps, table.FoldedKeys)
	lists = append(lists, relocated)

	r := NewResolver(cfg, Tables{}, o.Log())
	search := r.Search()
	r.tables = Tables{
		MyDestination: myDestination, VirtualAliasDomains: virtualAlias,
		VirtualMailboxDomains: virtualMailbox, RelayDomains: relay,
		SenderRelayhost: byAddress(senderRelay, search), SenderTransport: byAddress(senderTransport, search),
		Relocated: byAddress(relocated, search),
		Transport: byTransport(transport, search, table.MatchesSubdomains(cfg.ParentDomains, "transport_maps")),
		Own:       own,
	}
	return r, lists
}

// Search is how addresses are looked up in canonical(5), virtual(5) and the
// lists of recipients: the local part alone counts for domains that are local
// or $myorigin.
func (r *Resolver) Search() table.Search {
	return table.Search{
		Keys: table.AddressKeys, Delimiters: r.cfg.RecipientDelimiter,
		OwnerRequest: r.cfg.OwnerRequest, DoubleBounce: r.cfg.DoubleBounce,
		IsLocal: func(ctx context.Context, domain string) (bool, error) {
			if strings.EqualFold(domain, r.cfg.Rewrite.MyOrigin) {
				return true, nil
			}
			return r.IsLocal(ctx, domain)
		},
	}
}

func byAddress(m *table.Maps, s table.Search) Finder {
	if m.Empty() {
		return nil
	}
	return func(ctx context.Context, key string) (string, bool, error) {
		match, found, err := m.Address(ctx, addr.Address(key), s)
		return match.Value, found, err
	}
}

func byTransport(m *table.Maps, s table.Search, parents table.Keys) Finder {
	if m.Empty() {
		return nil
	}
	s.Keys = parents
	return func(ctx context.Context, key string) (string, bool, error) {
		match, found, err := m.Transport(ctx, addr.Address(key), s)
		if found || err != nil {
			return match.Value, found, err
		}
		return m.Wildcard(ctx)
	}
}
