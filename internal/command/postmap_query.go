package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"posthaste/internal/mail/rfc822"
	"posthaste/internal/table"
)

// ask looks the key up in the tables in order, or with "-q -" the keys on
// standard input. Each table is opened when it is come to.
func (p *postmap) ask(ctx context.Context) (found bool, err error) {
	if *p.query != "-" {
		return p.find(ctx, newChain(p), *p.query, func(_, value string) { p.answer(*p.query, value) })
	}
	chain := newChain(p)
	one := func(key string) error {
		hit, err := p.find(ctx, chain, key, p.entry)
		found = found || hit
		return err
	}
	if p.header || p.body {
		return found, p.message(one)
	}
	err = p.keys(one)
	return found, err
}

// chain is the tables of the command line, opened as they are needed.
type chain struct {
	tool *postmap
	open []table.Table
}

func newChain(p *postmap) *chain { return &chain{tool: p} }

func (c *chain) at(i int) (table.Table, error) {
	for len(c.open) <= i {
		t, err := c.tool.open(c.tool.specs[len(c.open)])
		if err != nil {
			return nil, err
		}
		c.open = append(c.open, t)
	}
	return c.open[i], nil
}

// find looks one key up and shows what it finds.
func (p *postmap) find(ctx context.Context, c *chain, key string, show func(key, value string)) (bool, error) {
	for i := range p.specs {
		t, err := c.at(i)
		if err != nil {
			return false, err
		}
		value, found, err := t.Lookup(ctx, key)
		if err != nil {
			return false, p.lookupError(t, err)
		}
		if !found {
			continue
		}
		if value == "" {
			p.log.Warnf("table %s: key %s: empty string result is not allowed", shownName(t), key)
			p.log.Warnf("table %s should return NO RESULT in case of NOT FOUND", shownName(t))
		}
		show(key, value)
		return true, nil
	}
	return false, nil
}

// shownName is a table's name as its type shows it.
func shownName(t table.Table) string {
	if inner := table.Unwrap(t); inner != nil {
		return inner.Name()
	}
	return t.Name()
}

func (p *postmap) lookupError(t table.Table, err error) error {
	if errors.Is(err, table.ErrApplication) {
		return fmt.Errorf("table %s: query error: %w", shownName(t), table.ErrApplication)
	}
	p.log.Warnf("%s", err)
	return fmt.Errorf("table %s: query error", shownName(t))
}

// answer shows the value of the key on the command line.
func (p *postmap) answer(key, value string) {
	if p.json {
		p.entry(key, value)
		return
	}
	fmt.Fprintln(p.Stdout, value)
}

// entry shows a key and its value.
func (p *postmap) entry(key, value string) {
	switch {
	case p.json:
		p.showJSON(key, value)
	case p.alias:
		fmt.Fprintf(p.Stdout, "%s:\t%s\n", key, value)
	default:
		fmt.Fprintf(p.Stdout, "%s\t%s\n", key, value)
	}
}

// showJSON shows {"key": "value"} on one line.
func (p *postmap) showJSON(key, value string) {
	quote := func(s string) []byte {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(s) // a string is always JSON
		return bytes.TrimSpace(b.Bytes())
	}
	fmt.Fprintf(p.Stdout, "{%s: %s}\n", quote(key), quote(value))
}

// sequence shows all entries of the tables.
func (p *postmap) sequence(ctx context.Context) error {
	for _, spec := range p.specs {
		if kind, _ := p.split(spec); kind == "proxy" {
			return errors.New("can't sequence maps via the proxy service")
		}
		t, err := p.open(spec)
		if err != nil {
			return err
		}
		if err := p.sequenceOf(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (p *postmap) sequenceOf(ctx context.Context, t table.Table) error {
	return table.List(ctx, t, func(key, value string) error {
		if key == "" {
			p.log.Warnf("table %s: empty lookup key value is not allowed", t.Name())
			return nil
		}
		if value == "" {
			p.log.Warnf("table %s: key %s: empty string result is not allowed", shownName(t), key)
			p.log.Warnf("table %s should return NO RESULT in case of NOT FOUND", shownName(t))
		}
		if p.files {
			var err error
			if value, err = table.DecodeFile(shownName(t), key, value); err != nil {
				p.log.Warnf("%s", err)
				return fmt.Errorf("table %s: sequence error", shownName(t))
			}
		}
		p.entry(key, value)
		return nil
	})
}

// message takes standard input as a message and its headers or body lines as
// keys (postmap(1), -b, -h, -m).
func (p *postmap) message(use func(key string) error) error {
	k := &messageKeys{tool: p, use: use}
	w := rfc822.NewWalker(rfc822.Options{
		LineLimit: p.lineLimit, HeaderLimit: p.size, Nesting: p.nesting, MaxBoundary: p.boundary,
		NoMIME: !p.mime, Parts: p.mime, Lines: true,
	}, k)
	buffer := make([]byte, 32<<10)
	for k.err == nil {
		n, err := p.Stdin.Read(buffer)
		w.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			w.Close()
			break
		}
		if err != nil {
			return fmt.Errorf("read error: %w", err)
		}
	}
	return k.err
}

// messageKeys makes keys of the parts of a message.
type messageKeys struct {
	tool *postmap
	use  func(key string) error
	err  error
}

func (k *messageKeys) key(wanted bool, text []byte) {
	if wanted && k.err == nil {
		k.err = k.use(string(text))
	}
}

// Header implements rfc822.Events.
func (k *messageKeys) Header(_ rfc822.Class, _ rfc822.Known, text []byte) {
	k.key(k.tool.header, text)
}

// EndOfHeader implements rfc822.Events.
func (k *messageKeys) EndOfHeader([]byte) {}

// Body implements rfc822.Events.
func (k *messageKeys) Body(text []byte, _ int) {
	k.key(k.tool.body, bytes.TrimSuffix(text, []byte("\n")))
}

// Defect implements rfc822.Events.
func (k *messageKeys) Defect(rfc822.Problem, []byte) {}
