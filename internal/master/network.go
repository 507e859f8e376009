package master

import (
	"context"
	"net"
	"time"
)

// networkLimit bounds the wait for interfaces at start.
const networkLimit = 2 * time.Second

// awaitNetwork waits while an interface is just coming up: it is configured,
// but has no carrier and no working addresses yet. mynetworks and
// inet_interfaces are read off the interfaces, so a start at boot time must
// not be too early. A cable that stays unplugged costs the limit once.
func awaitNetwork(ctx context.Context) {
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
	return false
}
