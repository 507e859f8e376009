package params

// own are the parameters that Postfix does not have. They stay out of lists of
// all parameters, which are compared with Postfix's; what is set is shown.
var own = []Param{
	{Name: "posthaste_spf_authserv_id", Default: "$myhostname", Min: 1},
	{Name: "posthaste_spf_backup_mx", Kind: Bool, Default: "yes"},
	{Name: "posthaste_spf_check_helo", Kind: Bool, Default: "yes"},
	{Name: "posthaste_spf_exempt_domains"},
	{Name: "posthaste_spf_fail_action", Default: "reject"},
	{Name: "posthaste_spf_header", Default: "received-spf"},
	{Name: "posthaste_spf_permerror_action", Default: "dunno"},
	{Name: "posthaste_spf_reject_code", Kind: Int, Default: "550"},
	{Name: "posthaste_spf_softfail_action", Default: "dunno"},
	{Name: "posthaste_spf_temperror_action", Default: "defer"},
	{Name: "posthaste_spf_timeout", Kind: Time, Default: "20s", Min: 1},
	{Name: "posthaste_spf_trusted_forwarders"},
	{Name: "posthaste_spf_void_limit", Kind: Int, Default: "2"},
}
