package deliver

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// eventBytes is what one event of one digit takes in the queue.
var eventBytes = int64(len(testBatch(1).Lines))

func TestQueueFullDropsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.BatchSize, cfg.QueueMaxBytes = 2, 5*eventBytes
		d, s := newFake(t, cfg)
		hang := make(chan struct{})
		s.answer = func(context.Context, *Batch) error {
			<-hang
			return nil
		}
		r := run(d)
		addEvents(d, 0, 2)
		synctest.Wait() // 0 and 1 are on the wire: they count, but stay
		addEvents(d, 2, 5)
		wantBooks(t, d, books{held: 5})
		addEvents(d, 5, 6)
		wantBooks(t, d, books{held: 4, queueFull: 2, batchDropped: 1})
		addEvents(d, 6, 10)
		wantBooks(t, d, books{held: 4, queueFull: 6, batchDropped: 3})
		d.Close()
		close(hang)
		r.wait(t)
		if want := []int{0, 1, 8, 9}; !slices.Equal(s.got, want) {
			t.Errorf("delivered %v, want %v", s.got, want)
		}
		wantBooks(t, d, books{delivered: 4, queueFull: 6, batchDelivered: 2, batchDropped: 3})
	})
}

// A batch that waits for its retry is the oldest, and the first to go.
func TestQueueFullDropsTheBatchInRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.BatchSize, cfg.QueueMaxBytes = 2, 5*eventBytes
		d, s := newFake(t, cfg)
		s.one = true
		down := true
		s.answer = func(context.Context, *Batch) error {
			if down && len(s.tried) > 1 {
				return serverError()
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 2)
		synctest.Wait() // 0 is delivered, 1 is in retry
		addEvents(d, 2, 7)
		if got := readBooks(d); got.delivered != 1 || got.queueFull != 1 || got.held != 5 || got.batchPartial != 1 {
			t.Errorf("books: %+v", got)
		}
		down = false
		d.Close()
		r.wait(t)
		if want := []int{0, 2, 3, 4, 5, 6}; !slices.Equal(s.got, want) {
			t.Errorf("delivered %v, want %v", s.got, want)
		}
	})
}

// An event that will never have room is not waited for.
func TestQueueSmallerThanAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.QueueMaxBytes = eventBytes - 1
		d, _ := newTest(t, cfg)
		start := time.Now()
		addEvents(d, 0, 3)
		wantWait(t, "3 events", start, 0, 0)
		wantBooks(t, d, books{queueFull: 3, batchDropped: 3})
	})
}

// Many batches of few events must not hold the memory of full ones.
func TestQueueMemoryIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.BatchSize, cfg.QueueMaxBytes = 500, 1<<30
	d, _ := newTest(t, cfg)
	for i := range 2000 {
		d.Add(testEvent(i))
		if d.batcher.events > rand.IntN(500) {
			d.batcher.seal()
		}
	}
	d.Close()
	var memory int
	for _, f := range d.queue.inMemory() {
		memory += cap(f.Lines)
	}
	if held, _ := d.queue.held(); held == 0 || int64(memory) > 2*held {
		t.Errorf("batches of %d bytes are in %d bytes of memory, want at most twice", held, memory)
	}
}

// Add, Run and the metrics work beside each other, the bound holds at every moment, and at the end each event is
// accounted for once.
func TestBooksBalance(t *testing.T) {
	for _, one := range []bool{false, true} {
		cfg := testConfig()
		cfg.QueueMaxBytes = 100 * eventBytes
		d, s := newFake(t, cfg)
		s.one = one
		s.answer = func(context.Context, *Batch) error {
			switch rand.IntN(20) {
			case 0:
				return &refusedError{err: io.ErrNoProgress, reason: dropReason(rand.IntN(len(dropReasonNames)))}
			default:
				return nil
			}
		}
		r := run(d)
		const added = 20_000
		for i := range added {
			d.Add(testEvent(i))
			if bytes, _ := d.queue.held(); bytes > cfg.QueueMaxBytes {
				t.Fatalf("%d bytes held, more than %d", bytes, cfg.QueueMaxBytes)
			}
		}
		d.Close()
		r.wait(t)
		got := readBooks(d)
		if got.events() != added || got.held != 0 || got.delivered != len(s.got) {
			t.Errorf("single %v: books %+v of %d events do not balance, %d were accepted", one, got, added, len(s.got))
		}
		if batches := got.batchDelivered + got.batchPartial + got.batchDropped; batches < added/cfg.BatchSize {
			t.Errorf("single %v: outcomes of %d batches, want at least %d", one, batches, added/cfg.BatchSize)
		}
		slices.Sort(s.got)
		if len(slices.Compact(s.got)) != got.delivered {
			t.Errorf("single %v: events repeated", one)
		}
	}
}

// A reader that comes while batches go to the disk sees them there before, or after, but never less than nothing.
func TestHeldIsNeverNegative(t *testing.T) {
	d, _ := newTest(t, testConfig())
	d.queue.disk = new(disk)
	d.queue.copies.Store(10) // as if they had entered after the events were read
	if _, events := d.queue.held(); events != 0 {
		t.Errorf("%d events held, want 0", events)
	}
}
