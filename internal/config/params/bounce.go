package params

// bounce are the parameters of notifications.
var bounce = []Param{
	{Name: "2bounce_notice_recipient", Default: "postmaster"},
	{Name: "backwards_bounce_logfile_compatibility", Kind: Bool, Default: "yes"},
	{Name: "bounce_notice_recipient", Default: "postmaster"},
	{Name: "bounce_queue_lifetime", Kind: Time, Default: "5d", Max: 8640000, Unit: 'd'},
	{Name: "bounce_service_name", Default: "bounce"},
	{Name: "bounce_size_limit", Kind: Int, Default: "50000"},
	{Name: "bounce_template_file"},
	{Name: "confirm_delay_cleared", Kind: Bool, Default: "no"},
	{Name: "delay_logging_resolution_limit", Kind: Int, Default: "2", Max: 6},
	{Name: "delay_notice_recipient", Default: "postmaster"},
	{Name: "delay_warning_time", Kind: Time, Default: "0h", Unit: 'h'},
	{Name: "disable_verp_bounces", Kind: Bool, Default: "no"},
	{Name: "double_bounce_sender", Default: "double-bounce", Min: 1},
	{Name: "enable_threaded_bounces", Kind: Bool, Default: "no"},
	{Name: "notify_classes", Default: "resource, software"},
	{Name: "soft_bounce", Kind: Bool, Default: "no"},
	{Name: "verp_delimiter_filter", Default: "-=+"},
}
