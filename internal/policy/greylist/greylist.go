// Package greylist refuses mail from strangers for a few minutes: a client that
// tries again is a mail server, and is let through from then on.
//
// Check decides as postgrey 1.37 does for the same settings, and can do more:
// greylist only suspicious clients, and recognise a provider that tries again
// from another address. What it knows is in a Store. A Store that fails never
// costs mail: the message is let through, and the log says so. Callers are the
// SMTP server (restriction check_greylist) and the postgrey command, whose
// protocol Server speaks.
package greylist

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthaste/internal/sys/maillog"
)

// Request is what is asked about: one recipient of one message.
type Request struct {
	Instance      string // the same for all recipients of a message; "" for not known
	ClientName    string // verified name, or "unknown"
	ClientAddress string
	Helo          string
	Sender        string
	Recipient     string
	// Enhanced is whether whoever asks understands enhanced status codes in an
	// action.
	Enhanced bool
}

// Decision is the answer to a Request.
type Decision struct {
	Pass   bool
	Action string        // of access(5)
	Reason string        // as in the log: "new", "triplet found"
	Delay  time.Duration // how long a message was held off, when the header says so
}

// Shared is what several Greylists on one Store have in common: several
// services may have their own settings.
type Shared struct {
	own      atomic.Pointer[Whitelist] // what the store lists
	marked   instances
	stats    counters
	trouble  throttle
	full     throttle
	pressure chan struct{} // asks for a sweep now
}

// NewShared makes the common part.
func NewShared() *Shared {
	s := &Shared{pressure: make(chan struct{}, 1)}
	s.own.Store(&Whitelist{})
	return s
}

// Deps is what a Greylist works with. Only Store is needed.
type Deps struct {
	Store  Store
	Log    *maillog.Logger
	Shared *Shared // nil: its own
	// SPF and Listed answer the questions that signs and providers need.
	SPF    SPF
	Listed func(ctx context.Context, zone string, ip netip.Addr) bool
	Now    func() time.Time // default time.Now
}

// Greylist decides. Safe for concurrent use.
type Greylist struct {
	*Shared
	set   Settings
	deps  Deps
	white atomic.Pointer[Whitelist] // files
}

// New makes a Greylist. Settings that are zero have postgrey's defaults.
func New(set Settings, deps Deps) *Greylist {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Shared == nil {
		deps.Shared = NewShared()
	}
	g := &Greylist{Shared: deps.Shared, set: set.withDefaults(), deps: deps}
	g.white.Store(&Whitelist{})
	return g
}

// SetWhitelist puts a whitelist in the place of the one before.
func (g *Greylist) SetWhitelist(w *Whitelist) { g.white.Store(w) }

// check is one call of Check.
type check struct {
	*Greylist
	ctx context.Context
	r   Request
	ip  netip.Addr
	now int64
}

// Check decides about one recipient, and logs the decision.
func (g *Greylist) Check(ctx context.Context, r Request) Decision {
	c := check{Greylist: g, ctx: ctx, r: r, now: g.deps.Now().Unix()}
	c.ip, _ = parseAddress(r.ClientAddress)
	d, err := c.decide()
	if err != nil {
		d = c.letThrough(err)
	}
	g.stats.count(d)
	c.log(d)
	return d
}

// letThrough is what happens when the store does not work.
func (c *check) letThrough(err error) Decision {
	if c.trouble.allow(c.deps.Now()) {
		c.deps.Log.Warnf("greylist: %v; mail is let through", err)
	}
	return pass("no database")
}

func pass(reason string) Decision { return Decision{Pass: true, Action: "DUNNO", Reason: reason} }

func (c *check) decide() (Decision, error) {
	for _, w := range []*Whitelist{c.white.Load(), c.own.Load()} {
		if w.Client(c.r.ClientName, c.ip) {
			return pass("client whitelist"), nil
		}
	}
	for _, w := range []*Whitelist{c.white.Load(), c.own.Load()} {
		if w.Recipient(c.r.Recipient) {
			return pass("recipient whitelist"), nil
		}
	}
	if !c.ip.IsValid() {
		return pass("no client address"), nil
	}
	known, err := c.autoWhitelisted()
	if err != nil || known {
		return pass("client AWL"), err
	}
	return c.triplet()
}

// autoWhitelisted reports whether the client has delivered often enough. Only
// one message an hour counts.
func (c *check) autoWhitelisted() (bool, error) {
	if c.set.AutoWhitelist == 0 {
		return false, nil
	}
	key := c.set.hide(c.r.ClientAddress)
	e, found, err := c.deps.Store.Get(c.ctx, Clients, key)
	if err != nil || !found || int(e.Count) < c.set.AutoWhitelist || c.now-e.Last > seconds(c.set.MaxAge) {
		return false, err
	}
	if c.now-e.Last >= countAgain {
		e.Count++
		e.Last = c.now
		err = c.deps.Store.Put(c.ctx, Clients, key, e)
	}
	return true, err
}

// countAgain is how far apart deliveries count for a client, in seconds.
const countAgain = 3600

// delivered counts a message that was held off and came again.
func (c *check) delivered() error {
	if c.set.AutoWhitelist == 0 {
		return nil
	}
	key := c.set.hide(c.r.ClientAddress)
	e, found, err := c.deps.Store.Get(c.ctx, Clients, key)
	if err != nil || found && c.now-e.Last < countAgain {
		return err
	}
	if !found || c.now-e.Last > seconds(c.set.MaxAge) {
		e = Entry{First: c.now}
	}
	e.Count++
	e.Last = c.now
	if int(e.Count) == c.set.AutoWhitelist {
		c.deps.Log.Infof("whitelisted: %s[%s]", c.r.ClientName, c.r.ClientAddress)
	}
	return c.deps.Store.Put(c.ctx, Clients, key, e)
}

