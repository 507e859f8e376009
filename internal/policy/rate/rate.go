// Package rate is anvil(8): it counts what clients do, so that smtpd and
// postscreen can limit connections, messages, recipients, TLS handshakes and
// AUTH attempts per client and service.
//
// Counts live in memory and are shared by all sessions of the process. Rates
// are per unit of time (postconf(5) anvil_rate_time_unit) and start anew when
// a unit is over. Memory is bounded by the clients seen within one unit.
package rate

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"posthaste/internal/sys/maillog"
)

// Event is what is counted.
type Event uint8

const (
	Connect Event = iota
	Message
	Recipient
	NewTLS
	Auth
	events
)

// names as the statistics lines have them.
var names = [events]string{"connection", "message", "recipient", "newtls", "auth"}

// key is one client of one service.
type key struct{ service, client string }

type entry struct {
	open  int // connections now
	start time.Time
	rates [events]int
}

// peak is the highest value since the last statistics.
type peak struct {
	value int
	key   key
	at    time.Time
}

// Counter counts. It is safe for concurrent use.
type Counter struct {
	unit time.Duration
	now  func() time.Time

	mu      sync.Mutex
	clients map[key]*entry
	swept   time.Time
	open    peak
	rates   [events]peak
	size    peak
}

// New makes a counter with rates per unit; now may be nil for the system clock.
func New(unit time.Duration, now func() time.Time) *Counter {
	if now == nil {
		now = time.Now
	}
	return &Counter{unit: unit, now: now, clients: map[key]*entry{}, swept: now()}
}

// Connected counts a new connection and returns how many the client has open
// and how many it made in this unit of time. Disconnected takes it back.
func (c *Counter) Connected(service, client string) (open, rate int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{service, client}
	e := c.entry(k)
	e.open++
	if e.open > c.open.value {
		c.open = peak{e.open, k, c.now()}
	}
	return e.open, c.add(k, e, Connect)
}

// Disconnected ends a connection.
func (c *Counter) Disconnected(service, client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.clients[key{service, client}]; e != nil && e.open > 0 {
		e.open--
	}
}

// Add counts one event and returns the client's rate.
func (c *Counter) Add(service, client string, ev Event) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{service, client}
	return c.add(k, c.entry(k), ev)
}

// Rate is the client's rate without counting.
func (c *Counter) Rate(service, client string, ev Event) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.clients[key{service, client}]
	if e == nil || c.now().Sub(e.start) > c.unit {
		return 0
	}
	return e.rates[ev]
}

// entry finds or makes the counts of a client; c.mu is held.
func (c *Counter) entry(k key) *entry {
	now := c.now()
	if now.Sub(c.swept) > c.unit {
		c.swept = now
		for k, e := range c.clients {
			if e.open == 0 && now.Sub(e.start) > c.unit {
				delete(c.clients, k)
			}
		}
	}
	e := c.clients[k]
	if e == nil {
		e = &entry{start: now}
		c.clients[k] = e
		if n := len(c.clients); n > c.size.value {
			c.size = peak{n, key{}, now}
		}
	}
	if now.Sub(e.start) > c.unit {
		e.start, e.rates = now, [events]int{}
	}
	return e
}

func (c *Counter) add(k key, e *entry, ev Event) int {
	e.rates[ev]++
	if e.rates[ev] > c.rates[ev].value {
		c.rates[ev] = peak{e.rates[ev], k, c.now()}
	}
	return e.rates[ev]
}

// Log writes the highest values since the last call, one line each, as
// anvil(8) does every anvil_status_update_time.
func (c *Counter) Log(log *maillog.Logger) {
	c.mu.Lock()
	open, rates, size := c.open, c.rates, c.size
	c.open, c.rates, c.size = peak{}, [events]peak{}, peak{}
	c.mu.Unlock()
	who := func(p peak) string {
		return fmt.Sprintf("for (%s:%s) at %s", p.key.service, p.key.client, p.at.Format(time.Stamp))
	}
	line := func(what, value string, p peak) {
		if p.value > 0 {
			log.Infof("statistics: max %s %s %s", what, value, who(p))
		}
	}
	unit := int(c.unit / time.Second)
	line("connection rate", fmt.Sprintf("%d/%ds", rates[Connect].value, unit), rates[Connect])
	line("connection count", fmt.Sprint(open.value), open)
	for ev := Message; ev < events; ev++ {
		line(names[ev]+" rate", fmt.Sprintf("%d/%ds", rates[ev].value, unit), rates[ev])
	}
	if size.value > 0 {
		log.Infof("statistics: max cache size %d at %s", size.value, size.at.Format(time.Stamp))
	}
}

// Client is the name under which an address is counted: itself, or its network
// when the prefix is shorter (postconf(5) smtpd_client_ipv4_prefix_length and
// smtpd_client_ipv6_prefix_length). Text that is no address is its own name.
func Client(address string, bits4, bits6 int) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	bits := bits6
	if ip.Is4() {
		bits = bits4
	}
	if bits >= ip.BitLen() {
		return address
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return address
	}
	return prefix.String()
}
