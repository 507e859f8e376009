package restrict

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"posthaste/internal/policy/policyclient"
	"posthaste/internal/table"
	"posthaste/internal/table/matchlist"
)

// Checker evaluates the restrictions of one smtpd service. Safe for concurrent
// use; each session has its own View.
type Checker struct {
	cfg   Config
	setup Setup

	specs   map[string]spec
	classes map[string]*list
	stages  struct{ client, helo, sender, relay, recipient, data, endOfData, etrn *list }

	opened    map[string]*table.Maps
	servers   map[string]*policyclient.Client
	networks  *matchlist.Hosts
	mxBackup  *matchlist.Hosts
	logPermit *matchlist.Strings
	accessKey table.Keys // how access tables match parents of domains
	recipient recipientMaps
	logins    *table.Maps
	certs     *table.Maps
	rblReply  *table.Maps

	mxBackupWarned sync.Once
}

// recipientMaps are the tables of valid recipients, and those that make an
// address valid by rewriting it.
type recipientMaps struct {
	local, virtual, mailbox, relay, canonical, senderCanonical, recipientCanonical *table.Maps
}

// New parses the lists and opens their tables. The error is the text of a
// fatal log line: smtpd logs it and does not serve. Items that are not known
// or lack an argument are no error here: clients get "Server configuration
// error" when they are reached.
func New(cfg Config, setup Setup) (*Checker, error) {
	if setup.Now == nil {
		setup.Now = time.Now
	}
	c := &Checker{cfg: cfg, setup: setup, specs: specs(), classes: map[string]*list{},
		opened: map[string]*table.Maps{}, servers: map[string]*policyclient.Client{}}
	for name, p := range setup.Policies {
		c.specs[name] = spec{argNone, inProcess(name, p)}
	}
	c.openLists()
	err := c.parseClasses()
	if err == nil {
		err = c.parseStages()
	}
	if err == nil && !safe(c.stages.relay, 0) && !safe(c.stages.recipient, 0) {
		err = fmt.Errorf("in parameter smtpd_relay_restrictions or smtpd_recipient_restrictions, specify at least one working instance of: %s or check_relay_domains",
			strings.Join(required, ", "))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// openLists opens what is named by parameters of its own.
func (c *Checker) openLists() {
	cfg, o := &c.cfg, c.setup.Tables
	parents := func(feature string) table.Keys { return table.MatchesSubdomains(cfg.ParentDomains, feature) }
	c.accessKey = parents("smtpd_access_maps")
	c.networks = matchlist.NewHosts(o, "mynetworks", cfg.MyNetworks, parents("mynetworks"))
	c.mxBackup = matchlist.NewHosts(o, "permit_mx_backup_networks", cfg.MXBackupNetworks, parents("permit_mx_backup_networks"))
	c.logPermit = matchlist.NewStrings(o, "smtpd_log_access_permit_actions", cfg.LogPermit)
	c.recipient = recipientMaps{
		local:              c.maps("local_recipient_maps", cfg.LocalRecipients),
		virtual:            c.maps("virtual_alias_maps", cfg.VirtualAliases),
		mailbox:            c.maps("virtual_mailbox_maps", cfg.VirtualMailboxes),
		relay:              c.maps("relay_recipient_maps", cfg.RelayRecipients),
		canonical:          c.maps("canonical_maps", cfg.Canonical),
		senderCanonical:    c.maps("sender_canonical_maps", cfg.SenderCanonical),
		recipientCanonical: c.maps("recipient_canonical_maps", cfg.RecipientCanonical),
	}
	c.logins = c.maps("smtpd_sender_login_maps", cfg.SenderLogins)
	c.certs = c.maps("relay_clientcerts", cfg.ClientCerts)
	c.rblReply = c.maps("rbl_reply_maps", cfg.Rbl.ReplyMaps)
}

// maps opens the tables of a list, once for each title.
func (c *Checker) maps(title, text string) *table.Maps {
	m := c.opened[title]
	if m == nil {
		m = c.setup.Tables.Maps(title, text, table.FoldedKeys)
		c.opened[title] = m
	}
	return m
}

func (c *Checker) policyClient(text string) (*policyclient.Client, error) {
	if client := c.servers[text]; client != nil {
		return client, nil
	}
	p := &c.cfg.Policy
	server, err := policyclient.Parse(text, policyclient.Settings{
		DefaultAction: p.DefaultAction, Context: p.Context, Timeout: p.Timeout, MaxIdle: p.MaxIdle, MaxTTL: p.MaxTTL,
		RetryDelay: p.RetryDelay, RequestLimit: p.RequestLimit, TryLimit: p.TryLimit})
	if err != nil {
		return nil, err
	}
	client := policyclient.New(server, p.QueueDir, c.setup.Log)
	c.servers[text] = client
	return client, nil
}

func (c *Checker) newList(param string) *list {
	l := &list{param: param}
	if c.setup.Position != nil {
		l.file, l.line = c.setup.Position(param)
	}
	return l
}

func (c *Checker) parseClasses() error {
	names := table.SplitList(c.cfg.Classes)
	text := map[string]string{}
	for _, name := range names {
		value, known := "", false
		if c.setup.Parameter != nil {
			value, known = c.setup.Parameter(name)
		}
		if !known || strings.TrimSpace(value) == "" {
			return fmt.Errorf("restriction class `%s' needs a definition", name)
		}
		text[name] = value
		c.classes[name] = c.newList(name)
	}
	// Only now, because a class may name any other.
	for name, l := range c.classes {
		if err := c.parse(l, text[name], true); err != nil {
			return err
		}
	}
	return nil
}

func (c *Checker) parseStages() error {
	lists := &c.cfg.Lists
	for _, s := range []struct {
		to          **list
		param, text string
	}{
		{&c.stages.client, "smtpd_client_restrictions", lists.Client},
		{&c.stages.helo, "smtpd_helo_restrictions", lists.Helo},
		{&c.stages.sender, "smtpd_sender_restrictions", lists.Sender},
		{&c.stages.relay, "smtpd_relay_restrictions", lists.Relay},
		{&c.stages.recipient, "smtpd_recipient_restrictions", lists.Recipient},
		{&c.stages.data, "smtpd_data_restrictions", lists.Data},
		{&c.stages.endOfData, "smtpd_end_of_data_restrictions", lists.EndOfData},
		{&c.stages.etrn, "smtpd_etrn_restrictions", lists.Etrn},
	} {
		*s.to = c.newList(s.param)
		if err := c.parse(*s.to, s.text, true); err != nil {
			return err
		}
	}
	return nil
}

// Close closes tables and idle connections.
func (c *Checker) Close() error {
	errs := []error{c.networks.Close(), c.mxBackup.Close(), c.logPermit.Close()}
	for _, m := range c.opened {
		errs = append(errs, m.Close())
	}
	for _, s := range c.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// isOwn reports whether ip is one of inet_interfaces.
func (c *Checker) isOwn(ip netip.Addr) bool { return c.setup.Own != nil && c.setup.Own(ip.Unmap()) }

// isMine reports whether ip is one of inet_interfaces or proxy_interfaces.
func (c *Checker) isMine(ip netip.Addr) bool {
	return c.isOwn(ip) || c.setup.Proxied != nil && c.setup.Proxied(ip.Unmap())
}
