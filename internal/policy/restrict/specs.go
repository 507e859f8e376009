package restrict

import "posthaste/internal/mail/addr"

type check = func(e *eval, n *node, s subject) outcome

// specs are the restrictions of postconf(5), by name in lower case.
func specs() map[string]spec {
	m := map[string]spec{
		"warn_if_reject":           {argNone, nil}, // the list itself knows it
		"permit":                   {argNone, (*eval).permitAll},
		"reject":                   {argNone, (*eval).rejectAll},
		"defer":                    {argNone, (*eval).deferAll},
		"defer_if_permit":          {argNone, (*eval).deferIfPermitRequested},
		"defer_if_reject":          {argNone, (*eval).deferIfRejectRequested},
		"sleep":                    {argNumber, (*eval).sleep},
		"reject_unauth_pipelining": {argNone, (*eval).unauthPipelining},
		"reject_plaintext_session": {argNone, (*eval).plaintextSession},
		"check_policy_service":     {argServer, (*eval).policyService},

		"permit_mynetworks":                      {argNone, (*eval).permitMyNetworks},
		"permit_inet_interfaces":                 {argNone, (*eval).permitInterfaces},
		"permit_sasl_authenticated":              {argNone, (*eval).permitLogin},
		"permit_tls_clientcerts":                 {argNone, (*eval).permitCerts},
		"permit_tls_all_clientcerts":             {argNone, (*eval).permitAllCerts},
		"reject_unknown_client_hostname":         {argNone, (*eval).unknownClient},
		"reject_unknown_client":                  {argNone, (*eval).unknownClient},
		"reject_unknown_reverse_client_hostname": {argNone, (*eval).unknownReverse},

		"reject_invalid_helo_hostname":  {argNone, helo((*eval).invalidHostname)},
		"reject_invalid_hostname":       {argNone, helo((*eval).invalidHostname)},
		"reject_non_fqdn_helo_hostname": {argNone, helo((*eval).nonFQDNHostname)},
		"reject_non_fqdn_hostname":      {argNone, helo((*eval).nonFQDNHostname)},
		"reject_unknown_helo_hostname":  {argNone, helo((*eval).unknownHostname)},
		"reject_unknown_hostname":       {argNone, helo((*eval).unknownHostname)},

		"reject_unknown_sender_domain":       {argNone, sender((*eval).unknownAddress)},
		"reject_unknown_address":             {argNone, sender((*eval).unknownAddress)},
		"reject_non_fqdn_sender":             {argNone, sender((*eval).nonFQDNAddress)},
		"reject_unverified_sender":           {argNone, sender((*eval).unverified)},
		"reject_unlisted_sender":             {argNone, sender(func(e *eval, _ addr.Address, _ subject) outcome { return e.unlistedSender() })},
		"reject_known_sender_login_mismatch": {argNone, (*eval).knownLoginMismatch},

		"reject_authenticated_sender_login_mismatch":   {argNone, (*eval).loginMismatch},
		"reject_unauthenticated_sender_login_mismatch": {argNone, (*eval).noLogin},

		"permit_auth_destination":         {argNone, recipient((*eval).permitDestination)},
		"reject_unauth_destination":       {argNone, recipient((*eval).rejectDestination)},
		"defer_unauth_destination":        {argNone, recipient((*eval).deferDestination)},
		"permit_mx_backup":                {argNone, recipient((*eval).permitBackup)},
		"reject_unknown_recipient_domain": {argNone, recipient((*eval).unknownAddress)},
		"reject_non_fqdn_recipient":       {argNone, recipient((*eval).nonFQDNAddress)},
		"reject_unverified_recipient":     {argNone, recipient((*eval).unverified)},
		"reject_unlisted_recipient":       {argNone, recipient(func(e *eval, _ addr.Address, _ subject) outcome { return e.unlistedRecipient() })},
		"check_recipient_maps":            {argNone, recipient(func(e *eval, _ addr.Address, _ subject) outcome { return e.unlistedRecipient() })},
		"reject_multi_recipient_bounce":   {argNone, (*eval).multiRecipientBounce},
	}
	addTableSpecs(m)
	addListSpecs(m)
	for name, instead := range map[string]string{
		"check_relay_domains":     "reject_unauth_destination",
		"permit_naked_ip_address": "permit_mynetworks or permit_sasl_authenticated",
		"reject_maps_rbl":         "reject_rbl_client domain-name",
	} {
		m[name] = spec{argNone, removed(name, instead)}
	}
	return m
}

