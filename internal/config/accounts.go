package config

import "os/user"

// CheckAccounts tells whether mail_owner and setgid_group exist and are not
// the superuser's: what the mail system needs before it starts as root. The
// error is a *ParamError.
func (v *View) CheckAccounts() error {
	bad := func(param, why string) error {
		return v.fail(param, "file %s: parameter %s: %s", v.snapshot.main.Path, param, why)
	}
	owner, err := v.text("mail_owner", false)
	if err != nil {
		return err
	}
	account, err := user.Lookup(owner)
	switch {
	case err != nil:
		return bad("mail_owner", "unknown user name value: "+owner)
	case account.Uid == "0":
		return bad("mail_owner", "user "+owner+" has privileged user ID")
	case account.Gid == "0":
		return bad("mail_owner", "user "+owner+" has privileged group ID")
	}
	name, err := v.text("setgid_group", false)
	if err != nil {
		return err
	}
	group, err := user.LookupGroup(name)
	switch {
	case err != nil:
		return bad("setgid_group", "unknown group name: "+name)
	case group.Gid == "0":
		return bad("setgid_group", "group "+name+" has privileged group ID")
	case group.Gid == account.Gid:
		return bad("setgid_group", "group "+name+" is the same as that of user "+owner)
	}
	return nil
}
