package deliver

import (
	"bytes"
	"crypto/rand"
	"math"
	"strconv"
	"sync"
	"time"

	"weir/internal/flow"
)

// queue holds every event between Add and its fate: in the batch being filled, in batches that wait, and in the one
// that is current. It keeps the books: whatever enters leaves as delivered or as dropped for a reason.
type queue struct {
	batchSize int
	interval  time.Duration
	maxBytes  int64
	metrics   *metrics
	prefix    string        // random, makes batch IDs unique across runs and hosts
	wake      chan struct{} // has a token when next may have a new answer
	closing   chan struct{} // closed by close

	mu       sync.Mutex
	sequence uint64
	filling  []byte // lines of the batch being filled
	filled   int    // events in it
	since    time.Time
	waiting  []*flight // oldest first
	current  *flight   // older than any that waits
	onWire   bool      // the current one is being sent: its bytes must stay
	bytes    int64     // held in all
	events   int       // held in all
	closed   bool

	room     *sync.Cond // broadcast when add may have to wait no longer; with mu
	accepted time.Time  // the last acceptance
	presumed time.Time  // the first event after the queue was empty; zero once a try has failed since
}

// patience is how long add trusts in a delivery that accepts nothing.
const patience = 5 * time.Second

func newQueue(cfg *Config) *queue {
	q := &queue{
		batchSize: cfg.BatchSize,
		interval:  cfg.SendInterval,
		maxBytes:  cfg.QueueMaxBytes,
		prefix:    rand.Text() + "-",
		wake:      make(chan struct{}, 1),
		closing:   make(chan struct{}),
	}
	q.room = sync.NewCond(&q.mu)
	return q
}

// add encodes an event into the batch being filled. If the queue is full it waits for room, with the event in it
// already, or makes some: it returns how many events it dropped for that.
func (q *queue) add(e *flow.Event) (evicted int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.metrics.dropped[reasonShutdown].Inc()
		return 0
	}
	if q.filled == 0 {
		q.since = time.Now()
		if q.events == 0 {
			q.presumed = q.since
		}
		q.signal() // a timer is to be set
	}
	before := len(q.filling)
	q.filling = append(e.AppendJSON(q.filling), '\n')
	q.filled++
	size := int64(len(q.filling) - before)
	q.bytes += size
	q.events++
	if q.filled == q.batchSize || int64(len(q.filling)) >= q.maxBytes/4 { // the oldest, which may go, is a part of all
		q.seal()
	}
	if size <= q.maxBytes {
		q.awaitRoom()
	}
	if q.closed { // meanwhile: what is held may still be delivered
		return 0
	}
	return q.evict()
}

// awaitRoom waits while the queue is full and delivery can be trusted: it accepted something within patience, or it was
// idle until then and has not failed.
func (q *queue) awaitRoom() {
	for q.bytes > q.maxBytes && !q.closed {
		trusted := q.accepted
		if q.presumed.After(trusted) {
			trusted = q.presumed
		}
		wait := time.Until(trusted.Add(patience))
		if wait <= 0 {
			return
		}
		timer := time.AfterFunc(wait, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.room.Broadcast()
		})
		q.room.Wait()
		timer.Stop()
	}
}

// seal lets the batch being filled wait, in as much memory as it needs.
func (q *queue) seal() {
	lines := bytes.Clone(q.filling)
	q.filling = q.filling[:0]
	q.sequence++
	id := q.prefix + strconv.FormatUint(q.sequence, 10)
	q.waiting = append(q.waiting, newFlight(&Batch{ID: id, Lines: lines, Events: q.filled}))
	q.filled = 0
	q.signal()
}

// evict drops the oldest batches until the bound is kept, or until there is only the one on the wire: that stays, as it
// may be delivered already.
func (q *queue) evict() (events int) {
	for q.bytes > q.maxBytes {
		var victim *flight
		switch {
		case q.current != nil && !q.onWire:
			victim = q.current
		case len(q.waiting) > 0:
			victim = q.pop()
		case q.filled > 0:
			q.seal()
			victim = q.pop()
		default:
			return events
		}
		events += victim.left
		q.forfeit(victim, reasonQueueFull)
	}
	return events
}

func (q *queue) pop() *flight {
	f := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return f
}

// next puts the oldest batch on the wire, until release. Without one it returns nil and how long to wait at most for
// wake, or that there will never be one.
func (q *queue) next() (f *flight, wait time.Duration, drained bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.current == nil && len(q.waiting) == 0 && q.filled > 0 {
		if wait := time.Until(q.since.Add(q.interval)); wait > 0 {
			return nil, wait, false
		}
		q.seal()
	}
	if q.current == nil {
		if len(q.waiting) == 0 {
			return nil, math.MaxInt64, q.closed
		}
		q.current = q.pop()
	}
	q.onWire = true
	return q.current, 0, false
}

// release takes the current batch off the wire: its try is over.
func (q *queue) release(failed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.onWire = false
	if failed {
		q.presumed = time.Time{}
		q.room.Broadcast()
	}
}

// accept books a unit of f, which is current, as delivered.
func (q *queue) accept(f *flight, u *Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f.delivered += u.Events
	q.accepted = time.Now()
	q.metrics.delivered.Add(float64(u.Events))
	q.metrics.lastSuccess.SetToCurrentTime()
	q.settle(f, u)
}

// drop books a unit of f, which is current, as dropped.
func (q *queue) drop(f *flight, u *Batch, reason dropReason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.metrics.dropped[reason].Add(float64(u.Events))
	q.settle(f, u)
}

// forfeit drops what is left of f, wherever it was.
func (q *queue) forfeit(f *flight, reason dropReason) {
	q.metrics.dropped[reason].Add(float64(f.left))
	q.settle(f, &Batch{Lines: f.rest, Events: f.left})
}

func (q *queue) settle(f *flight, u *Batch) {
	q.bytes -= int64(len(u.Lines))
	q.events -= u.Events
	f.settle(u)
	q.room.Broadcast()
	if f.left > 0 {
		return
	}
	q.metrics.batches[f.outcome()].Inc()
	if f == q.current {
		q.current = nil
	}
}

// close lets nothing more in, and what there is out at once.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	if q.filled > 0 {
		q.seal()
	}
	q.signal()
	q.room.Broadcast()
	close(q.closing)
}

// abandon closes the queue and drops everything in it.
func (q *queue) abandon() (events int) {
	q.close()
	q.mu.Lock()
	defer q.mu.Unlock()
	events = q.events
	if q.current != nil {
		q.forfeit(q.current, reasonShutdown)
	}
	for len(q.waiting) > 0 {
		q.forfeit(q.pop(), reasonShutdown)
	}
	return events
}

// held returns what is in the queue.
func (q *queue) held() (bytes int64, events int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.events
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