// removed is a restriction that Postfix 3.9 took away.
func removed(name, instead string) check {
	return func(e *eval, _ *node, _ subject) outcome {
		e.c.setup.Log.Warnf("support for restriction \"%s\" has been removed from Postfix; instead, specify \"%s\"", name, instead)
		return e.configError()
	}
}

func addTableSpecs(m map[string]spec) {
	m["check_client_access"] = spec{argTable, (*eval).clientAccess}
	m["check_reverse_client_hostname_access"] = spec{argTable, (*eval).reverseAccess}
	m["check_helo_access"] = spec{argTable, (*eval).heloAccess}
	m["check_sender_access"] = spec{argTable, (*eval).senderAccess}
	m["check_recipient_access"] = spec{argTable, (*eval).recipientAccess}
	m["check_etrn_access"] = spec{argTable, (*eval).etrnAccess}
	m["check_sasl_access"] = spec{argTable, (*eval).loginAccess}
	m["check_ccert_access"] = spec{argCert, (*eval).certAccess}
	for word, kind := range map[string]serverKind{"a": serverA, "mx": serverMX, "ns": serverNS} {
		m["check_client_"+word+"_access"] = spec{argTable, serverAccess(kind, clientName)}
		m["check_reverse_client_hostname_"+word+"_access"] = spec{argTable, serverAccess(kind, reverseName)}
		m["check_helo_"+word+"_access"] = spec{argTable, serverAccess(kind, heloName)}
		m["check_sender_"+word+"_access"] = spec{argTable, serverAccess(kind, senderDomain)}
		m["check_recipient_"+word+"_access"] = spec{argTable, serverAccess(kind, recipientDomain)}
	}
}

func addListSpecs(m map[string]spec) {
	m["reject_rbl_client"] = spec{argDomain, (*eval).rejectListedAddress}
	m["reject_rbl"] = m["reject_rbl_client"]
	m["permit_dnswl_client"] = spec{argDomain, (*eval).permitListedAddress}
	m["reject_rhsbl_client"] = spec{argDomain, rejectListed(clientName)}
	m["permit_rhswl_client"] = spec{argDomain, (*eval).permitListedName}
	m["reject_rhsbl_reverse_client"] = spec{argDomain, rejectListed(reverseName)}
	m["reject_rhsbl_helo"] = spec{argDomain, rejectListed(heloName)}
	m["reject_rhsbl_sender"] = spec{argDomain, rejectListed(senderDomain)}
	m["reject_rhsbl_recipient"] = spec{argDomain, rejectListed(recipientDomain)}
}

// selector picks the part of the session that a restriction is about. ok is
// false when there is none, and the restriction does not apply.
type selector func(v *View) (text string, s subject, ok bool)

func clientName(v *View) (string, subject, bool) {
	return v.Client.Name, subject{name: v.Client.NameAddr(), class: classClient}, v.Client.Name != "unknown"
}

func reverseName(v *View) (string, subject, bool) {
	return v.Client.ReverseName, subject{name: v.Client.ReverseName, class: classReverse}, v.Client.ReverseName != "unknown"
}

func heloName(v *View) (string, subject, bool) {
	return v.Helo, subject{name: v.Helo, class: classHelo}, v.Helo != ""
}

func senderDomain(v *View) (string, subject, bool) {
	return string(v.Sender), subject{name: string(v.Sender), class: classSender}, v.HasSender && v.Sender != ""
}

func recipientDomain(v *View) (string, subject, bool) {
	return string(v.Recipient), subject{name: string(v.Recipient), class: classRecipient}, v.HasRecipient && v.Recipient != ""
}

// helo makes a check of the HELO name out of a check of any host name.
func helo(check func(e *eval, name string, s subject) outcome) check {
	return func(e *eval, _ *node, _ subject) outcome {
		name, s, ok := heloName(e.v)
		if !ok {
			return dunno
		}
		if name[0] == '[' {
			return e.invalidLiteral(name, s)
		}
		return check(e, name, s)
	}
}

// sender makes a check of the sender; the null sender is not checked.
func sender(check func(e *eval, a addr.Address, s subject) outcome) check {
	return func(e *eval, _ *node, _ subject) outcome {
		_, s, ok := senderDomain(e.v)
		if !ok {
			return dunno
		}
		return check(e, e.v.Sender, s)
	}
}

// recipient makes a check of the recipient.
func recipient(check func(e *eval, a addr.Address, s subject) outcome) check {
	return func(e *eval, _ *node, _ subject) outcome {
		_, s, ok := recipientDomain(e.v)
		if !ok {
			return dunno
		}
		return check(e, e.v.Recipient, s)
	}
}
