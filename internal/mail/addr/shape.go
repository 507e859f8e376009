package addr

// OnlyAddresses reports whether the list has nothing but addresses and angle
// brackets: no comment, phrase, group or separator.
func (l *List) OnlyAddresses() bool {
	for _, n := range l.nodes {
		if n.addr == nil && n.kind != '<' && n.kind != '>' {
			return false
		}
	}
	return true
}
