// Command posthaste is a mail transfer agent that takes over from Postfix: one
// binary that is postfix, postconf, postmap, sendmail and the others by the
// name it is called by, or by its first word.
package main

import (
	"context"
	"os"

	"posthaste/internal/command"
	"posthaste/internal/delivery/worker"
)

func main() {
	worker.Hook()
	os.Exit(command.Main(context.Background(), os.Args))
}
