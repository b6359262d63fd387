package deliver

import (
	"bytes"
	"context"
	"crypto/rand"
	"math"
	"strconv"
	"sync"
	"time"

	"weir/internal/flow"
)

// batcher fills batches with events. A batch that is complete is sealed, and goes into the queue.
type batcher struct {
	size     int
	bytes    int // of a batch that is complete with fewer events
	interval time.Duration
	prefix   string // random, makes batch IDs unique across runs and hosts
	queue    *queue
	sealed   func(flow.EventID)
	wake     chan struct{} // has a token when a batch was begun

	mu       sync.Mutex
	closed   bool
	sequence uint64
	lines    []byte // of the batch being filled
	events   int    // in it
	since    time.Time
	last     flow.EventID
}

func newBatcher(cfg *Config, q *queue) *batcher {
	return &batcher{
		size:     cfg.BatchSize,
		bytes:    batchBytes(cfg),
		interval: cfg.SendInterval,
		prefix:   rand.Text() + "-",
		queue:    q,
		sealed:   cfg.Sealed,
		wake:     make(chan struct{}, 1),
	}
}

// batchBytes bounds a batch, so that half of memory at the most is on the wire or just leaving it, and the rest can make
// room; that the spool has many; and that a server takes it: it is far more than 500 events.
func batchBytes(cfg *Config) int {
	most := min(4<<20, cfg.QueueMaxBytes/int64(2*(cfg.concurrency()+1)))
	if cfg.Spool != nil {
		most = min(most, cfg.Spool.MaxBytes/16)
	}
	return int(max(1, most))
}

// add encodes an event into the batch being filled, and returns how many bytes it takes: 0 if it was dropped.
func (b *batcher) add(e *flow.Event) (size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		b.queue.metrics.dropped[reasonShutdown].Inc()
		return 0
	}
	if b.events == 0 {
		b.since = time.Now()
		signal(b.wake)
	}
	before := len(b.lines)
	b.lines = append(e.AppendJSON(b.lines), '\n')
	b.events++
	b.last = e.ID
	size = len(b.lines) - before
	b.queue.enter(size)
	if b.events == b.size || len(b.lines) >= b.bytes {
		b.seal()
	}
	return size
}

// seal completes the batch being filled.
func (b *batcher) seal() {
	b.sequence++
	id := b.prefix + strconv.FormatUint(b.sequence, 10)
	f := newFlight(&Batch{ID: id, Lines: b.takeLines(), Events: b.events}, time.Now())
	b.events = 0
	b.queue.push(f)
	if b.sealed != nil {
		b.sealed(b.last)
	}
}

// takeLines empties lines, and returns what was in it, in not much more memory than that needs.
func (b *batcher) takeLines() []byte {
	lines := b.lines
	if len(lines) < cap(lines)*15/16 {
		b.lines = lines[:0]
		return bytes.Clone(lines)
	}
	b.lines = make([]byte, 0, len(lines)*65/64) // the next batch is about as long
	return lines
}

// run seals batches that have been filled for long enough, until ctx ends.
func (b *batcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, b.sealDue(), b.wake)
	}
}

// sealDue seals the batch being filled if it is time, and returns how long it is until then.
func (b *batcher) sealDue() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.events == 0 {
		return math.MaxInt64
	}
	if wait := time.Until(b.since.Add(b.interval)); wait > 0 {
		return wait
	}
	b.seal()
	return math.MaxInt64
}

// sealNow seals the batch being filled, if there is one.
func (b *batcher) sealNow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.events > 0 {
		b.seal()
	}
}

// close lets no more events in and seals the last batch.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.sealNow()
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
