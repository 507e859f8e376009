package system

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what should come soon.
const Patience = 20 * time.Second

// Wait looks until condition holds; after Patience the test fails with what
// was waited for.
func Wait(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !Soon(condition) {
		t.Fatalf("waited %v for %s", Patience, what)
	}
}

// Soon looks until condition holds, at most Patience.
func Soon(condition func() bool) bool {
	deadline := time.Now().Add(Patience)
	for pause := time.Millisecond; !condition(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// ports are those given out by this process.
var ports struct {
	sync.Mutex
	used map[int]bool
}

// FreePort finds a port that nobody listens on; not one that the kernel would
// give to an outgoing connection meanwhile.
func FreePort(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.used == nil {
		ports.used = map[int]bool{}
	}
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil || ports.used[port] {
			continue
		}
		l.Close()
		ports.used[port] = true
		return strconv.Itoa(port)
	}
	t.Fatal("found no free port")
	return ""
}
