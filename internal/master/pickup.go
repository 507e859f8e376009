package master

import (
	"context"
	"net"
	"os"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/config/mastercf"
	"posthaste/internal/inbound/pickup"
	"posthaste/internal/queue/trigger"
	"posthaste/internal/sys/maillog"
	"posthaste/internal/sys/vfs"
)

// startPickup runs pickup(8): it looks into the maildrop at start, when a
// command says that there is mail, and at every wakeup.
func (g *generation) startPickup(view *config.View, service mastercf.Service, ln net.Listener) {
	log := g.system.logger(view, "pickup")
	taker, err := g.pickup(view, log)
	if err != nil {
		log.Fatalf("%v", err)
		return
	}
	g.answerRequests("pickup trigger", ln, func(_ context.Context, conn net.Conn) {
		trigger.Receive(conn)
		g.wakePickup()
	})
	seconds, _ := service.WakeupSeconds()
	g.group.Go("pickup", func(ctx context.Context) {
		tick := time.NewTicker(max(time.Duration(seconds)*time.Second, time.Second))
		defer tick.Stop()
		if seconds == 0 {
			tick.Stop()
		}
		for {
			g.takeMaildrop(ctx, taker)
			select {
			case <-g.system.pickup:
			case <-tick.C:
			case <-g.listen.Done():
				return
			}
		}
	})
}

// takeMaildrop scans once; the pickup of a former generation may still be at it.
func (g *generation) takeMaildrop(ctx context.Context, taker *pickup.Pickup) {
	g.system.maildrop.Lock()
	defer g.system.maildrop.Unlock()
	taker.Scan(ctx)
}

func (g *generation) pickup(view *config.View, log *maillog.Logger) (*pickup.Pickup, error) {
	var c pickup.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	intake, ok := g.cleanup(view)
	if !ok {
		return nil, errNoCleanup
	}
	queue, err := view.String("queue_directory")
	if err != nil {
		return nil, err
	}
	return pickup.New(c, pickup.Deps{
		FS: vfs.Dir(queue), Owner: os.Geteuid(), Flags: intake.Flags, Begin: pickup.Begin(intake), Log: log,
	})
}

// wakePickup has pickup(8) look into the maildrop now.
func (g *generation) wakePickup() {
	select {
	case g.system.pickup <- struct{}{}:
	default: // it is about to look anyway
	}
}
