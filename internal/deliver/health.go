package deliver

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	logInterval  = time.Minute      // between two log entries on the same trouble
	unreadyAfter = 10 * time.Second // of failing; a Brain whose database is locked for a moment is no news
	maxErrorText = 512              // bytes
)

// health knows whether delivery works, says so when that changes, and keeps quiet otherwise.
type health struct {
	log    *zap.Logger
	target string
	held   func() (bytes int64, events int)

	mu        sync.Mutex
	since     time.Time // of the first failure after the last success; zero while all is well
	cause     string    // of the latest failure
	announced bool      // this failing was logged, so its end will be
	failures  throttle
	refusals  throttle
	evictions throttle
}

// failed notes a try that will be repeated after wait.
func (h *health) failed(err error, wait time.Duration) {
	h.trouble(&h.failures, 1, err, "delivery fails, will be retried", zap.Duration("retry_in", wait))
}

// refused notes events that were given up.
func (h *health) refused(err error, events int) {
	h.trouble(&h.refusals, events, err, "events refused, given up")
}

func (h *health) trouble(t *throttle, weight int, err error, message string, fields ...zap.Field) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.since.IsZero() {
		h.since = now
	}
	h.cause = printable(err.Error())
	count, ok := t.allow(now, weight)
	if !ok {
		return
	}
	h.announced = true
	_, queued := h.held()
	h.log.Warn(message, append(fields, zap.String("error", h.cause), zap.Int("since_last_report", count),
		zap.Duration("failing_for", now.Sub(h.since)), zap.Int("queued_events", queued))...)
}

// accepted notes a success.
func (h *health) accepted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.announced {
		_, queued := h.held()
		h.log.Info("delivery works again", zap.Duration("failed_for", time.Since(h.since)), zap.Int("queued_events", queued))
	}
	h.since, h.announced = time.Time{}, false
}

// evicted notes events dropped for want of room.
func (h *health) evicted(events int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if count, ok := h.evictions.allow(time.Now(), events); ok {
		h.log.Warn("delivery queue full, oldest events dropped", zap.Int("events_since_last_report", count))
	}
}

func (h *health) status() (ok bool, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return true, "delivering"
	}
	failing := time.Since(h.since)
	reason = fmt.Sprintf("%s has not accepted anything for %s: %s", h.target, failing.Round(time.Second), h.cause)
	return failing < unreadyAfter, reason
}

// throttle lets one log entry through per logInterval and counts for those it holds back.
type throttle struct {
	last  time.Time
	count int
}

func (t *throttle) allow(now time.Time, weight int) (count int, ok bool) {
	t.count += weight
	if !t.last.IsZero() && now.Sub(t.last) < logInterval {
		return 0, false
	}
	count, t.count, t.last = t.count, 0, now
	return count, true
}

// printable makes a text that may hold what a stranger sent fit for a log line or a terminal.
func printable(text string) string {
	text = text[:min(len(text), maxErrorText)]
	if strings.ContainsFunc(text, func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
