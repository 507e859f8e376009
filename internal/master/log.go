package master

import (
	"context"
	"net"
	"os"
	"time"

	"posthaste/internal/sys/maillog"
)

// LogTo sends one line to the log service of a running system; without one
// the line is lost.
func LogTo(socket, tag, text string) {
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	conn.Write(maillog.Datagram(maillog.Line{Tag: tag, PID: os.Getpid(), Text: text}))
}

// maxDatagram is the longest line that postlogd(8) takes.
const maxDatagram = 64 << 10

// serveLog is postlogd(8): it puts lines of commands into the log until ctx ends.
func serveLog(ctx context.Context, conn net.PacketConn, sink maillog.Sink) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	buffer := make([]byte, maxDatagram)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		if line, ok := maillog.ParseDatagram(buffer[:n], time.Now()); ok {
			sink.Write(line)
		}
	}
}
