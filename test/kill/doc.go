// Package kill has tests that kill the mail system again and again, at any
// moment, while mail comes in, and then look for each message that was
// accepted: it must be delivered or still in the queue, and whole.
//
// A killed process keeps what the kernel has already taken from it; that data
// is on stable storage before 250 is another test's matter (queuetest).
package kill
