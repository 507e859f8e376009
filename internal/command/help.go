package command

import (
	"embed"
	"fmt"
	"io/fs"
)

// helpFlag asks for a help text when it is the first argument, and nothing
// else does: "-h" and the like are options of Postfix's commands.
const helpFlag = "--help"

// helpTexts are what --help shows, help/COMMAND.txt.
//
//go:embed help/*.txt
var helpTexts embed.FS

// help shows the help text of a command and returns the exit status.
func help(env *Env, name string) int {
	text, err := fs.ReadFile(helpTexts, "help/"+name+".txt")
	if err != nil {
		return usage(env, name)
	}
	fmt.Fprintf(env.Stdout, "%s", text)
	return 0
}
