package intake

import (
	"bytes"
	"strings"
	"testing"
)

func TestBeginning(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"", ""},
		{"Subject: x\n\nbody\n", "Subject: x\n\nbody\n"},
		{"From someone\nSubject: x\n", "X-Mailbox-Line: From someone\nSubject: x\n"},
		{">From a\n>>From b\nX: y\nFrom c\n", "X-Mailbox-Line: >From a\nX-Mailbox-Line: >>From b\nX: y\nFrom c\n"},
		{"From: a\n", "From: a\n"},
		{"From\n", "From\n"},
		{" blank\n", "\n blank\n"},
		{"\tblank\n", "\n\tblank\n"},
		{"\nbody\n", "\nbody\n"},
		{">", ">"},
		{"Fro", "Fro"},
		{"From x\n y\n", "X-Mailbox-Line: From x\n\n y\n"},
		{strings.Repeat(">", 5000) + "From x\n", strings.Repeat(">", 5000) + "From x\n"},
	}
	for _, tt := range tests {
		for _, step := range []int{1, 2, 5, 10000} {
			var out bytes.Buffer
			w := New(&out)
			for i := 0; i < len(tt.in); i += step {
				w.Write([]byte(tt.in[i:min(i+step, len(tt.in))]))
			}
			w.End()
			if out.String() != tt.want {
				t.Errorf("%.40q by %d: %.60q, want %.60q", tt.in, step, out.String(), tt.want)
			}
		}
	}
}

// However it is cut, the outcome is the same, and nothing is lost.
func FuzzCut(f *testing.F) {
	f.Add("From a\n>From b\n x\n", 2)
	f.Fuzz(func(t *testing.T, text string, step int) {
		if step <= 0 {
			step = 1
		}
		var whole, cut bytes.Buffer
		w := New(&whole)
		w.Write([]byte(text))
		w.End()
		w = New(&cut)
		for i := 0; i < len(text); i += step {
			w.Write([]byte(text[i:min(i+step, len(text))]))
		}
		w.End()
		if whole.String() != cut.String() || !strings.HasSuffix(whole.String(), text[min(len(text), 2100):]) || whole.Len() < len(text) {
			t.Fatalf("%q by %d: %q and %q", text, step, whole.String(), cut.String())
		}
	})
}
