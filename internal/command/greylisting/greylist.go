package greylisting

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"posthaste/internal/command/cli"
	"posthaste/internal/policy/greylist"
)

const greylistUsage = "usage: greylist [-c config_dir] [-d directory] list [-k kind] [text] | show key | release text | " +
	"forget [-k kind] text | whitelist [add|remove client|recipient pattern] | stats | import directory | export directory"

// tool is the greylist command at work on a running greylist, or on its file
// when none runs.
type tool struct {
	*cli.Env
	dir   string
	kind  greylist.Kind
	to    greylist.Obeyer
	close func() error
	now   func() time.Time
}

// Greylist shows and changes what the greylist knows.
func Greylist(ctx context.Context, env *cli.Env) int {
	t := &tool{Env: env, now: time.Now}
	words, ok := t.parse()
	if !ok {
		fmt.Fprintf(env.Stderr, "%s: fatal: %s\n", env.Name, greylistUsage)
		return 1
	}
	if status := t.open(words[0]); status != 0 {
		return status
	}
	err := t.run(ctx, words)
	if err := errors.Join(err, t.close()); err != nil {
		return env.Fatal(1, "%v", err)
	}
	return 0
}

// parse reads the options, which may also stand behind the first word.
func (t *tool) parse() (words []string, ok bool) {
	flagC := ""
	for range 2 {
		options := t.Getopt("c:d:k:")
		for {
			letter, value := options.Next()
			if letter == 0 {
				break
			}
			switch letter {
			case 'c':
				flagC = value
			case 'd':
				t.dir = value
			case 'k':
				at := slices.IndexFunc(greylist.Kinds(), func(k greylist.Kind) bool { return k.String() == value })
				if at < 0 {
					return nil, false
				}
				t.kind = greylist.Kinds()[at]
			default:
				return nil, false
			}
		}
		rest := options.Operands()
		if len(words) > 0 || len(rest) == 0 {
			words = append(words, rest...)
			break
		}
		words, t.Args = rest[:1:1], rest[1:]
	}
	if t.dir == "" {
		t.Args = nil
		loaded, status := t.Load(flagC)
		if status != 0 {
			return nil, false
		}
		t.dir, _ = loaded.View.String("data_directory")
	}
	return words, len(words) > 0
}

// open connects to the running greylist, or opens its file, which only import
// begins.
func (t *tool) open(command string) int {
	remote, err := greylist.Dial(filepath.Join(t.dir, socketName))
	if err == nil {
		t.to, t.close = remote, remote.Close
		return 0
	}
	path := filepath.Join(t.dir, databaseName)
	if _, err := os.Stat(path); err != nil && command != "import" {
		return t.Fatal(1, "there is no greylist in %s: %s", t.dir, cli.Reason(err))
	}
	store, err := greylist.OpenBolt(path, nil)
	if err != nil {
		return t.Fatal(1, "%v", err)
	}
	grey := greylist.New(greylist.Settings{Quiet: true}, greylist.Deps{Store: store})
	t.to, t.close = grey, store.Close
	return 0
}

// run does what the words say.
func (t *tool) run(ctx context.Context, words []string) error {
	text := strings.Join(words[1:], " ")
	order := greylist.Order{Op: words[0], Kind: t.kind, Match: text}
	switch verb := words[0]; {
	case verb == "list" && len(words) <= 2:
		return t.list(ctx, order)
	case verb == "show" && len(words) == 2:
		order.Key, order.Match = text, ""
		return t.show(ctx, order)
	case (verb == "release" || verb == "forget") && len(words) == 2:
		return t.change(ctx, order)
	case verb == "whitelist":
		return t.whitelist(ctx, words[1:])
	case verb == "stats" && len(words) == 1:
		return t.stats(ctx)
	case verb == "import" && len(words) == 2:
		n, err := importBerkeley(ctx, words[1], t.to)
		fmt.Fprintf(t.Stdout, "%d entries imported\n", n)
		return err
	case verb == "export" && len(words) == 2:
		return exportBerkeley(ctx, words[1], t.to)
	}
	return errors.New(greylistUsage)
}

// pages gives an order page by page.
func pages(ctx context.Context, to greylist.Obeyer, order greylist.Order, use func(greylist.Reply) error) error {
	for {
		reply := to.Obey(ctx, order)
		if reply.Error != "" {
			return errors.New(reply.Error)
		}
		if err := use(reply); err != nil || !reply.More {
			return err
		}
		order.After = reply.Last
	}
}

