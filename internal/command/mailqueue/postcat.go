package mailqueue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"posthaste/internal/command/cli"
	"posthaste/internal/queue"
	"posthaste/internal/queue/queuefile"
	"posthaste/internal/queue/spool"
	"posthaste/internal/sys/vfs"
)

const postcatUsage = "usage: postcat [-b (body text)] [-c config_dir] [-d (decimal record type)] " +
	"[-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] [file(s)...]"

// shows are the options of postcat(1) without a value.
var shows = map[byte]queuefile.Show{
	'b': queuefile.ShowBody, 'e': queuefile.ShowEnvelope, 'h': queuefile.ShowHeader,
	'd': queuefile.ShowType, 'o': queuefile.ShowOffset, 'r': queuefile.ShowRaw, 'v': queuefile.ShowLabels,
}

type postcat struct {
	*cli.Tool
	o queuefile.DumpOptions
}

// Postcat is postcat(1).
func Postcat(_ context.Context, env *cli.Env) int {
	options := env.Getopt("bc:dehoqrs:v")
	flagC, inQueue, bad, p := "", false, false, &postcat{}
	for {
		letter, value := options.Next()
		if letter == 0 {
			break
		}
		switch letter {
		case 'c':
			flagC = value
		case 'q':
			inQueue = true
		case 's':
			n, err := strconv.ParseInt(value, 10, 64)
			p.o.Offset, bad = n, bad || err != nil || n < 0
		case '?':
			bad = true
		default:
			p.o.Show |= shows[letter]
		}
	}
	status := 0
	if p.Tool, status = env.Load(flagC); status != 0 {
		return status
	}
	p.Quiet()
	if bad {
		return p.Fatal(1, "%s", postcatUsage)
	}
	const parts = queuefile.ShowEnvelope | queuefile.ShowHeader | queuefile.ShowBody
	if p.o.Show&parts == 0 {
		p.o.Show |= parts
	}
	if inQueue {
		return p.each(options.Operands(), p.queued)
	}
	if len(options.Operands()) == 0 {
		return p.stdin()
	}
	return p.each(options.Operands(), p.file)
}

func (p *postcat) each(names []string, show func(string) int) int {
	for _, name := range names {
		if status := show(name); status != 0 {
			return status
		}
	}
	return 0
}

// maxStdin bounds what is read from standard input, which must be in memory
// to follow pointer records.
const maxStdin = 1 << 30

func (p *postcat) stdin() int {
	data, err := io.ReadAll(io.LimitReader(p.Stdin, maxStdin))
	if err != nil {
		return p.Fatal(1, "read standard input: %s", cli.Reason(err))
	}
	return p.dump(bytes.NewReader(data), "stdin")
}

func (p *postcat) file(name string) int {
	root, path := ".", name
	if strings.HasPrefix(name, "/") {
		root = ""
		path = name[1:]
	}
	f, err := vfs.Dir(root).Open(path)
	if err != nil {
		return p.Fatal(1, "open %s: %s", name, cli.Reason(err))
	}
	defer f.Close()
	return p.dump(f, name)
}

// queued shows the message with a queue id, wherever it is.
func (p *postcat) queued(text string) int {
	if text == "" || strings.IndexFunc(text, notName) >= 0 {
		return p.Fatal(1, "bad mail queue ID: %s", text)
	}
	var c queueConfig
	if status := p.Fill(&c); status != 0 {
		return status
	}
	layout := spool.NewLayout(vfs.Dir(c.Dir), c.Queue)
	var err error = errors.New("No such file or directory")
	for _, name := range []string{spool.Maildrop, "incoming", "active", "deferred", "hold", "corrupt"} {
		if !queue.IsID(text) {
			break
		}
		var f vfs.File
		path := layout.Path(name, queue.ID(text))
		if f, err = layout.FS.Open(path); err == nil {
			defer f.Close()
			return p.dump(f, path)
		}
	}
	return p.Fatal(1, "open queue file %s: %s", text, cli.Reason(err))
}

func (p *postcat) dump(src io.ReaderAt, name string) int {
	p.o.Name = name
	err := queuefile.Dump(p.Stdout, src, p.o)
	switch {
	case errors.Is(err, queuefile.ErrNotQueueFile):
		p.Warnf("%s: %v", name, err)
	case errors.Is(err, queuefile.ErrFormat):
		p.Warnf("%s: %v", name, err)
		return p.Fatal(1, "record read error")
	case err != nil:
		return p.Fatal(1, "%s", fmt.Sprint(err))
	}
	return 0
}
