package bounce

import (
	"io"
	"strings"
)

// Lines of explanation and Diagnostic-Code are folded as Postfix folds them.
const (
	wrapWidth  = 79
	wrapIndent = 4
)

// wrap writes text in lines of at most width bytes, broken at white space;
// all but the first are indented. A longer word stays whole.
func wrap(w io.StringWriter, prefix, text string, width int) {
	indent := ""
	for {
		line := text
		if len(text) > width-len(indent) {
			line = text[:breakAt(text, width-len(indent))]
		}
		text = strings.TrimLeft(text[len(line):], " \t")
		w.WriteString(prefix)
		w.WriteString(indent)
		w.WriteString(strings.TrimRight(line, " \t"))
		w.WriteString("\n")
		if text == "" {
			return
		}
		indent = strings.Repeat(" ", wrapIndent)
	}
}

// breakAt is where the last word that fits ends, or the first word if none fits.
func breakAt(text string, width int) int {
	if at := strings.LastIndexAny(text[:width+1], " \t"); at > 0 && strings.TrimLeft(text[:at], " \t") != "" {
		return at
	}
	start := len(text) - len(strings.TrimLeft(text, " \t"))
	if at := strings.IndexAny(text[start:], " \t"); at >= 0 {
		return start + at
	}
	return len(text)
}
