package params

// milter are the parameters of the milter protocol.
var milter = []Param{
	{Name: "milter_command_timeout", Kind: Time, Default: "30s", Min: 1},
	{Name: "milter_connect_macros", Default: "j {daemon_name} {daemon_addr} v _"},
	{Name: "milter_connect_timeout", Kind: Time, Default: "30s", Min: 1},
	{Name: "milter_content_timeout", Kind: Time, Default: "300s", Min: 1},
	{Name: "milter_data_macros", Default: "i"},
	{Name: "milter_default_action", Default: "shutdown"},
	{Name: "milter_end_of_data_macros", Default: "i"},
	{Name: "milter_end_of_header_macros", Default: "i"},
	{Name: "milter_header_checks"},
	{Name: "milter_helo_macros", Default: "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}"},
	{Name: "milter_macro_daemon_name", Default: "$myhostname"},
	{Name: "milter_macro_defaults"},
	{Name: "milter_macro_v", Default: "$mail_name $mail_version"},
	{Name: "milter_mail_macros", Default: "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}"},
	{Name: "milter_protocol", Kind: Int, Default: "6"},
	{Name: "milter_rcpt_macros", Default: "i {rcpt_addr} {rcpt_host} {rcpt_mailer}"},
	{Name: "milter_unknown_command_macros"},
	{Name: "non_smtpd_milters"},
	{Name: "smtpd_milter_maps"},
	{Name: "smtpd_milters"},
}
