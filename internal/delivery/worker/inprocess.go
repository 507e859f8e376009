package worker

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// inProcess is the Host without other processes.
type inProcess struct {
	x   *executor
	now func() time.Time
}

// InProcess makes a Host that does everything as the user of this process. An
// ordinary user's mail system delivers as that user, whoever the recipient
// is; root's does not, because it must never deliver with root's rights.
func InProcess() Host { return &inProcess{x: &executor{}, now: time.Now} }

func (h *inProcess) allowed(as Rights) error {
	if as.Chroot != "" {
		return fmt.Errorf("chroot to %s needs the delivery process", as.Chroot)
	}
	if os.Geteuid() == 0 && as.UID != 0 {
		return fmt.Errorf("this process is root: a delivery for uid %d needs the delivery process", as.UID)
	}
	return nil
}

func (h *inProcess) Append(ctx context.Context, as Rights, j Append) (Appended, error) {
	if err := h.allowed(as); err != nil {
		return Appended{}, err
	}
	// Everything belongs to the one user that there is.
	j.Give, j.Owner = false, os.Geteuid()
	return h.x.append(ctx, &j)
}

func (h *inProcess) Maildir(ctx context.Context, as Rights, j Maildir) error {
	if err := h.allowed(as); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.x.maildir(&j, h.now())
}

func (h *inProcess) Run(ctx context.Context, as Rights, j Command) (Finished, error) {
	if err := h.allowed(as); err != nil {
		return Finished{}, err
	}
	return h.x.run(ctx, &j)
}

// facts turn the one user that there is into the one that was asked for.
func (h *inProcess) facts(as Rights, i Info) Info {
	if i.UID == os.Geteuid() {
		i.UID = as.UID
	}
	return i
}

func (h *inProcess) Read(_ context.Context, as Rights, path string, limit int64) (File, error) {
	if err := h.allowed(as); err != nil {
		return File{}, err
	}
	f, err := h.x.read(path, limit)
	f.Info = h.facts(as, f.Info)
	return f, err
}

func (h *inProcess) Stat(_ context.Context, as Rights, path string) (Info, error) {
	if err := h.allowed(as); err != nil {
		return Info{}, err
	}
	i, err := h.x.stat(path)
	return h.facts(as, i), err
}

func (h *inProcess) StatTarget(_ context.Context, as Rights, path string) (Info, error) {
	if err := h.allowed(as); err != nil {
		return Info{}, err
	}
	i, err := h.x.statTarget(path)
	return h.facts(as, i), err
}
