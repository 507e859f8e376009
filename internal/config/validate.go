package config

import (
	"posthaste/internal/config/macro"
	"posthaste/internal/mail/addr"
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
	if gripe := addr.HostnameGripe(value); gripe != "" {
		bad := v.fail(name, "file %s: parameter %s: bad parameter value: %s", v.snapshot.main.Path, name, value)
		bad.Warnings = append(bad.Warnings, "valid_hostname: "+gripe)
		return bad
	}
	return nil
}
