package greylist_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"posthaste/internal/policy/greylist"
	"posthaste/internal/sys/lifecycle"
)

// BenchmarkCheck decides about new triplets, and about one that is known, with
// the database in a file.
func BenchmarkCheck(b *testing.B) {
	for name, span := range map[string]int{"new": 1 << 40, "known": 1} {
		b.Run(name, func(b *testing.B) {
			store := openBolt(b, filepath.Join(b.TempDir(), "greylist.db"))
			group := lifecycle.New(context.Background(), nil)
			group.Go("database", store.Run)
			g := greylist.New(greylist.Settings{Quiet: true}, greylist.Deps{Store: store})
			i := 0
			for b.Loop() {
				i++
				g.Check(context.Background(), greylist.Request{ClientName: "mx.example", ClientAddress: "192.0.2.1",
					Sender: fmt.Sprintf("u%d@s.example", i%span), Recipient: "r@example.com"})
			}
			b.StopTimer()
			group.Stop(time.Millisecond)
			store.Close()
		})
	}
}

// BenchmarkServer is a round trip through a socket.
func BenchmarkServer(b *testing.B) {
	dial, _ := serve(b, &greylist.Server{})
	conn := dial(b)
	conn.SetDeadline(time.Time{})
	in := bufio.NewReader(conn)
	for b.Loop() {
		io.WriteString(conn, "request=smtpd_access_policy\nclient_address=192.0.2.1\nclient_name=a\nsender=\nrecipient=u@x\n\n")
		for range 2 {
			if _, err := in.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
	}
}
