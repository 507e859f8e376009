package greylist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"posthaste/internal/sys/lifecycle"
)

// Order is what an administrator asks of a running greylist, or of its file.
type Order struct {
	Op    string `json:"op"` // list, show, release, forget, allow, disallow, stats, put
	Kind  Kind   `json:"kind"`
	Key   string `json:"key,omitempty"`
	Match string `json:"match,omitempty"` // list, release, forget: part of the key
	After string `json:"after,omitempty"`
	Items []Item `json:"items,omitempty"` // put
}

// Reply is the answer to an Order. With More, there are items above the last
// one.
type Reply struct {
	Error string `json:"error,omitempty"`
	Items []Item `json:"items,omitempty"`
	More  bool   `json:"more,omitempty"`
	Last  string `json:"last,omitempty"` // key up to which it is done
	Done  int    `json:"done,omitempty"` // entries changed
	Stats *Stats `json:"stats,omitempty"`
}

const (
	replyItems   = 500
	orderTimeout = time.Minute
)

// Obeyer carries orders out: a Greylist, here or in another process. What goes
// wrong is in the reply.
type Obeyer interface {
	Obey(ctx context.Context, o Order) Reply
}

// Obey carries an order out.
func (g *Greylist) Obey(ctx context.Context, o Order) Reply {
	r, err := g.obey(ctx, o)
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (g *Greylist) obey(ctx context.Context, o Order) (Reply, error) {
	if o.Kind >= kinds {
		return Reply{}, fmt.Errorf("no kind %d of entries", o.Kind)
	}
	switch o.Op {
	case "list":
		return g.page(ctx, o, nil)
	case "show":
		e, found, err := g.deps.Store.Get(ctx, o.Kind, o.Key)
		if err != nil || !found {
			return Reply{}, err
		}
		return Reply{Items: []Item{{o.Key, e}}}, nil
	case "release":
		return g.each(ctx, o, func(key string) error { return g.release(ctx, key) })
	case "forget":
		return g.each(ctx, o, func(key string) error { return g.forget(ctx, o.Kind, key) })
	case "allow":
		return Reply{Done: 1}, g.Allow(ctx, o.Kind, o.Key)
	case "disallow":
		return Reply{Done: 1}, g.Disallow(ctx, o.Kind, o.Key)
	case "put":
		return g.put(ctx, o)
	case "stats":
		s, err := g.Stats(ctx)
		return Reply{Stats: &s}, err
	}
	return Reply{}, fmt.Errorf("unknown order %q", o.Op)
}

// page is one page of items that match.
func (g *Greylist) page(ctx context.Context, o Order, act func(key string) error) (Reply, error) {
	items, err := g.deps.Store.Scan(ctx, o.Kind, o.After, sweepPage)
	if err != nil {
		return Reply{}, err
	}
	r := Reply{More: len(items) == sweepPage}
	match := strings.ToLower(o.Match)
	for _, item := range items {
		r.Last = item.Key
		if !strings.Contains(strings.ToLower(item.Key), match) {
			continue
		}
		if act == nil {
			r.Items = append(r.Items, item)
			if len(r.Items) == replyItems {
				r.More = true
				break
			}
			continue
		}
		if err := act(item.Key); err != nil {
			return r, err
		}
		r.Done++
	}
	return r, nil
}

// each acts on one key, or on those of a page that match.
func (g *Greylist) each(ctx context.Context, o Order, act func(key string) error) (Reply, error) {
	if o.Key != "" {
		return Reply{Done: 1}, act(o.Key)
	}
	if o.Match == "" {
		return Reply{}, errors.New("which entries?")
	}
	return g.page(ctx, o, act)
}

// put takes imported entries; what is known already and newer stays.
func (g *Greylist) put(ctx context.Context, o Order) (Reply, error) {
	r := Reply{}
	for _, item := range o.Items {
		known, found, err := g.deps.Store.Get(ctx, o.Kind, item.Key)
		if err != nil {
			return r, err
		}
		if found && known.Last >= item.Last {
			continue
		}
		if err := g.deps.Store.Put(ctx, o.Kind, item.Key, item.Entry); err != nil {
			return r, err
		}
		r.Done++
	}
	return r, nil
}

// ListenControl makes the socket of a running greylist, for its owner alone.
func ListenControl(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		os.Remove(path)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// ServeControl obeys orders that come through a socket, each an object of JSON
// in a line, until the listener is closed or ctx ends.
func ServeControl(ctx context.Context, group *lifecycle.Group, ln net.Listener, to Obeyer) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		if !group.Go("greylist control", func(ctx context.Context) { controlled(ctx, conn, to) }) {
			conn.Close()
		}
	}
}

func controlled(ctx context.Context, conn net.Conn, to Obeyer) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for conn.SetDeadline(time.Now().Add(orderTimeout)) == nil && ctx.Err() == nil {
		var o Order
		if in.Decode(&o) != nil || out.Encode(to.Obey(ctx, o)) != nil {
			return
		}
	}
}

// Remote gives orders to a running greylist.
type Remote struct {
	conn net.Conn
	in   *json.Decoder
	out  *json.Encoder
}

// Dial connects to the socket of a running greylist.
func Dial(path string) (*Remote, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	return &Remote{conn, json.NewDecoder(conn), json.NewEncoder(conn)}, nil
}

// Obey has an order carried out.
func (r *Remote) Obey(ctx context.Context, o Order) Reply {
	var reply Reply
	err := r.conn.SetDeadline(time.Now().Add(orderTimeout))
	if err == nil {
		err = r.out.Encode(o)
	}
	if err == nil {
		err = r.in.Decode(&reply)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}

// Close ends the connection.
func (r *Remote) Close() error { return r.conn.Close() }
