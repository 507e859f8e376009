package pattern

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dlclark/regexp2"
)

// dialect is what a translated pattern is written for.
type dialect uint8

const (
	linear    dialect = iota // Go's regexp: bounded time
	backtrack                // regexp2: look-around and back references
)

// translated is a pattern in the syntax of an engine.
type translated struct {
	text   string
	groups int
	// needs is what only the other engine has.
	needs dialect
	// dollar: "$" stands for the end, which before a final newline it is not.
	dollar bool
}

// translator makes a pattern for a dialect.
type translator func(dialect) (translated, error)

// program is a compiled pattern.
type program struct {
	groups int
	fast   *regexp.Regexp
	// slow is used alone when there is no fast, and for subjects that end in a
	// newline when the fast one takes "$" too literally.
	slow func() (*regexp2.Regexp, error)
	// exact says that fast is right for all subjects.
	exact bool
}

// matchTimeout is how long a backtracking match may take. PCRE's match limit
// is reached in about as long.
const matchTimeout = time.Second

// compile builds the program. longest is POSIX's choice among matches.
func compile(translate translator, choice choice) (*program, error) {
	t, err := translate(linear)
	if err != nil {
		return nil, err
	}
	p := &program{groups: t.groups, exact: !t.dollar}
	p.slow = sync.OnceValues(func() (*regexp2.Regexp, error) {
		t, err := translate(backtrack)
		if err != nil {
			return nil, err
		}
		re, err := regexp2.Compile(t.text, regexp2.RE2)
		if err == nil {
			re.MatchTimeout = matchTimeout
		}
		return re, err
	})
	if t.needs == linear {
		if p.fast, err = regexp.Compile(t.text); err == nil {
			if choice == longestMatch {
				p.fast.Longest()
			}
			return p, nil
		}
	}
	if _, err := p.slow(); err != nil {
		return nil, fmt.Errorf("this pattern is not supported: %w", err)
	}
	return p, nil
}

// choice is which of the matches at the leftmost place counts.
type choice uint8

const (
	firstMatch   choice = iota // Perl's
	longestMatch               // POSIX's
)

// subject is a key that patterns are matched with.
type subject struct {
	text string // bytes as runes
	wide bool   // it differs from the key
}

func newSubject(key string) subject {
	for i := 0; i < len(key); i++ {
		if key[i] >= 0x80 {
			return subject{widen(key), true}
		}
	}
	return subject{key, false}
}

func widen(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// narrow is the opposite of widen.
func (s subject) narrow(part string) string {
	if !s.wide {
		return part
	}
	b := make([]byte, 0, len(part))
	for _, r := range part {
		b = append(b, byte(r))
	}
	return string(b)
}

// match matches a subject. groups, when wanted, are the texts of the
// parentheses; groups[0] is the whole match.
func (p *program) match(s subject, want groupsWanted) (groups []string, ok bool, err error) {
	if p.fast == nil || (!p.exact && strings.HasSuffix(s.text, "\n")) {
		return p.matchSlow(s)
	}
	if want == noGroups {
		return nil, p.fast.MatchString(s.text), nil
	}
	groups = p.fast.FindStringSubmatch(s.text)
	for i := range groups {
		groups[i] = s.narrow(groups[i])
	}
	return groups, groups != nil, nil
}

type groupsWanted uint8

const (
	noGroups groupsWanted = iota
	allGroups
)

func (p *program) matchSlow(s subject) ([]string, bool, error) {
	re, err := p.slow()
	if err != nil {
		return nil, false, err
	}
	m, err := re.FindStringMatch(s.text)
	if err != nil {
		return nil, false, errLimit
	}
	if m == nil {
		return nil, false, nil
	}
	groups := make([]string, p.groups+1)
	for i := range groups {
		if g := m.GroupByNumber(i); g != nil {
			groups[i] = s.narrow(g.String())
		}
	}
	return groups, true, nil
}
