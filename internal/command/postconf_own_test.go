package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnParametersStayOut: lists of all parameters are Postfix's, but for
// what is set.
func TestOwnParametersStayOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte("posthaste_spf_header = none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{"-d": "", "": "posthaste_spf_header = none\n", "-C service": "", "-C builtin": "posthaste_spf_header = none\n"} {
		var out, complaints bytes.Buffer
		env := &Env{Name: "postconf", Args: append([]string{"-c", dir}, strings.Fields(options)...), Stdout: &out, Stderr: &complaints, Getenv: func(string) string { return "" }}
		if code := runPostconf(env, testHost); code != 0 {
			t.Errorf("%s: %d %s", options, code, complaints.String())
		}
		own := ""
		for _, line := range strings.SplitAfter(out.String(), "\n") {
			if strings.HasPrefix(line, "posthaste_") {
				own += line
			}
		}
		if own != want || out.Len() == 0 {
			t.Errorf("postconf %s shows %q", options, own)
		}
	}
}
