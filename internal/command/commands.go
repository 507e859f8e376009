package command

// commands maps the names of the multi-call binary to their functions.
var commands = map[string]Run{
	"newaliases": Newaliases,
	"postalias":  Postalias,
	"postmap":    Postmap,
	"postconf":   Postconf,
}
