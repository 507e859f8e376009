// Package master is master(8) and the wiring of the whole: it turns main.cf
// and master.cf into running roles.
//
// Started by root it is three processes (docs/ARCHITECTURE.md): the
// supervisor, which opens ports and watches; the mail process, which does all
// network and queue work as mail_owner; the delivery process, which writes
// mailboxes and runs commands as their owners. Started by anybody else, all of
// it runs in one process as that user.
//
// It promises that a reload drops no connection and no delivery, that a
// crashing process is restarted no faster than service_throttle_time allows,
// and that the pid file names a running supervisor or nobody. It is the only
// package that knows all rooms; only the commands call it.
package master
