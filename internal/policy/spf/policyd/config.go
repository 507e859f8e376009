package policyd

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"posthaste/internal/sys/maillog"
)

// Config is policyd-spf.conf(5), the configuration of policyd-spf. Values are
// as written; lists have commas and no space.
type Config struct {
	Debug       int
	IsReal      bool   // TestOnly is not 0
	HELO        string // HELO_reject
	MailFrom    string // Mail_From_reject
	PermError   bool   // PermError_reject
	TempError   bool   // TempError_Defer
	HELOPass    string // HELO_pass_restriction
	MailPass    string // Mail_From_pass_restriction
	Prospective string
	Skip        string // skip_addresses
	Whitelist   string
	HELOWhite   string // HELO_Whitelist
	DomainWhite string // Domain_Whitelist
	PTRWhite    string // Domain_Whitelist_PTR
	NoMail      bool   // No_Mail
	RejectNot   string // Reject_Not_Pass_Domains
	PerUser     string // Per_User, "text,FILE"
	Enhanced    bool   // SPF_Enhanced_Status_Codes
	Header      string // Header_Type
	HideRcpt    bool   // Hide_Receiver
	AuthservID  string // Authserv_Id
	Lookup      time.Duration
	WhiteLookup time.Duration // Whitelist_Lookup_Time
	VoidLimit   int
	Reason      string // Reason_Message
	Mock        bool

	deprecated string // the file, when it has defaultSeedOnly
	hasTest    bool   // TestOnly is set
}

// DefaultConfig is the configuration without a file.
func DefaultConfig(host string) Config {
	return Config{
		Debug: 1, IsReal: true, HELO: "Fail", MailFrom: "Fail", Skip: "127.0.0.0/8,::ffff:127.0.0.0/104,::1",
		Enhanced: true, Header: "SPF", AuthservID: host, Lookup: 20 * time.Second, WhiteLookup: 10 * time.Second, VoidLimit: 2,
		Reason: "Message {rejectdefer} due to: {spf}. Please see {url}",
	}
}

// ReadConfig reads a configuration file's text over the defaults. What cannot
// be used is logged and passed over; a number that is none is an error, which
// ends the daemon.
func ReadConfig(text, path, host string, log *maillog.Logger) (Config, error) {
	c := DefaultConfig(host)
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		parts := strings.Split(line, "=")
		if len(parts) != 2 {
			if len(parts) > 2 {
				log.Infof("ERROR parsing line \"%s\" from file \"%s\"", line, path)
			}
			continue
		}
		name, value := strings.TrimSpace(parts[0]), strings.TrimSpace(parts[1])
		known, err := c.set(name, value, host)
		if err != nil {
			return c, err
		}
		if !known {
			log.Infof("ERROR: Unknown name \"%s\" in file \"%s\"", name, path)
		}
		if name == "defaultSeedOnly" {
			c.deprecated = path
		}
	}
	return c, nil
}

// set sets one option. The parameters of its milter are known and ignored.
func (c *Config) set(name, value, host string) (known bool, err error) {
	if p := c.text(name); p != nil {
		*p = value
		if name == "Authserv_Id" && value == "HOSTNAME" {
			*p = host
		}
		return true, nil
	}
	switch name {
	case "PermError_reject":
		c.PermError = value == "True"
	case "TempError_Defer":
		c.TempError = value == "True"
	case "No_Mail":
		c.NoMail = value == "True"
	case "SPF_Enhanced_Status_Codes":
		c.Enhanced = value != "No"
	case "Hide_Receiver":
		c.HideRcpt = value != "No"
	case "Mock":
		c.Mock = value != "" && !strings.EqualFold(value, "False") && !strings.EqualFold(value, "No")
	case "Socket", "PidFile", "UserID", "UMask", "InternalHosts", "IntHosts", "MacroList":
	default:
		return c.number(name, value)
	}
	return true, nil
}

func (c *Config) text(name string) *string {
	return map[string]*string{
		"HELO_reject": &c.HELO, "Mail_From_reject": &c.MailFrom, "HELO_pass_restriction": &c.HELOPass,
		"Mail_From_pass_restriction": &c.MailPass, "Prospective": &c.Prospective, "skip_addresses": &c.Skip,
		"Whitelist": &c.Whitelist, "HELO_Whitelist": &c.HELOWhite, "Domain_Whitelist": &c.DomainWhite,
		"Domain_Whitelist_PTR": &c.PTRWhite, "Reject_Not_Pass_Domains": &c.RejectNot, "Per_User": &c.PerUser,
		"Header_Type": &c.Header, "Authserv_Id": &c.AuthservID, "Reason_Message": &c.Reason,
	}[name]
}

func (c *Config) number(name, value string) (known bool, err error) {
	n, err := strconv.Atoi(value)
	switch name {
	case "debugLevel":
		c.Debug = n
	case "TestOnly":
		c.IsReal, c.hasTest = n != 0, true
	case "defaultSeedOnly":
		if !c.hasTest {
			c.IsReal = n != 0
		}
	case "Lookup_Time":
		c.Lookup = time.Duration(n) * time.Second
	case "Whitelist_Lookup_Time":
		c.WhiteLookup = time.Duration(n) * time.Second
	case "Void_Limit":
		if c.VoidLimit = n; n == 0 {
			c.VoidLimit = -1 // 0 is the default for a Checker
		}
	default:
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("invalid number for %s: '%s'", name, value)
	}
	return true, nil
}

// forUser applies the settings that a per-user file has for a recipient, lines
// "user,Name=value|Name=value". ok is false when it has none.
func (c Config) forUser(text, recipient, host string) (user Config, ok bool) {
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		name, settings, isLine := strings.Cut(strings.TrimSpace(line), ",")
		if !isLine || strings.TrimSpace(name) != recipient {
			continue
		}
		for _, pair := range strings.Split(settings, "|") {
			if name, value, isPair := strings.Cut(pair, "="); isPair {
				_, _ = c.set(strings.TrimSpace(name), strings.TrimSpace(value), host) // the others still hold
			}
		}
		return c, true
	}
	return c, false
}
