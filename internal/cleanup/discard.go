package cleanup

// Discard ends the message as if it had been queued, by a rule of its entrance
// (the DISCARD action of access(5)). It does nothing after Commit.
func (m *Submission) Discard() { m.remove("discarded") }
