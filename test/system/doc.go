// Package system starts real mail servers for the end-to-end tests: the
// binary itself, as an ordinary user, in a directory of its own, on free ports
// of the loopback interface.
//
// Main is called by the TestMain of each such test: it builds the binary (with
// the race detector if the test has it) and, when root runs the test, goes on
// as nobody, because an ordinary user's system is what is tested. RootMain
// keeps root, in a network namespace of its own.
//
// A Server has a configuration, can be started, killed and asked about its log
// and queue. A Client speaks SMTP one step at a time, a Hop is a next hop that
// does what the test wants. Nothing here sleeps for a fixed time: Wait looks
// until a condition holds, up to a deadline.
package system
