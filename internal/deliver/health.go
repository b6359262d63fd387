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
	staleAfter   = time.Minute      // of no more sends, a refusal is no news either
	maxErrorText = 512              // bytes
)

// health knows whether delivery works, says so when that changes, and keeps quiet otherwise.
type health struct {
	log    *zap.Logger
	target string
	held   func() (bytes int64, events int)

	mu        sync.Mutex // not held while logging: the log may block
	since     time.Time  // the beginning of the first send after the last success; zero if there was none
	cause     string     // why the latest send since then failed; empty while the first one goes on
	refusal   time.Time  // of the last answer that was a refusal; zero if a send has failed otherwise since
	announced bool       // this failing was logged, so its end will be
	failures  throttle
	refusals  throttle
	evictions throttle
}

// sending notes that a send begins.
func (h *health) sending() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.since.IsZero() || h.stale(now) {
		h.since, h.cause, h.refusal = now, "", time.Time{}
	}
}

// stale says that the last that was heard is a refusal, long ago. Nothing is waiting for another answer.
func (h *health) stale(now time.Time) bool {
	return !h.refusal.IsZero() && now.Sub(h.refusal) >= staleAfter
}

// failed notes a send that will be repeated after wait.
func (h *health) failed(err error, wait time.Duration) {
	if fields := h.trouble(&h.failures, 1, err, time.Time{}); fields != nil {
		h.log.Warn("delivery fails, will be retried", append(fields, zap.Duration("retry_in", wait))...)
	}
}

// refused notes events that were given up.
func (h *health) refused(err error, events int) {
	if fields := h.trouble(&h.refusals, events, err, time.Now()); fields != nil {
		h.log.Warn("events refused, given up", fields...)
	}
}

// trouble returns what to log, or nil if nothing is.
func (h *health) trouble(t *throttle, weight int, err error, refusal time.Time) []zap.Field {
	_, queued := h.held()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause, h.refusal = printable(err.Error()), refusal
	now := time.Now()
	count, ok := t.allow(now, weight)
	if !ok {
		return nil
	}
	h.announced = true
	return []zap.Field{
		zap.String("error", h.cause), zap.Int("since_last_report", count),
		zap.Duration("failing_for", now.Sub(h.since)), zap.Int("queued_events", queued),
	}
}

// accepted notes a success.
func (h *health) accepted() {
	if failed, announced := h.recovered(); announced {
		_, queued := h.held()
		h.log.Info("delivery works again", zap.Duration("failed_for", failed), zap.Int("queued_events", queued))
	}
}

// recovered returns how long there was no success, and whether that was logged.
func (h *health) recovered() (failed time.Duration, announced bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	failed, announced = time.Since(h.since), h.announced
	h.since, h.cause, h.refusal, h.announced = time.Time{}, "", time.Time{}, false
	return failed, announced
}

// evicted notes events dropped for want of room.
func (h *health) evicted(events int) {
	h.mu.Lock()
	count, ok := h.evictions.allow(time.Now(), events)
	h.mu.Unlock()
	if ok {
		h.log.Warn("delivery queue full, oldest events dropped", zap.Int("events_since_last_report", count))
	}
}

// abandoned notes events dropped at the end, of which fatal is the cause, if not a stop.
func (h *health) abandoned(events int, fatal error) {
	h.mu.Lock()
	cause := "there was no more time to send them"
	switch {
	case fatal != nil:
		cause = printable(fatal.Error())
	case !h.since.IsZero():
		cause = h.complaint(time.Since(h.since))
	}
	h.mu.Unlock()
	h.log.Warn("stopped with events undelivered, dropped", zap.Int("events", events), zap.String("cause", cause))
}

func (h *health) status() (ok bool, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	failing := now.Sub(h.since)
	ok = h.since.IsZero() || h.stale(now) || failing < unreadyAfter
	if h.since.IsZero() || h.stale(now) || ok && h.cause == "" {
		return true, "delivering"
	}
	return ok, h.complaint(failing)
}

// complaint says what is wrong with a delivery that has been failing for a time.
func (h *health) complaint(failing time.Duration) string {
	failing = failing.Round(time.Second)
	if h.cause == "" {
		return fmt.Sprintf("%s has not answered for %s", h.target, failing)
	}
	return fmt.Sprintf("%s has not accepted anything for %s: %s", h.target, failing, h.cause)
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
