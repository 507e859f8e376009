package schedule

import "time"

// Settings are the limits of a transport as main.cf has them (postconf(5),
// NAME_destination_concurrency_limit and so on).
type Settings struct {
	Initial          int           `transport:"initial_destination_concurrency"`
	Concurrency      int           `transport:"destination_concurrency_limit"`
	Recipients       int           `transport:"destination_recipient_limit"`
	Positive         string        `transport:"destination_concurrency_positive_feedback"`
	Negative         string        `transport:"destination_concurrency_negative_feedback"`
	FailedCohorts    float64       `transport:"destination_concurrency_failed_cohort_limit"`
	DestinationDelay time.Duration `transport:"destination_rate_delay"`
	TransportDelay   time.Duration `transport:"transport_rate_delay"`
}

// Limits makes limits of settings, for a service with the given process limit
// (0 for none). On error - feedback that cannot be read - the limits are
// usable, with a feedback of 1.
func (s Settings) Limits(maxProc int) (Limits, error) {
	l := Limits{Initial: s.Initial, Concurrency: s.Concurrency, Recipients: s.Recipients, MaxProc: maxProc,
		FailedCohorts: s.FailedCohorts, DestinationDelay: s.DestinationDelay, TransportDelay: s.TransportDelay}
	var positive, negative error
	l.Positive, positive = ParseFeedback(s.Positive)
	l.Negative, negative = ParseFeedback(s.Negative)
	if positive != nil {
		return l, positive
	}
	return l, negative
}
