package params

// Deprecated tells what to specify instead of a parameter whose support will
// be, or has been, removed.
func Deprecated(name string) (instead string, ok bool) {
	for i := range deprecated {
		if deprecated[i].name == name {
			return deprecated[i].instead, true
		}
	}
	return "", false
}

// deprecated are the names that Postfix 3.11 warns about.
var deprecated = []struct{ name, instead string }{
	{"disable_dns_lookups", "specify \"smtp_dns_support_level\""},
	{"lmtp_use_tls", "specify \"lmtp_tls_security_level\""},
	{"postscreen_use_tls", "specify \"postscreen_tls_security_level\""},
	{"smtp_use_tls", "specify \"smtp_tls_security_level\""},
	{"smtpd_use_tls", "specify \"smtpd_tls_security_level\""},
	{"tlsproxy_client_use_tls", "specify \"tlsproxy_client_security_level\""},
	{"tlsproxy_use_tls", "specify \"tlsproxy_tls_security_level\""},
	{"lmtp_enforce_tls", "\"lmtp_tls_security_level\""},
	{"postscreen_enforce_tls", "specify \"postscreen_tls_security_level\""},
	{"smtp_enforce_tls", "specify \"smtp_tls_security_level\""},
	{"smtpd_enforce_tls", "specify \"smtpd_tls_security_level\""},
	{"tlsproxy_client_enforce_tls", "specify \"tlsproxy_client_security_level\""},
	{"tlsproxy_enforce_tls", "specify \"tlsproxy_tls_security_level\""},
	{"lmtp_tls_per_site", "specify \"lmtp_tls_policy_maps\""},
	{"smtp_tls_per_site", "specify \"smtp_tls_policy_maps\""},
	{"tlsproxy_client_per_site", "specify \"tlsproxy_client_policy_maps\""},
	{"smtpd_tls_dh1024_param_file", "do not specify (leave at default)"},
	{"smtpd_tls_eecdh_grade", "do not specify (leave at default)"},
	{"authorized_verp_clients", "specify \"smtpd_authorized_verp_clients\""},
	{"fallback_relay", "specify \"smtp_fallback_relay\""},
	{"lmtp_per_record_deadline", "specify \"lmtp_per_request_deadline\""},
	{"postscreen_blacklist_action", "specify \"postscreen_denylist_action\""},
	{"postscreen_dnsbl_ttl", "specify \"postscreen_dnsbl_max_ttl\""},
	{"postscreen_dnsbl_whitelist_threshold", "specify \"postscreen_dnsbl_allowlist_threshold\""},
	{"postscreen_whitelist_interfaces", "specify \"postscreen_allowlist_interfaces\""},
	{"smtp_per_record_deadline", "specify \"smtp_per_request_deadline\""},
	{"smtpd_client_connection_limit_exceptions", "specify \"smtpd_client_event_limit_exceptions\""},
	{"smtpd_per_record_deadline", "specify \"smtpd_per_request_deadline\""},
	{"tlsproxy_client_level", "specify \"tlsproxy_client_security_level\""},
	{"tlsproxy_client_policy", "specify \"tlsproxy_client_policy_maps\""},
	{"virtual_maps", "specify \"virtual_alias_maps\""},
	{"lmtp_cname_overrides_servername", "do not specify (leave at default)"},
	{"smtp_cname_overrides_servername", "do not specify (leave at default)"},
	{"lmtp_tls_enforce_peername", "specify \"lmtp_tls_security_level\""},
	{"smtp_tls_enforce_peername", "specify \"smtp_tls_security_level\""},
}

// Legacy are old names that Postfix no longer lists, and that count as known
// because a default refers to them.
func Legacy(name string) bool {
	switch name {
	case "authorized_verp_clients", "fallback_relay", "lmtp_per_record_deadline",
		"postscreen_blacklist_action", "postscreen_dnsbl_ttl", "postscreen_dnsbl_whitelist_threshold",
		"postscreen_whitelist_interfaces", "smtp_per_record_deadline",
		"smtpd_client_connection_limit_exceptions", "smtpd_per_record_deadline",
		"tlsproxy_client_level", "tlsproxy_client_policy", "virtual_maps":
		return true
	}
	return false
}

// ReadOnly are parameters that cannot be set.
func ReadOnly(name string) bool {
	return name == "process_id" || name == "process_name" || name == "service_name"
}

// TableTypes are the table types of Postfix 3.11, as postconf -m lists them
// without nis, which systems no longer have.
var TableTypes = []string{"btree", "cdb", "cidr", "debug", "environ", "fail", "hash", "inline", "internal",
	"ldap", "lmdb", "memcache", "mysql", "pcre", "pgsql", "pipemap", "proxy", "randmap", "regexp",
	"socketmap", "sqlite", "static", "tcp", "texthash", "unionmap", "unix"}

// TableSettings are the settings of a table type whose tables are configured
// by name: in a file, or in main.cf as NAME_setting. It is nil for others.
func TableSettings(tableType string) []string {
	switch tableType {
	case "ldap":
		return []string{"bind", "bind_dn", "bind_pw", "cache", "cache_expiry", "cache_size", "chase_referrals",
			"debuglevel", "dereference", "domain", "expansion_limit", "leaf_result_attribute", "query_filter",
			"recursion_limit", "result_attribute", "result_filter", "result_format", "sasl_authz_id", "sasl_mechs",
			"sasl_minssf", "sasl_realm", "scope", "search_base", "server_host", "server_port", "size_limit",
			"special_result_attribute", "start_tls", "terminal_result_attribute", "timeout", "tls_ca_cert_dir",
			"tls_ca_cert_file", "tls_cert", "tls_cipher_suite", "tls_key", "tls_random_file", "tls_require_cert", "version"}
	case "mysql":
		return []string{"additional_conditions", "charset", "dbname", "domain", "expansion_limit", "hosts",
			"idle_interval", "option_file", "option_group", "password", "query", "require_result_set", "result_format",
			"retry_interval", "select_field", "table", "tls_CAfile", "tls_CApath", "tls_cert_file", "tls_ciphers",
			"tls_key_file", "tls_verify_cert", "user", "where_field"}
	case "pgsql":
		return []string{"additional_conditions", "dbname", "domain", "encoding", "expansion_limit", "hosts",
			"idle_interval", "password", "query", "result_format", "retry_interval", "select_field",
			"select_function", "table", "user", "where_field"}
	case "sqlite":
		return []string{"additional_conditions", "dbpath", "domain", "expansion_limit", "query", "result_format",
			"select_field", "table", "where_field"}
	case "memcache":
		return []string{"backup", "data_size_limit", "domain", "flags", "key_format", "line_size_limit", "max_try",
			"memcache", "retry_pause", "timeout", "ttl"}
	}
	return nil
}
