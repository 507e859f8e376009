package mailbox

import "os"

// SystemName is the host name that Maildir file names end with: the system's
// own, whatever myhostname says.
func SystemName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
