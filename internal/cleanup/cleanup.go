// Package cleanup is cleanup(8): it turns an envelope and a content stream
// into one committed queue entry.
//
// On the way it adds missing headers, rewrites addresses, expands aliases,
// adds BCC recipients, removes duplicates and inspects content. Entrances
// (smtpd, pickup, qmqpd) and internal mail (bounce, local forwarding) use the
// same Submission. It promises that nothing is queued unless Commit said so.
package cleanup
