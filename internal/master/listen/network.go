package listen

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// networkLimit bounds the wait for interfaces at start.
const networkLimit = 3 * time.Second

// tentativeFlag marks an IPv6 address in the kernel's list that is still being
// checked for duplicates (IFA_F_TENTATIVE).
const tentativeFlag = 0x40

// AwaitNetwork waits while an interface is just coming up: it is configured,
// but has no carrier and no working addresses yet. mynetworks and
// inet_interfaces are read off the interfaces, so a start at boot time must
// not be too early. A cable that stays unplugged costs the limit once.
func AwaitNetwork(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, networkLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for coming() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// coming reports an interface that is up and not running.
func coming() bool {
	all, err := net.Interfaces()
	if err != nil {
		return false
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagRunning == 0 && i.Flags&net.FlagLoopback == 0 {
			return true
		}
	}
	return tentative()
}

// tentative reports an IPv6 address that cannot be used yet, where the system
// has such a list.
func tentative() bool {
	data, err := os.ReadFile("/proc/net/if_inet6")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if flags, err := strconv.ParseUint(fields[4], 16, 32); err == nil && flags&tentativeFlag != 0 {
			return true
		}
	}
	return false
}
