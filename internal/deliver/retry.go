package deliver

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryableError says that what was sent may be sent again.
type retryableError struct {
	after time.Duration // not before, as the other side asked; 0 if it did not
	err   error
	cause retryCause
}

func (e *retryableError) Error() string { return e.err.Error() }
func (e *retryableError) Unwrap() error { return e.err }

// refusedError says that what was sent will never be accepted.
type refusedError struct {
	err    error
	reason dropReason
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// partialError says that the first lines of what was sent were accepted, and why no more were.
type partialError struct {
	accepted []byte // whole lines, at least one
	err      error
}

func (e *partialError) Error() string { return e.err.Error() }
func (e *partialError) Unwrap() error { return e.err }

// errArrayRefused says that the sink takes single events from now on.
var errArrayRefused = errors.New("the Brain does not take arrays")

const (
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = 10 * time.Second // a thousand senders try 200 times a second, no more than they send otherwise
	maxRetryAfter = 5 * time.Minute

	repairWait = 15 * time.Second // for somebody to put a new token in its file, or the Brain back at its address
)

// rest is how long a cause is likely to last.
func (c retryCause) rest() time.Duration {
	switch c {
	case causeUnauthorized, causeRedirect, causeStatus:
		return repairWait
	default:
		return 0
	}
}

// backoff spaces the tries of a sink that fails: exponential with full jitter, a random time between none and a ceiling
// that doubles, so that many senders do not come back in step
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
type backoff struct {
	tries int
}

// next returns how long to wait before another try, and not less than after.
func (b *backoff) next(after time.Duration) time.Duration {
	ceiling := maxBackoff
	if b.tries < 10 {
		ceiling = min(minBackoff<<b.tries, maxBackoff)
		b.tries++
	}
	// Senders that were all told the same time are spread over an eighth of it.
	return after + rand.N(max(ceiling, after/8))
}

// parseRetryAfter reads a Retry-After header (RFC 9110 section 10.2.3), seconds or a date, as a time from now, at most
// maxRetryAfter. What is neither, or lies in the past, is 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.Trim(value, " \t")
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil { // out of range
			return maxRetryAfter
		}
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(date.Sub(now), maxRetryAfter))
}
