package addr

import "strings"

// List is a parsed address list of a header field (RFC 5322 §3.4) that keeps
// phrases, comments and groups, so that addresses can be changed in place.
// Bad syntax is never refused: each piece of text finds a place.
type List struct{ nodes []node }

// node is a mailbox or a single token.
type node struct {
	token
	addr *Mailbox
}

// Mailbox is one address in a List.
type Mailbox struct {
	tokens  []token
	addr    Address
	changed bool
}

// Address is the mailbox's address in internal form.
func (m *Mailbox) Address() Address { return m.addr }

// Set changes the address. Setting what was there changes nothing, unless the
// text needs quotes that are missing (a@b@c).
func (m *Mailbox) Set(a Address) {
	if a != m.addr || m.ambiguous() {
		m.addr, m.changed = a, true
	}
}

func (m *Mailbox) ambiguous() bool {
	n := 0
	for _, t := range m.tokens {
		if t.kind == '@' {
			n++
		}
	}
	return n > 1
}

// ParseList reads the body of an address header, without its name. It looks
// at no more than limit tokens (postconf(5) header_address_token_limit).
func ParseList(text string, limit int) *List {
	p := parser{tokens: scan(strings.Trim(text, " \t\r\n"), limit)}
	p.end = len(p.tokens)
	p.opens = make([]int, p.end+1)
	for i, last := 0, -1; i < p.end; i++ {
		if p.tokens[i].kind == '<' {
			last = i
		}
		p.opens[i+1] = last
	}
	for p.end > 0 {
		p.step()
	}
	for i, j := 0, len(p.out)-1; i < j; i, j = i+1, j-1 {
		p.out[i], p.out[j] = p.out[j], p.out[i]
	}
	return &List{nodes: p.out}
}

// Mailboxes returns the addresses in the order of the text.
func (l *List) Mailboxes() []*Mailbox {
	var all []*Mailbox
	for _, n := range l.nodes {
		if n.addr != nil {
			all = append(all, n.addr)
		}
	}
	return all
}

// Changed reports whether an address was changed.
func (l *List) Changed() bool {
	for _, n := range l.nodes {
		if n.addr != nil && n.addr.changed {
			return true
		}
	}
	return false
}

// String writes the list on one line.
func (l *List) String() string { return strings.Join(l.Lines(), " ") }

// Lines writes the list as pieces that end behind a comma, so that a header
// can be folded there. There is at least one piece, which may be "".
func (l *List) Lines() []string {
	var lines []string
	var b strings.Builder
	for i, n := range l.nodes {
		if n.addr != nil {
			n.addr.external(&b)
		} else {
			n.external(&b)
		}
		if n.kind == ',' {
			lines = append(lines, b.String())
			b.Reset()
			continue
		}
		if i+1 < len(l.nodes) && spaceBetween(n.kind, l.nodes[i+1].kind) {
			b.WriteByte(' ')
		}
	}
	return append(lines, b.String())
}

func spaceBetween(k, next kind) bool {
	return next == '<' || k == groupStart || (next.isWord() && k.isWord())
}

// external appends the address as it is written in a header.
func (m *Mailbox) external(b *strings.Builder) {
	if !m.changed {
		for _, t := range m.tokens {
			t.external(b)
		}
		return
	}
	if m.addr == "" {
		b.WriteString(`""`)
		return
	}
	b.WriteString(m.addr.External())
}

// newMailbox makes a mailbox of the tokens of one address.
func newMailbox(tokens []token) *Mailbox {
	var b strings.Builder
	route := len(tokens) > 0 && tokens[0].kind == '@'
	for _, t := range tokens {
		t.internal(&b)
		if t.kind == ',' && !route {
			b.WriteByte(' ')
		}
	}
	return &Mailbox{tokens: tokens, addr: Address(b.String())}
}

