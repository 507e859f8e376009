package master

import (
	"posthaste/internal/config"
	"posthaste/internal/policy/greylist/checkgreylist"
	"posthaste/internal/policy/restrict"
	"posthaste/internal/policy/spf/checkspf"
	"posthaste/internal/sys/maillog"
)

// policies are the policies of this process that restriction lists may name.
func (g *generation) policies(view *config.View, log *maillog.Logger) (map[string]restrict.Policy, error) {
	var c checkspf.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	gate, err := checkspf.New(c, checkspf.Setup{DNS: g.system.dns, Tables: g.tables.With(log), Log: log, Results: g.system.spf})
	if err != nil {
		return nil, err
	}
	g.keep(gate)
	grey, err := g.greylist(view, gate)
	if err != nil {
		return nil, err
	}
	return map[string]restrict.Policy{checkspf.Name: gate.Policy, checkgreylist.Name: grey}, nil
}

// greylist is the policy of check_greylist; its database is the system's.
func (g *generation) greylist(view *config.View, gate *checkspf.Gate) (restrict.Policy, error) {
	var c checkgreylist.Config
	if err := view.Fill(&c); err != nil {
		return nil, err
	}
	return checkgreylist.New(c, checkgreylist.Setup{Keeper: g.system.greylist, Log: g.system.logger(view, "postgrey"), DNS: g.system.dns, SPF: gate.Answer})
}
