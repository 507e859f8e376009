package master

import (
	"context"
	"errors"
	"time"

	"posthaste/internal/config"
	"posthaste/internal/policy/rate"
)

// startAnvil makes the counters of anvil(8), and has their peaks logged from
// time to time.
func (s *System) startAnvil(snap *config.Snapshot) error {
	unit, err := snap.Main().Duration("anvil_rate_time_unit")
	every, err2 := snap.Main().Duration("anvil_status_update_time")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	s.rates = rate.New(unit, nil)
	log := s.logger(snap.Main(), "anvil")
	s.core.Go("anvil", func(ctx context.Context) {
		ticker := time.NewTicker(max(every, time.Second))
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.rates.Log(log)
			case <-s.core.Stopping():
				return
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}
