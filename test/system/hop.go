package system

import (
	"bufio"
	"net"
	"strings"
	"sync"
)

// Hop is a next hop: an SMTP server that takes everything, and answers the end
// of a message once it was told to (Release).
type Hop struct {
	listener net.Listener

	mu       sync.Mutex
	messages []string
	waiting  int
	gate     chan struct{} // closed: messages are answered
	closed   bool
	conns    map[net.Conn]bool
	sessions sync.WaitGroup
}

// NewHop listens on a port until Close.
func NewHop(port string) (*Hop, error) {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	h := &Hop{listener: l, gate: make(chan struct{}), conns: map[net.Conn]bool{}}
	h.sessions.Add(1)
	go h.accept()
	return h, nil
}

// Close ends it and its connections.
func (h *Hop) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	for conn := range h.conns {
		conn.Close()
	}
	h.mu.Unlock()
	h.listener.Close()
	h.Release()
	h.sessions.Wait()
}

// Release has all messages answered, those that wait and those to come.
func (h *Hop) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.gate:
	default:
		close(h.gate)
	}
}

// Messages are those that were answered with 250.
func (h *Hop) Messages() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.messages...)
}

// Waiting is the number of messages that wait for their answer.
func (h *Hop) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting
}

func (h *Hop) accept() {
	defer h.sessions.Done()
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.closed {
			conn.Close()
		} else {
			h.conns[conn] = true
			h.sessions.Add(1)
			go h.session(conn)
		}
		h.mu.Unlock()
	}
}

func (h *Hop) session(conn net.Conn) {
	defer h.sessions.Done()
	defer func() {
		conn.Close()
		h.mu.Lock()
		delete(h.conns, conn)
		h.mu.Unlock()
	}()
	in := bufio.NewReader(conn)
	say := func(text string) bool { _, err := conn.Write([]byte(text + "\r\n")); return err == nil }
	for ok := say("220 hop.test ESMTP"); ok; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); verb {
		case "DATA":
			ok = say("354 go on") && h.message(in) && say("250 2.0.0 taken")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			ok = say("250 2.0.0 fine")
		}
	}
}

// message reads one, and waits at the gate; false if the client went away.
func (h *Hop) message(in *bufio.Reader) bool {
	var text strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		text.WriteString(line)
	}
	h.mu.Lock()
	h.waiting++
	h.mu.Unlock()
	<-h.gate
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	h.messages = append(h.messages, text.String())
	return !h.closed
}
