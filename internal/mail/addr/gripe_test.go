package addr

import "testing"

func TestHostaddrGripe(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.1": "", "": "empty address", "192.0.2.256": "invalid octet value: 192.0.2.256", "1.2.3": "invalid octet count: 1.2.3",
		"1.2.3.4.5": "invalid octet count: 1.2.3.4.5", "1..2.3": "misplaced dot: 1..2.3", "1.2.3.": "misplaced dot: 1.2.3.",
		"0.1.2.3": "bad initial octet value: 0.1.2.3", "1.2.x.4": "invalid character 120(decimal): 1.2.x.4",
	} {
		if got := HostaddrGripe(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
