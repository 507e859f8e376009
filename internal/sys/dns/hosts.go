package dns

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// hostTable is hosts(5), read again when its time stamp changes.
type hostTable struct {
	path string

	mu      sync.Mutex
	checked time.Time
	stamp   time.Time
	byName  map[string][]netip.Addr
	byAddr  map[netip.Addr]string
}

// hostsRecheck bounds how often the file's time stamp is read.
const hostsRecheck = 2 * time.Second

func (t *hostTable) addresses(host string) []netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	return t.byName[strings.ToLower(strings.TrimSuffix(host, "."))]
}

func (t *hostTable) name(ip netip.Addr) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refresh()
	return t.byAddr[ip.Unmap()]
}

// refresh reads the file if it changed; an unreadable file is an empty table.
func (t *hostTable) refresh() {
	now := time.Now()
	if t.path == "" || now.Sub(t.checked) < hostsRecheck {
		return
	}
	t.checked = now
	info, err := os.Stat(t.path)
	if err != nil || info.ModTime().Equal(t.stamp) {
		return
	}
	t.stamp = info.ModTime()
	t.byName, t.byAddr = map[string][]netip.Addr{}, map[netip.Addr]string{}
	file, err := os.Open(t.path)
	if err != nil {
		return
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		t.add(lines.Text())
	}
}

func (t *hostTable) add(line string) {
	line, _, _ = strings.Cut(line, "#")
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return
	}
	ip, err := netip.ParseAddr(fields[0])
	if err != nil {
		return
	}
	ip = ip.Unmap()
	if _, taken := t.byAddr[ip]; !taken {
		t.byAddr[ip] = fields[1]
	}
	for _, name := range fields[1:] {
		name = strings.ToLower(name)
		t.byName[name] = append(t.byName[name], ip)
	}
}
