package route

import (
	"context"
	"errors"
	"strings"
)

type nameSet []string

func names(n ...string) nameSet { return n }

func (n nameSet) Match(_ context.Context, name string) (bool, error) {
	for _, s := range n {
		if s == "!" {
			return false, errors.New("table is broken")
		}
		if strings.EqualFold(s, name) {
			return true, nil
		}
	}
	return false, nil
}
