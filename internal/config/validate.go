package config

import (
	"fmt"

	"posthaste/internal/config/macro"
)

// validate checks what every program needs before it does anything.
func (s *Snapshot) validate() error {
	level, err := s.view.String("compatibility_level")
	if err != nil {
		return err
	}
	if _, err := macro.ParseLevel(level); err != nil {
		return s.view.fail("compatibility_level", "%s", err)
	}
	for _, name := range []string{"myhostname", "mydomain"} {
		if err := s.view.checkHostname(name); err != nil {
			return err
		}
	}
	return nil
}

// Level is the compatibility level.
func (v *View) Level() (macro.Level, error) {
	text, err := v.String("compatibility_level")
	if err != nil {
		return macro.Level{}, err
	}
	return macro.ParseLevel(text)
}

func (v *View) checkHostname(name string) error {
	value, err := v.text(name, false)
	if err != nil {
		return err
	}
	if gripe := hostnameGripe(value); gripe != "" {
		bad := v.fail(name, "file %s: parameter %s: bad parameter value: %s", v.snapshot.main.Path, name, value)
		bad.Warnings = append(bad.Warnings, "valid_hostname: "+gripe)
		return bad
	}
	return nil
}

// hostnameGripe says in Postfix's words why a name cannot be that of a host,
// or "".
func hostnameGripe(name string) string {
	if name == "" {
		return "empty hostname"
	}
	short := name
	if len(short) > 100 {
		short = short[:100]
	}
	label, numeric := 0, true
	for i := 0; i < len(name); i++ {
		c := name[i]
		atEnd := i+1 == len(name)
		switch {
		case c >= '0' && c <= '9', c == '_', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			numeric = numeric && c <= '9'
			if label++; label > 63 {
				return "hostname label too long: " + short
			}
		case c == '.':
			if label == 0 || atEnd {
				return "misplaced delimiter: " + short
			}
			label = 0
		case c == '-':
			numeric = false
			if label++; label == 1 || atEnd || name[i+1] == '.' {
				return "misplaced hyphen: " + short
			}
		default:
			return fmt.Sprintf("invalid character %d(decimal): %s", c, short)
		}
	}
	switch {
	case numeric:
		return "numeric hostname: " + short
	case len(name) > 255:
		return fmt.Sprintf("bad length %d for %s...", len(name), short)
	}
	return ""
}
