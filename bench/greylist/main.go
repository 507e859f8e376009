// Command greylist measures policy servers that greylist: requests a second
// over many connections, as Postfix's smtpd asks, and how long one look-up takes
// as the database grows.
//
//	bench/greylist -address 127.0.0.1:10023 [-connections 50] [-time 5s] [-known 0.5]
//	bench/greylist -fill 5000000 -database FILE
//
// The first form asks a running server, ours or postgrey; the second fills a
// database and tells the time of look-ups and the memory at several sizes.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthaste/internal/policy/greylist"
)

func main() {
	address := flag.String("address", "127.0.0.1:10023", "host:port of the server, or a path")
	connections := flag.Int("connections", 50, "connections at the same time")
	duration := flag.Duration("time", 5*time.Second, "how long to ask")
	known := flag.Float64("known", 0.5, "share of requests about one of 1000 triplets")
	fill := flag.Int("fill", 0, "entries to fill a database with")
	database := flag.String("database", "greylist.db", "file to fill")
	flag.Parse()
	var err error
	if *fill > 0 {
		err = grow(*database, *fill)
	} else {
		err = ask(*address, *connections, *duration, *known)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "greylist:", err)
		os.Exit(1)
	}
}

// request appends what smtpd sends, with the attributes that it always sends.
func request(b []byte, n uint64) []byte {
	number := func(n uint64) { b = strconv.AppendUint(b, n, 10) }
	b = append(b, "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=198.18."...)
	number(n >> 8 & 255)
	b = append(b, '.')
	number(n & 255)
	b = append(b, "\nclient_name=mx"...)
	number(n)
	b = append(b, ".client.example\nclient_port=4711\nreverse_client_name=mx.client.example\nserver_address=192.0.2.1\nserver_port=25\n"+
		"helo_name=mx.client.example\nsender=user"...)
	number(n)
	b = append(b, "x@sender.example\nrecipient=rcpt"...)
	number(n % 1000)
	b = append(b, "@example.com\nrecipient_count=0\nqueue_id=\ninstance="...)
	number(n)
	return append(b, ".1\nsize=12345\netrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\n"+
		"ccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n"+
		"encryption_keysize=256\npolicy_context=\ncompatibility_level=3.6\nmail_version=3.11.6\n\n"...)
}

func ask(address string, connections int, duration time.Duration, known float64) error {
	network := "tcp"
	if strings.Contains(address, "/") {
		network = "unix"
	}
	var answered, next atomic.Uint64
	next.Store(uint64(time.Now().UnixNano()) >> 16 << 8)
	var wait sync.WaitGroup
	var failure atomic.Pointer[error]
	times := make([][]time.Duration, connections)
	end := time.Now().Add(duration)
	for i := range connections {
		wait.Go(func() {
			conn, err := net.Dial(network, address)
			if err != nil {
				failure.Store(&err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			random := rand.New(rand.NewPCG(uint64(i), 1))
			var text []byte
			for time.Now().Before(end) {
				n := random.Uint64N(1000)
				if random.Float64() >= known {
					n = next.Add(1)
				}
				text = request(text[:0], n)
				start := time.Now()
				if _, err = conn.Write(text); err == nil {
					err = answer(in)
				}
				if err != nil {
					failure.Store(&err)
					return
				}
				times[i] = append(times[i], time.Since(start))
				answered.Add(1)
			}
		})
	}
	start := time.Now()
	wait.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	fmt.Printf("%d connections: %.0f requests/s, median %v, 99%% %v\n", connections,
		float64(answered.Load())/time.Since(start).Seconds(), all[len(all)/2].Round(time.Microsecond), all[len(all)*99/100].Round(time.Microsecond))
	return nil
}

// answer reads an answer up to its empty line.
func answer(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil || len(line) == 1 {
			return err
		}
	}
}

// grow fills a database and measures at each tenfold size.
func grow(path string, entries int) error {
	store, err := greylist.OpenBolt(path, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, random := context.Background(), rand.New(rand.NewPCG(1, 1))
	key := func(n int) string {
		h := uint32(n) * 2654435761
		return fmt.Sprintf("198.%d.%d.0/user%d@sender%d.example/rcpt%d@example.com", h>>24, h>>16&255, n, h%5000, n%1000)
	}
	start, now := time.Now(), time.Now().Unix()
	measure := 10_000
	for n := 1; n <= entries; n++ {
		if err := store.Put(ctx, greylist.Triplets, key(n), greylist.Entry{First: now, Last: now}); err != nil {
			return err
		}
		if n%100_000 == 0 || n == measure || n == entries {
			if err := store.Flush(); err != nil {
				return err
			}
		}
		if n != measure && n != entries {
			continue
		}
		measure *= 10
		const samples = 200_000
		began := time.Now()
		for range samples {
			if _, found, err := store.Get(ctx, greylist.Triplets, key(1+random.IntN(n))); err != nil || !found {
				return fmt.Errorf("an entry is missing: %w", err)
			}
		}
		each := time.Since(began) / samples
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		fmt.Printf("%9d entries after %6.1fs: %v a look-up, heap %d MB, file %d MB, %s\n", n, began.Sub(start).Seconds(), each,
			memory.HeapInuse>>20, info.Size()>>20, resident())
	}
	return nil
}

// resident is what the system says about this process's memory.
func resident() string {
	text, _ := os.ReadFile("/proc/self/status")
	var said []string
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "RssAnon") || strings.HasPrefix(line, "RssFile") {
			said = append(said, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(said, ", ")
}
