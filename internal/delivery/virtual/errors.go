package virtual

import (
	"errors"
	"syscall"

	"posthaste/internal/delivery/worker"
)

func isAccess(err error) bool { return errors.Is(err, syscall.EACCES) }

// kindOf is the kind of a worker's error, KindSystem for any other and nil.
func kindOf(err error) worker.Kind {
	var e *worker.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return worker.KindSystem
}
