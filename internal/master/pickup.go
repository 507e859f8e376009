package master

// wakePickup has pickup(8) look into the maildrop now.
func (g *generation) wakePickup() {
	select {
	case g.system.pickup <- struct{}{}:
	default: // it is about to look anyway
	}
}