// parser works from the end of the text to its beginning, where it is easiest
// to tell a phrase from an address: a phrase has "<" or ":" to its right.
type parser struct {
	tokens []token
	opens  []int  // opens[i] is the index of the last "<" in tokens[:i], or -1
	end    int    // tokens[:end] are still to be read
	out    []node // what was found, last first
	group  bool   // a ";" is open
}

// step reads one unit in front of end.
func (p *parser) step() {
	t := p.tokens[p.end-1]
	switch {
	case t.kind == ',':
		p.take(t)
	case t.kind == ';':
		p.take(t)
		p.group = true
	case t.kind == '>':
		p.angle(t)
	case t.kind == ':' && p.group:
		p.groupStart()
	default:
		p.run()
	}
}

// take moves the last unread token to the output.
func (p *parser) take(t token) {
	p.out = append(p.out, node{token: t})
	p.end--
}

func (p *parser) add(m *Mailbox) {
	p.out = append(p.out, node{token: token{kind: mailbox}, addr: m})
}

// angle reads "phrase <address>"; a ">" without "<" is only itself.
func (p *parser) angle(t token) {
	open := p.opens[p.end]
	if open < 0 {
		p.take(t)
		return
	}
	inside := p.tokens[open+1 : p.end-1]
	p.take(t)
	words := p.comments(inside)
	if len(words) > 0 {
		p.add(newMailbox(words))
	}
	p.end = open + 1
	p.take(p.tokens[open])
	p.phrase()
	if p.end > 0 && p.tokens[p.end-1].kind == ':' && !p.group {
		p.take(p.tokens[p.end-1])
	}
}

// comments moves the comments of one address behind it and returns the rest.
func (p *parser) comments(tokens []token) []token {
	var words []token
	for _, t := range tokens {
		if t.kind != comment {
			words = append(words, t)
		}
	}
	for i := len(tokens) - 1; i >= 0; i-- {
		if tokens[i].kind == comment {
			p.out = append(p.out, node{token: tokens[i]})
		}
	}
	return words
}

func (p *parser) groupStart() {
	p.take(token{kind: groupStart})
	p.group = false
	for p.phrase(); p.end > 0 && p.tokens[p.end-1].kind == ':'; p.phrase() {
		p.take(p.tokens[p.end-1])
	}
}

// phrase reads the words in front of "<" or of a group's ":".
func (p *parser) phrase() {
	for p.end > 0 {
		switch t := p.tokens[p.end-1]; t.kind {
		case ',', ';', '>', ':':
			return
		default:
			p.take(t)
		}
	}
}

// run reads addresses that are not in angle brackets. Two words without an
// operator between them belong to two addresses, and get a comma; comments
// move behind them.
func (p *parser) run() {
	start := p.end
	for start > 0 {
		t := p.tokens[start-1]
		if t.kind == ',' || t.kind == ';' || t.kind == '>' || (t.kind == ':' && p.group) {
			break
		}
		start--
	}
	words := p.comments(p.tokens[start:p.end])
	p.end = start
	p.addresses(words)
	if len(words) > 0 && start > 0 && p.tokens[start-1].kind != ',' && p.tokens[start-1].kind != ':' && p.closed(start) {
		p.out = append(p.out, node{token: token{kind: ','}})
	}
}

// closed reports whether an address or group ends in front of start.
func (p *parser) closed(start int) bool {
	t := p.tokens[start-1]
	return t.kind == ';' || (t.kind == '>' && p.opens[start] >= 0)
}

// addresses divides words where no operator stands between two of them.
func (p *parser) addresses(words []token) {
	end := len(words)
	for i := len(words) - 1; i > 0; i-- {
		if !words[i].kind.isWord() || !words[i-1].kind.isWord() {
			continue
		}
		p.add(newMailbox(words[i:end]))
		p.out = append(p.out, node{token: token{kind: ','}})
		end = i
	}
	if end > 0 {
		p.add(newMailbox(words[:end]))
	}
}