// triplet decides by client, sender and recipient.
func (c *check) triplet() (Decision, error) {
	sender, recipient := c.set.sender(c.r.Sender, c.r.Recipient), strings.ToLower(c.r.Recipient)
	key := c.set.tripletKey(c.set.network(c.ip, c.r.ClientAddress), sender, recipient)
	e, found, err := c.deps.Store.Get(c.ctx, Triplets, key)
	if err != nil {
		return Decision{}, err
	}
	found = found && !c.set.expired(e, c.now, 0)
	if found && e.passed() {
		return pass("triplet found"), c.seen(key, e)
	}
	x := c.examine()
	if x.unsuspicious(c.set.Signs) {
		return pass("not suspicious"), nil
	}
	keys := []string{key}
	for _, provider := range x.providers() {
		other := c.set.tripletKey(provider, sender, recipient)
		keys = append(keys, other)
		if o, ok, err := c.deps.Store.Get(c.ctx, Triplets, other); err != nil {
			return Decision{}, err
		} else if ok && !c.set.expired(o, c.now, 0) && (!found || o.First < e.First || o.passed()) {
			e, found = o, true
		}
	}
	return c.verdict(keys, e, found)
}

// verdict decides by what is known about a triplet, and remembers it.
func (c *check) verdict(keys []string, e Entry, found bool) (Decision, error) {
	if !found {
		e = Entry{First: c.now, Last: c.now}
	}
	waited := c.now - e.First
	switch {
	case !e.passed() && (waited < seconds(c.set.Delay) || waited == 0):
		missing := max(seconds(c.set.Delay)-waited, 0)
		reason := "new"
		if waited > 0 {
			reason = "early-retry (" + itoa(missing) + "s missing)"
		}
		if !found && c.isFull() {
			return pass("too many entries"), nil
		}
		return Decision{Action: c.set.refusal(missing, c.r), Reason: reason}, c.remember(keys, e, found)
	case e.passed():
		e.Last = c.now
		return pass("triplet found"), c.remember(keys, e, false)
	}
	d := pass("triplet found")
	if !c.marked.seen(c.r.Instance) {
		d.Delay = time.Duration(waited) * time.Second
		d.Action = "PREPEND " + c.set.header(waited, c.deps.Now())
	}
	e.Last = c.now
	if err := c.remember(keys, e, false); err != nil {
		return Decision{}, err
	}
	return d, c.delivered()
}

// remember puts an entry under all its keys. An early retry changes nothing
// unless it came from another address of a provider.
func (c *check) remember(keys []string, e Entry, unchanged bool) error {
	if unchanged && len(keys) == 1 {
		return nil
	}
	for _, key := range keys {
		if err := c.deps.Store.Put(c.ctx, Triplets, key, e); err != nil {
			return err
		}
	}
	return nil
}

// seen renews an entry that is in use, not more often than it matters.
func (c *check) seen(key string, e Entry) error {
	if c.now-e.Last < min(countAgain, seconds(c.set.MaxAge)/100) {
		return nil
	}
	e.Last = c.now
	return c.deps.Store.Put(c.ctx, Triplets, key, e)
}

// isFull reports whether no new triplet may be kept; near that, it asks for a
// sweep.
func (c *check) isFull() bool {
	n, err := c.deps.Store.Len(c.ctx, Triplets)
	if err != nil || n < c.set.MaxEntries-c.set.MaxEntries/10 {
		return false
	}
	select {
	case c.pressure <- struct{}{}:
	default:
	}
	if n < c.set.MaxEntries {
		return false
	}
	if c.full.allow(c.deps.Now()) {
		c.deps.Log.Warnf("greylist: %d entries, the limit; mail from new clients is let through", n)
	}
	return true
}

// log writes the line that postgrey writes about a decision.
func (c *check) log(d Decision) {
	if c.set.Quiet || c.deps.Log == nil {
		return
	}
	var b strings.Builder
	b.WriteString("action=")
	if d.Pass {
		b.WriteString("pass")
	} else {
		b.WriteString("greylist")
	}
	b.WriteString(", reason=" + d.Reason)
	if d.Delay > 0 {
		b.WriteString(", delay=" + itoa(seconds(d.Delay)))
	}
	for _, f := range [...][2]string{{"client_name", c.r.ClientName}, {"client_address", c.r.ClientAddress}, {"sender", c.r.Sender}, {"recipient", c.r.Recipient}} {
		if f[1] != "" {
			b.WriteString(", " + f[0] + "=" + printable(f[1]))
		}
	}
	c.deps.Log.Infof("%s", b.String())
}

// instances remembers the messages that have got a header lately.
type instances struct {
	mu   sync.Mutex
	ring [256]string
	next int
}

// seen reports whether a message was marked, and marks it.
func (i *instances) seen(instance string) bool {
	if instance == "" {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, known := range i.ring {
		if known == instance {
			return true
		}
	}
	i.ring[i.next] = strings.Clone(instance)
	i.next = (i.next + 1) % len(i.ring)
	return false
}

// throttle lets one complaint a minute through.
type throttle struct{ next atomic.Int64 }

func (t *throttle) allow(now time.Time) bool {
	next := t.next.Load()
	return now.Unix() >= next && t.next.CompareAndSwap(next, now.Unix()+60)
}
