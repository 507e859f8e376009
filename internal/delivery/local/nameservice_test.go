package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNameService(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("alice:x:2000:2000::/home/alice:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	asked, now, down := 0, time.Now(), false
	n := &NameService{files: NewPasswordFile(path), now: func() time.Time { return now }, known: map[string]remembered{},
		ask: func(_ context.Context, key string) (string, bool, error) {
			asked++
			if down {
				return "", false, errors.New("directory is down")
			}
			if key == "lena" || key == "5000" {
				return "lena:x:5000:5001:Lena:/home/lena:/bin/sh", true, nil
			}
			if key == "other" {
				return "another:x:5002:5002::/:/", true, nil
			}
			return "", false, nil
		}}
	for _, c := range []struct {
		name  string
		found bool
		asked int
	}{{"alice", true, 0}, {"lena", true, 1}, {"lena", true, 1}, {"nosuch", false, 2}, {"nosuch", false, 2}, {"5000", false, 2}, {"-x", false, 2}, {"a/b", false, 2}, {"", false, 2}, {"other", false, 3}} {
		if _, found, err := n.ByName(c.name); found != c.found || err != nil || asked != c.asked {
			t.Errorf("%s: %v %v, asked %d times", c.name, found, err, asked)
		}
	}
	if u, found, err := n.ByUID(5000); !found || err != nil || u.Name != "lena" || u.GID != 5001 {
		t.Errorf("%+v %v %v", u, found, err)
	}
	now, down = now.Add(time.Minute), true
	if _, found, err := n.ByName("lena"); err == nil || found {
		t.Errorf("a directory that is down: %v %v", found, err)
	}
	for text, want := range map[string]bool{
		"passwd: files systemd\n": false, "passwd: files [NOTFOUND=return] ldap": true, "# passwd: ldap\ngroup: ldap\npasswd:\tcompat": false, "": false,
	} {
		if moreThanFiles(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
