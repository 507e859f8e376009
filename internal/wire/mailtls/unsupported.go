package mailtls

// Unsupported are settings that crypto/tls has no use for, with what happens
// instead: whoever sets one is told.
func Unsupported() map[string]string {
	const (
		curves = "the curves of crypto/tls are used"
		prime  = "there are no ciphers with Diffie-Hellman over prime fields"
		own    = "the configuration of OpenSSL is not read"
	)
	return map[string]string{
		"tls_preempt_cipherlist":          "crypto/tls puts ciphers in order itself",
		"tls_eecdh_auto_curves":           curves,
		"tls_eecdh_strong_curve":          curves,
		"tls_eecdh_ultra_curve":           curves,
		"smtpd_tls_eecdh_grade":           curves,
		"tls_ffdhe_auto_groups":           prime,
		"smtpd_tls_dh1024_param_file":     prime,
		"smtpd_tls_dh512_param_file":      prime,
		"tls_session_ticket_cipher":       "session tickets are encrypted as crypto/tls does",
		"tls_disable_workarounds":         own,
		"tls_config_file":                 own,
		"tls_config_name":                 own,
		"smtpd_tls_enable_rpk":            "there are no raw public keys (RFC 7250)",
		"smtp_tls_enable_rpk":             "there are no raw public keys (RFC 7250)",
		"lmtp_tls_enable_rpk":             "there are no raw public keys (RFC 7250)",
		"smtp_tls_block_early_mail_reply": "replies that come too early end no session",
		"lmtp_tls_block_early_mail_reply": "replies that come too early end no session",
	}
}
