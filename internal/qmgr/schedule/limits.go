package schedule

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limits are the settings of a transport (postconf(5), default_*).
type Limits struct {
	Initial          int // initial_destination_concurrency
	Concurrency      int // destination_concurrency_limit, 0 for none
	Recipients       int // destination_recipient_limit, 0 for none
	MaxProc          int // process limit of the service, 0 for none
	Positive         Feedback
	Negative         Feedback
	FailedCohorts    float64       // destination_concurrency_failed_cohort_limit, 0 for never
	DestinationDelay time.Duration // destination_rate_delay
	TransportDelay   time.Duration // transport_rate_delay
}

func (l *Limits) concurrency() int {
	if l.DestinationDelay > 0 {
		return 1
	}
	return l.Concurrency
}

func (l *Limits) initial() int {
	n := max(l.Initial, 1)
	if c := l.concurrency(); c > 0 && n > c {
		n = c
	}
	return n
}

// Feedback is how strongly one delivery moves the window: a number, or a
// number divided by the window or its square root. The zero value is 1.
type Feedback struct {
	factor float64
	by     divisor
	set    bool
}

type divisor uint8

const (
	byNothing divisor = iota
	byConcurrency
	bySqrt
)

// ParseFeedback reads "number", "number / concurrency", "number /
// sqrt_concurrency" (postconf(5) default_destination_concurrency_positive_feedback);
// the number is from 0 to 1.
func ParseFeedback(text string) (Feedback, error) {
	number, by, divided := strings.Cut(text, "/")
	f := Feedback{set: true}
	if divided {
		switch strings.TrimSpace(by) {
		case "concurrency":
			f.by = byConcurrency
		case "sqrt_concurrency":
			f.by = bySqrt
		default:
			return Feedback{}, fmt.Errorf("schedule: concurrency feedback %q: want concurrency or sqrt_concurrency after /", text)
		}
	}
	var err error
	f.factor, err = strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(f.factor) || f.factor < 0 || f.factor > 1 {
		return Feedback{}, fmt.Errorf("schedule: concurrency feedback %q: want a number from 0 to 1", text)
	}
	return f, nil
}

func (f Feedback) value(window float64) float64 {
	if !f.set {
		return 1
	}
	switch f.by {
	case byConcurrency:
		return f.factor / window
	case bySqrt:
		return f.factor / math.Sqrt(window)
	}
	return f.factor
}

// NextAttempt is when a deferred message is tried again: its age from now,
// but at least min and at most max (postconf(5) minimal_backoff_time,
// maximal_backoff_time).
func NextAttempt(now, arrival time.Time, min, max time.Duration) time.Time {
	age := now.Sub(arrival)
	if age > max {
		age = max
	}
	if age < min {
		age = min
	}
	return now.Add(age)
}
