package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/internal/spool"
	"weir/internal/testdisk"
)

// newSpooled returns a running Deliverer to a fake Brain, with a spool on a disk in memory.
func newSpooled(t *testing.T, s *fakeSink, change func(*Config)) (*Deliverer, *running, *testdisk.Disk) {
	t.Helper()
	disk := testdisk.New()
	cfg := testConfig()
	cfg.URL = parseURL("http://brain")
	cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 30, Sync: spool.Never, FS: disk}
	if change != nil {
		change(&cfg)
	}
	d, _ := newTest(t, cfg)
	d.sink = s
	return d, run(d), disk
}

// counting lets only the batches through that up allows, and knows how many are on the wire.
type counting struct {
	up      atomic.Bool
	pace    time.Duration
	flying  atomic.Int32
	highest atomic.Int32
}

func (c *counting) answer(context.Context, *Batch) error {
	n := c.flying.Add(1)
	defer c.flying.Add(-1)
	c.highest.Store(max(n, c.highest.Load()))
	time.Sleep(c.pace)
	if !c.up.Load() {
		return serverError()
	}
	return nil
}

// Several batches are sent at a time, but one while none arrives: at the start, and while the Brain is down.
func TestOneProbeWhileFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{pace: 10 * time.Millisecond}
		s := &fakeSink{answer: c.answer}
		d, r, _ := newSpooled(t, s, func(cfg *Config) { cfg.Concurrency = 4 })
		wantHighest := func(want int32) {
			t.Helper()
			if n := c.highest.Swap(0); n != want {
				t.Errorf("%d batches on the wire at a time, want %d", n, want)
			}
		}
		addEvents(d, 0, 1000)
		time.Sleep(time.Minute)
		wantHighest(1)
		c.up.Store(true)
		time.Sleep(maxBackoff)
		wantHighest(4)
		c.up.Store(false)
		addEvents(d, 1000, 2000)
		time.Sleep(time.Second)
		c.highest.Store(0)
		time.Sleep(10 * time.Minute)
		wantHighest(1)
		c.up.Store(true)
		d.Close()
		r.wait(t)
		if slices.Sort(s.got); !slices.Equal(s.got, sequence(0, 2000)) {
			t.Errorf("%d events delivered", len(s.got))
		}
	})
}

// What the Brain fails at, for reasons of their own, does not hold up the rest, and is delivered when it can be.
func TestFailingBatchesHoldUpNoOther(t *testing.T) {
	const batches = 120
	answers := map[string]func() error{
		"server error": serverError,
		"unauthorized": func() error { return &retryableError{err: errors.New("403"), cause: causeUnauthorized} },
	}
	for name, answer := range answers {
		for _, failing := range []int{1, 2, 3, 20} {
			t.Run(fmt.Sprint(name, failing), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mended atomic.Bool
					s := &fakeSink{answer: func(_ context.Context, b *Batch) error {
						if first, _ := readLines(b.Lines); first[0] < 10*failing && !mended.Load() {
							return answer()
						}
						return nil
					}}
					d, r, _ := newSpooled(t, s, func(cfg *Config) { cfg.Concurrency = 2 })
					addEvents(d, 0, 10*batches)
					time.Sleep(20 * time.Minute)
					if got := readBooks(d); got.delivered != 10*(batches-failing) || got.held != 10*failing {
						t.Errorf("books: %+v", got)
					}
					mended.Store(true)
					time.Sleep(time.Minute)
					if got := readBooks(d); got.delivered != 10*batches {
						t.Errorf("books: %+v", got)
					}
					d.Close()
					r.wait(t)
				})
			})
		}
	}
}

// In an outage of hours every batch is tried in its turn. Those that were take no memory that others need, and delay
// nothing afterwards.
func TestMemoryIsBoundedInALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(counting)
		d, r, _ := newSpooled(t, &fakeSink{answer: c.answer}, func(cfg *Config) { cfg.QueueMaxBytes = 100 * eventBytes })
		for i := range 3600 {
			addEvents(d, i, i+1)
			if bytes, _ := d.queue.held(); bytes > 100*eventBytes {
				t.Fatalf("%d bytes in memory, more than %d", bytes, 100*eventBytes)
			}
			time.Sleep(2 * time.Second)
		}
		d.queue.mu.Lock()
		tried := len(d.queue.tried)
		d.queue.mu.Unlock()
		if got := readBooks(d); got.held != 3600 || tried < 100 {
			t.Errorf("books: %+v, %d batches tried", got, tried)
		}
		c.up.Store(true)
		time.Sleep(maxBackoff)
		wantBooks(t, d, books{delivered: 3600, batchDelivered: int(testutil.ToFloat64(d.metrics.batches[outcomeDelivered])), retryServer: readBooks(d).retryServer})
		d.Close()
		r.wait(t)
	})
}