func (t *tool) list(ctx context.Context, order greylist.Order) error {
	out := tabwriter.NewWriter(t.Stdout, 0, 0, 2, ' ', 0)
	err := pages(ctx, t.to, order, func(r greylist.Reply) error {
		for _, item := range r.Items {
			fmt.Fprintf(out, "%s\t%s\n", t.state(order.Kind, item), item.Key)
		}
		return out.Flush()
	})
	return errors.Join(err, out.Flush())
}

// state says in two columns how things stand with an entry.
func (t *tool) state(kind greylist.Kind, item greylist.Item) string {
	at := func(seconds int64) string { return time.Unix(seconds, 0).Format("2006-01-02 15:04:05") }
	switch {
	case kind == greylist.Clients:
		return fmt.Sprintf("%d times\t%s", item.Count, at(item.Last))
	case kind != greylist.Triplets:
		return "since\t" + at(item.First)
	case item.Last > item.First:
		return "passed\t" + at(item.Last)
	}
	return "waiting\t" + at(item.First)
}

func (t *tool) show(ctx context.Context, order greylist.Order) error {
	found := false
	for _, kind := range greylist.Kinds() {
		order.Kind = kind
		reply := t.to.Obey(ctx, order)
		if reply.Error != "" {
			return errors.New(reply.Error)
		}
		for _, item := range reply.Items {
			found = true
			fmt.Fprintf(t.Stdout, "%s\t%s\t%s\n", kind, t.state(kind, item), item.Key)
			if kind == greylist.Triplets && item.Last > item.First {
				fmt.Fprintf(t.Stdout, "first seen\t%s\n", time.Unix(item.First, 0).Format(time.RFC3339))
			}
		}
	}
	if !found {
		return fmt.Errorf("there is no entry %q", order.Key)
	}
	return nil
}

// change is release or forget: of what is exactly the text if there is such an
// entry, else of all entries with the text in them.
func (t *tool) change(ctx context.Context, order greylist.Order) error {
	exact := t.to.Obey(ctx, greylist.Order{Op: "show", Kind: order.Kind, Key: order.Match})
	if len(exact.Items) > 0 {
		order.Key, order.Match = order.Match, ""
	}
	n := 0
	err := pages(ctx, t.to, order, func(r greylist.Reply) error { n += r.Done; return nil })
	fmt.Fprintf(t.Stdout, "%d entries\n", n)
	if err == nil && n == 0 {
		return fmt.Errorf("nothing has %q in it", order.Match)
	}
	return err
}

func (t *tool) whitelist(ctx context.Context, words []string) error {
	lists := map[string]greylist.Kind{"client": greylist.ListedHost, "recipient": greylist.ListedRcpt}
	if len(words) == 0 {
		for _, kind := range []greylist.Kind{greylist.ListedHost, greylist.ListedRcpt} {
			err := pages(ctx, t.to, greylist.Order{Op: "list", Kind: kind}, func(r greylist.Reply) error {
				for _, item := range r.Items {
					fmt.Fprintf(t.Stdout, "%s %s\n", strings.TrimSuffix(strings.TrimPrefix(kind.String(), "whitelist-"), "s"), item.Key)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	ops := map[string]string{"add": "allow", "remove": "disallow"}
	if len(words) != 3 || ops[words[0]] == "" {
		return errors.New(greylistUsage)
	}
	kind, ok := lists[words[1]]
	if !ok {
		return errors.New(greylistUsage)
	}
	if reply := t.to.Obey(ctx, greylist.Order{Op: ops[words[0]], Kind: kind, Key: words[2]}); reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}

func (t *tool) stats(ctx context.Context) error {
	reply := t.to.Obey(ctx, greylist.Order{Op: "stats"})
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	for _, kind := range greylist.Kinds() {
		fmt.Fprintf(t.Stdout, "%s: %d\n", kind, reply.Stats.Entries[kind.String()])
	}
	var reasons []string
	for reason := range reply.Stats.Decisions {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		fmt.Fprintf(t.Stdout, "decided \"%s\": %d\n", reason, reply.Stats.Decisions[reason])
	}
	if n := reply.Stats.Decisions["triplet found, delayed"]; n > 0 {
		fmt.Fprintf(t.Stdout, "mean delay: %s\n", (reply.Stats.Waited / time.Duration(n)).Round(time.Second))
	}
	return nil
}
