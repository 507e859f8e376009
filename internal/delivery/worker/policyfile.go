package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// PolicyFile is how master keeps the delivery process's Policy up to date: a
// file without a name that only the two of them have open.
type PolicyFile struct{ file *os.File }

// maxPolicy bounds the file.
const maxPolicy = 1 << 20

// NewPolicyFile makes a file with p in it.
func NewPolicyFile(p Policy) (*PolicyFile, error) {
	f, err := os.CreateTemp("", "policy")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	file := &PolicyFile{f}
	if err := file.Set(p); err != nil {
		_ = f.Close()
		return nil, err
	}
	return file, nil
}

// File is to be inherited by the delivery process as descriptor fd, with
// Environ(fd) in its environment.
func (f *PolicyFile) File() *os.File { return f.file }

// Environ is the environment variable that tells Main where the policy is.
func (f *PolicyFile) Environ(fd int) string { return policyVariable + "=fd:" + strconv.Itoa(fd) }

// Set replaces the policy; workers that are started from now on obey it.
func (f *PolicyFile) Set(p Policy) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	// A reader who comes in between finds no complete text and refuses.
	if err := f.file.Truncate(0); err != nil {
		return err
	}
	_, err = f.file.WriteAt(text, 0)
	return err
}

// Close closes master's end.
func (f *PolicyFile) Close() error { return f.file.Close() }

// policySource finds out where the policy is.
func policySource(getenv func(string) string) (func() (Policy, error), error) {
	text := getenv(policyVariable)
	if text == "" {
		return nil, fmt.Errorf("%s is not set", policyVariable)
	}
	number, isFile := strings.CutPrefix(text, "fd:")
	if !isFile {
		p, err := parsePolicy([]byte(text))
		return func() (Policy, error) { return p, nil }, err
	}
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%s names no descriptor", policyVariable, text)
	}
	file := os.NewFile(uintptr(fd), "policy")
	source := func() (Policy, error) {
		text, err := io.ReadAll(io.NewSectionReader(file, 0, maxPolicy))
		if err != nil {
			return Policy{}, err
		}
		return parsePolicy(text)
	}
	_, err = source()
	return source, err
}

func parsePolicy(text []byte) (Policy, error) {
	var p Policy
	if err := json.Unmarshal(text, &p); err != nil {
		return p, errors.New("the policy for worker processes is not readable now")
	}
	return p, nil
}
