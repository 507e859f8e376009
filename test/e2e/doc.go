// Package e2e has scripts (testdata/*.txt) of what a user sees of the mail
// system: each starts the real server as an ordinary user, gives commands,
// speaks SMTP, and looks at the log, the queue and the mailboxes.
//
// A script runs in a directory that is also the configuration directory
// ($MAIL_CONFIG), with main.cf and master.cf as package system writes them,
// followed by the lines of the script's own file main.more. Beside the usual
// commands of testscript there are
//
//	start                     run the server; postfix start does it too
//	restart                   stop it and start it again
//	reload                    postfix reload, and wait until it has effect
//	signal SIG, ended          signal the server; wait until it is gone
//	waitlog [-count=N] RE     wait for (N) log lines that match
//	log RE, ! log RE          look at the log now
//	waitfile N GLOB           wait until N files match
//	waitqueue N [QUEUE]       wait until N messages are listed
//	queueid VAR QUEUE         set VAR to the only message of a queue
//	send FROM TO...           send a message; the reply is stdout
//	connect C [PORT]          open a connection named C, read the greeting
//	dial                      open a connection, no more
//	ask C LINE RE             send a line, read a reply, match it
//	say C TEXT, hear C RE     only one of both; TEXT may have \r\n
//	gone C, hangup C          wait for the end; end it
//	hop H PORT                a next hop that holds back its answers
//	hopwaits H N              wait until N messages wait for an answer
//	release H, hopgot H N     answer; wait until N messages were answered
//	measure, settled          note the open files of the server; wait until
//	                          there are as many again
//	config NAME=VALUE...      postconf -e
//	append FILE TEXT          add a line
//	sent FROM TO              send until it is accepted
//	refused PORT              wait until nobody listens there
//	pour C N                  send N bytes without a line end
//	damage DIR                put bad queue files there
package e2e
