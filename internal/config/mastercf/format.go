package mastercf

import "strings"

// LineLimit is the length beyond which folded output is wrapped, Indent what
// the next line begins with.
const (
	LineLimit = 80
	Indent    = "    "
)

// columns are where the fields begin, when there is room.
var columns = [...]int{0, 11, 17, 25, 33, 41, 49, 57}

// Layout says how an entry is shown.
type Layout uint8

const (
	OneLine Layout = iota
	Folded
)

// Format shows the entry as postconf -M does, with a line feed. value, when
// not nil, replaces the "name=value" of each -o.
func (s *Service) Format(layout Layout, value func(string) string) string {
	w := &lineWriter{folded: layout == Folded}
	for i, field := range s.fields() {
		if i > 0 {
			w.put(" ")
			for w.length < columns[i] {
				w.put(" ")
			}
		}
		w.put(field)
	}
	w.args(s, value, 3)
	w.put("\n")
	return w.text.String()
}

// FormatCommand shows the command and its arguments as postconf -F does; used
// is the length of what precedes them on the line.
func (s *Service) FormatCommand(layout Layout, value func(string) string, used int) string {
	w := &lineWriter{folded: layout == Folded, length: used}
	w.put(s.Command)
	w.args(s, value, 1)
	return w.text.String()
}

func (s *Service) fields() []string {
	return []string{s.Name, s.Type, s.Private, s.Unpriv, s.Chroot, s.Wakeup, s.MaxProc, s.Command}
}

// Field returns the text of column i of Fields, of the command only its name.
func (s *Service) Field(i int) string { return s.fields()[i] }

// lineWriter keeps count of the line that it writes.
type lineWriter struct {
	text   strings.Builder
	length int
	folded bool
}

func (w *lineWriter) put(text string) {
	w.text.WriteString(text)
	w.length += len(text)
}

// gap separates the next item: by a space, or by a new line if it will not fit.
func (w *lineWriter) gap(next int) {
	switch {
	case w.length <= len(Indent):
	case !w.folded || w.length+1+next < LineLimit:
		w.put(" ")
	default:
		w.text.WriteString("\n" + Indent)
		w.length = len(Indent)
	}
}

func braced(word string) string {
	if strings.ContainsAny(word, blanks) {
		return "{" + word + "}"
	}
	return word
}

// args writes the arguments: each option with a value gets a line of its own
// when folding. extra is what postconf adds to the length of such a pair.
func (w *lineWriter) args(s *Service, value func(string) string, extra int) {
	options := s.optionCount()
	for i := 0; i < len(s.Args); i++ {
		word := s.Args[i]
		if i >= options {
			w.gap(len(word))
			w.put(braced(word))
			continue
		}
		if word != "-o" || i+1 >= options {
			w.gap(len(word))
			w.put(word)
			continue
		}
		i++
		setting := s.Args[i]
		if value != nil {
			setting = value(setting)
		}
		setting = braced(setting)
		w.length = LineLimit
		w.gap(len(word) + len(setting) + extra)
		w.put(word + " " + setting)
		w.length = LineLimit
	}
}
