package maillog

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// facilities are the names of postconf(5) syslog_facility with their numbers
// (RFC 3164 §4.1.1).
var facilities = map[string]int{
	"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8,
	"cron": 9, "authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19,
	"local4": 20, "local5": 21, "local6": 22, "local7": 23,
}

// syslogSeverity maps ours to RFC 3164 §4.1.1: info, warning, error, critical.
var syslogSeverity = [...]int{Info: 6, Warning: 4, Error: 3, Fatal: 2, Panic: 2}

// sendTimeout bounds how long a session waits for a full syslog socket.
const sendTimeout = 100 * time.Millisecond

// Syslog is a Sink that sends datagrams to the system log daemon.
type Syslog struct {
	path     string
	facility int

	mu      sync.Mutex
	conn    net.Conn
	dropped int
}

// NewSyslog makes a sink onto the socket at path (normally /dev/log). An
// unknown facility is an error that lists nothing: the caller names the
// parameter. The socket need not exist yet.
func NewSyslog(path, facility string) (*Syslog, error) {
	number, ok := facilities[facility]
	if !ok {
		return nil, fmt.Errorf("unknown syslog facility %q", facility)
	}
	return &Syslog{path: path, facility: number}, nil
}

// Write implements Sink. What the daemon does not take in time is dropped.
func (s *Syslog) Write(l Line) {
	text := fmt.Sprintf("<%d>%s %s[%d]: %s", s.facility*8+syslogSeverity[l.Severity],
		l.Time.Format(time.Stamp), l.Tag, l.PID, l.Text)
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 2 {
		if s.conn == nil {
			conn, err := net.Dial("unixgram", s.path)
			if err != nil {
				break
			}
			s.conn = conn
		}
		s.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
		if _, err := s.conn.Write([]byte(text)); err == nil {
			return
		}
		s.conn.Close()
		s.conn = nil // the daemon was restarted: try once more
	}
	s.dropped++
}

// Datagram is the form of a line on the postlog socket: severity digit, tag,
// process id and text, separated by blanks.
func Datagram(l Line) []byte {
	return fmt.Appendf(nil, "%d %s %d %s", l.Severity, l.Tag, l.PID, l.Text)
}

// ParseDatagram reads what Datagram wrote; the text is made printable again,
// as anybody may send it.
func ParseDatagram(data []byte, now time.Time) (Line, bool) {
	var severity, pid int
	var tag string
	if n, err := fmt.Sscanf(string(data), "%d %s %d ", &severity, &tag, &pid); n < 3 || err != nil ||
		severity < 0 || severity > int(Panic) {
		return Line{}, false
	}
	prefix := fmt.Sprintf("%d %s %d ", severity, tag, pid)
	if len(data) < len(prefix) || string(data[:len(prefix)]) != prefix {
		return Line{}, false
	}
	return Line{Time: now, Severity: Severity(severity), Tag: Printable(tag), PID: pid, Text: Printable(string(data[len(prefix):]))}, true
}
