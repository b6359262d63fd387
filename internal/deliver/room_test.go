package deliver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// newSmall returns a running Deliverer with room for 20 events in batches of 2.
func newSmall(t *testing.T, answer func(context.Context, *Batch) error) (*Deliverer, *running) {
	t.Helper()
	cfg := testConfig()
	cfg.BatchSize, cfg.QueueMaxBytes = 2, 20*eventBytes
	d, s := newFake(t, cfg)
	s.answer = answer
	return d, run(d)
}

// same adds n events that all take eventBytes.
func same(d *Deliverer, n int) {
	for range n {
		d.Add(testEvent(1))
	}
}

func wantWait(t *testing.T, what string, start time.Time, low, high time.Duration) {
	t.Helper()
	if waited := time.Since(start); waited < low || waited > high {
		t.Errorf("%s: waited %s, want %s to %s", what, waited, low, high)
	}
}

// A burst of 10 times what the queue holds gets through a Brain that accepts at its own pace, also when that Brain has
// accepted nothing yet, or had nothing to do for long, or fails now and then.
func TestBurstWaitsForRoom(t *testing.T) {
	tests := map[string]struct {
		pace, idle time.Duration
		faults     int // tries of 10 that fail
	}{
		"at once":      {},
		"slow":         {pace: 4 * time.Second},
		"slow, idle":   {pace: 4 * time.Second, idle: time.Hour},
		"failing some": {pace: 100 * time.Millisecond, faults: 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				d, r := newSmall(t, func(context.Context, *Batch) error {
					time.Sleep(test.pace)
					if tries++; tries > 1 && tries%10 < test.faults {
						return serverError()
					}
					return nil
				})
				added := 200
				if test.idle > 0 {
					same(d, 2)
					time.Sleep(test.idle)
					added += 2
				}
				start := time.Now()
				same(d, 200)
				wantWait(t, "200 events", start, 90*test.pace, time.Hour)
				d.Close()
				r.wait(t)
				got := readBooks(d)
				got.retryServer = 0
				if want := (books{delivered: added, batchDelivered: added / 2}); got != want {
					t.Errorf("books:\n got %+v\nwant %+v", got, want)
				}
			})
		})
	}
}

func TestFailingSinkGetsNoPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newSmall(t, func(context.Context, *Batch) error { return serverError() })
		start := time.Now()
		same(d, 200)
		wantWait(t, "200 events", start, 0, 0)
		if got := readBooks(d); got.queueFull < 180 || got.events() != 200 {
			t.Errorf("books: %+v", got)
		}
		r.stop()
		r.wait(t)
	})
}

// What a delivery that stops accepting costs the collector is one patience, not one for each event.
func TestPatienceEnds(t *testing.T) {
	answers := map[string]func(ctx context.Context) error{
		"stuck":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"failing": func(context.Context) error { return serverError() },
		"refusing": func(context.Context) error {
			time.Sleep(time.Second)
			return &refusedError{err: errors.New("no"), reason: reasonRejected}
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accepting := true
				d, r := newSmall(t, func(ctx context.Context, _ *Batch) error {
					if accepting {
						return nil
					}
					return answer(ctx)
				})
				same(d, 2)
				synctest.Wait()
				accepting = false
				start := time.Now()
				same(d, 200)
				wantWait(t, "200 events", start, patience, patience)
				synctest.Wait() // an answer comes in the same moment
				if got := readBooks(d); got.queueFull < 160 || got.events() != 202 {
					t.Errorf("books: %+v", got)
				}
				r.stop()
				r.wait(t)
			})
		})
	}
}

// A stop must not wait for a caller that waits for room.
func TestStopEndsTheWait(t *testing.T) {
	tests := map[string]func(*Deliverer, *running){
		"Close":           func(d *Deliverer, _ *running) { d.Close() },
		"the context end": func(_ *Deliverer, r *running) { r.stop() },
	}
	for name, stop := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, r := newSmall(t, func(ctx context.Context, _ *Batch) error { <-ctx.Done(); return ctx.Err() })
				start := time.Now()
				time.AfterFunc(time.Second, func() { stop(d, r) })
				same(d, 200)
				wantWait(t, "200 events", start, time.Second, time.Second)
				r.stop()
				r.wait(t)
				if got := readBooks(d); got.events() != 200 || got.held != 0 || got.shutdown < 180 {
					t.Errorf("books: %+v", got)
				}
			})
		})
	}
}

// A batch that may hold more events than the queue has room for must not take all of them with it when it goes.
func TestBatchIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, down := range []bool{true, false} {
			cfg := testConfig()
			cfg.BatchSize, cfg.QueueMaxBytes = 100_000, 100*eventBytes
			d, s := newFake(t, cfg)
			s.answer = func(context.Context, *Batch) error {
				if down {
					return serverError()
				}
				return nil
			}
			r := run(d)
			same(d, 1000)
			got := readBooks(d)
			if down && got.held < 75 || !down && got.queueFull > 0 {
				t.Errorf("down %v: books %+v", down, got)
			}
			r.stop()
			r.wait(t)
		}
	})
}