// Events that memory has no room for are on disk only, and nobody waits for the Brain.
func TestMemoryIsBoundedByTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(counting)
		s := &fakeSink{answer: c.answer}
		d, r, _ := newSpooled(t, s, func(cfg *Config) { cfg.QueueMaxBytes = 100 * eventBytes })
		begin := time.Now()
		for i := range 2000 {
			d.Add(testEvent(i))
			if bytes, _ := d.queue.held(); bytes > 100*eventBytes {
				t.Fatalf("%d bytes in memory, more than %d", bytes, 100*eventBytes)
			}
		}
		wantWait(t, "2000 events", begin, 0, 0)
		if got := readBooks(d); got.held != 2000 {
			t.Errorf("books: %+v", got)
		}
		c.up.Store(true)
		time.Sleep(time.Minute)
		wantBooks(t, d, books{delivered: 2000, batchDelivered: 200, retryServer: readBooks(d).retryServer})
		if slices.Sort(s.got); !slices.Equal(s.got, sequence(0, 2000)) {
			t.Errorf("%d events delivered", len(s.got))
		}
		d.Close()
		r.wait(t)
	})
}

// After an outage of a minute the backlog drains five times as fast as events come, and those come through in time.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, outage, after = 200, 60, 45                   // events per second, seconds, seconds
		c := &counting{pace: 2 * 10 * time.Second / (rate * 6.5)} // 6.5 times the rate, by two connections
		s := new(fakeSink)
		d, r, _ := newSpooled(t, s, func(cfg *Config) { cfg.Concurrency, cfg.QueueMaxBytes = 2, 1000*eventBytes })
		var mu sync.Mutex
		var made []time.Time  // by event
		var up, low time.Time // of the first event accepted, and of the last one of the backlog
		var latest time.Duration
		s.answer = func(ctx context.Context, b *Batch) error {
			if err := c.answer(ctx, b); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if up.IsZero() {
				up = time.Now()
			}
			sequences, _ := readLines(b.Lines)
			for _, i := range sequences {
				if made[i].After(up) {
					latest = max(latest, time.Since(made[i]))
				} else {
					low = time.Now()
				}
			}
			return nil
		}
		for i := range rate * (outage + after) {
			c.up.Store(i >= rate*outage)
			mu.Lock()
			made = append(made, time.Now())
			mu.Unlock()
			d.Add(testEvent(i))
			time.Sleep(time.Second / rate)
		}
		d.Close()
		r.wait(t)
		backlog := up.Sub(made[0])
		if took := low.Sub(up); took > backlog/5 {
			t.Errorf("the backlog of %s drained in %s, want a fifth of it", backlog, took)
		}
		if latest == 0 || latest > 5*time.Second {
			t.Errorf("an event came %s late, want 5 s at the most", latest)
		}
		if slices.Sort(s.got); !slices.Equal(s.got, sequence(0, len(made))) {
			t.Errorf("%d events of %d delivered", len(s.got), len(made))
		}
	})
}

// The log says when there will be another try of what failed: not before it may go, and not before others of its kind may.
func TestRetryIn(t *testing.T) {
	for name, failure := range map[string]error{
		"server error": serverError(),
		"unauthorized": &retryableError{err: errors.New("401"), cause: causeUnauthorized},
		"asked for":    &retryableError{err: errors.New("429"), cause: causeThrottled, after: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, logs := newTest(t, remoteConfig())
				var tries []time.Time
				d.sink = &fakeSink{answer: func(context.Context, *Batch) error {
					if tries = append(tries, time.Now()); len(tries) > 1 {
						return nil
					}
					return failure
				}}
				r := run(d)
				addEvents(d, 0, 10)
				time.Sleep(10 * time.Minute)
				warnings := logs.FilterMessage("delivery fails, will be retried").All()
				if len(warnings) != 1 || len(tries) != 2 {
					t.Fatalf("%d warnings and %d tries, want 1 and 2", len(warnings), len(tries))
				}
				if got, want := warnings[0].ContextMap()["retry_in"], tries[1].Sub(tries[0]); got != want {
					t.Errorf("retry_in %v, and it was tried again after %v", got, want)
				}
				d.Close()
				r.wait(t)
			})
		})
	}
}
