// Package restart has tests of the system as root starts it, with three
// processes: whichever of the mail and the delivery process is killed, the
// supervisor brings both back, and no accepted message is lost; whatever is
// killed, nothing is left behind.
//
// The tests need root and Linux: they run in a network and a mount namespace
// of their own (package system), and skip otherwise.
package restart
