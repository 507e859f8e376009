package worker

import (
	"context"
	"os"
)

// Hold locks a file as Append would, makes it if it is missing, and gives it
// free again when release is called: postlock(1) runs a command in between.
// Only Path, Locks, Attempts, Delay and Stale of j count.
func Hold(ctx context.Context, j *Append) (release func(), err error) {
	unlock := func() {}
	if j.Locks&LockDot != 0 {
		if unlock, err = dotLock(ctx, j); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(j.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		unlock()
		return nil, failed(KindSystem, "cannot open file", err)
	}
	if err := kernelLock(ctx, f, j); err != nil {
		f.Close()
		unlock()
		return nil, err
	}
	return func() { f.Close(); unlock() }, nil
}
