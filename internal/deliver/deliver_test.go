package deliver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

func newFake(t *testing.T, cfg Config) (*Deliverer, *fakeSink) {
	t.Helper()
	d, _ := newTest(t, cfg)
	s := new(fakeSink)
	d.sink = s
	return d, s
}

func serverError() error {
	return &retryableError{err: errors.New("the database is locked"), cause: causeServerError}
}

func TestBatchesBySizeAndInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		r := run(d)
		addEvents(d, 0, 25)
		synctest.Wait()
		wantSizes(t, s, "full batches, at once", 10, 10)
		wantBooks(t, d, books{delivered: 20, held: 5, batchDelivered: 2})
		if got, want := testutil.ToFloat64(d.metrics.lastSuccess), float64(time.Now().Unix()); got != want {
			t.Errorf("last success at %v, want %v", got, want)
		}

		time.Sleep(5*time.Second - time.Millisecond)
		synctest.Wait()
		wantSizes(t, s, "before the interval", 10, 10)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		wantSizes(t, s, "after the interval", 10, 10, 5)

		time.Sleep(time.Hour)
		addEvents(d, 25, 26) // the interval runs from the first event of a batch
		time.Sleep(4 * time.Second)
		addEvents(d, 26, 27)
		time.Sleep(time.Second)
		synctest.Wait()
		wantSizes(t, s, "second interval", 10, 10, 5, 2)

		addEvents(d, 27, 30)
		d.Close()
		d.Close()
		r.wait(t)
		wantSizes(t, s, "closed", 10, 10, 5, 2, 3)
		if want := sequence(0, 30); !slices.Equal(s.got, want) {
			t.Errorf("got %v, want %v", s.got, want)
		}
		if ids := slices.Compact(slices.Sorted(slices.Values(s.tried))); len(ids) != 5 {
			t.Errorf("batch IDs %v: want 5 that differ", s.tried)
		}
		if !s.closed {
			t.Error("the sink was not closed")
		}
		d.Add(testEvent(30)) // too late
		wantBooks(t, d, books{delivered: 30, shutdown: 1, batchDelivered: 5})
	})
}

func wantSizes(t *testing.T, s *fakeSink, when string, want ...int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.sizes, want) {
		t.Errorf("%s: batches of %v events, want %v", when, s.sizes, want)
	}
}

func TestRetryBacksOffAndResendsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		const failures = 20
		var at []time.Time
		s.answer = func(context.Context, *Batch) error {
			if at = append(at, time.Now()); len(at) <= failures {
				return serverError()
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 10)
		time.Sleep(failures * maxBackoff)
		synctest.Wait()
		if want := sequence(0, 10); !slices.Equal(s.got, want) {
			t.Errorf("got %v, want %v", s.got, want)
		}
		if len(slices.Compact(s.tried)) != 1 {
			t.Errorf("retries changed the ID: %v", s.tried)
		}
		ceiling := minBackoff
		for i := range failures {
			if wait := at[i+1].Sub(at[i]); wait >= ceiling {
				t.Errorf("wait %d is %s, want less than %s", i, wait, ceiling)
			}
			ceiling = min(2*ceiling, maxBackoff)
		}
		wantBooks(t, d, books{delivered: 10, batchDelivered: 1, retryServer: failures})
		d.Close()
		r.wait(t)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		asked := time.Minute
		var at []time.Time
		s.answer = func(context.Context, *Batch) error {
			if at = append(at, time.Now()); len(at) == 1 {
				return &retryableError{err: errors.New("busy"), after: asked, cause: causeThrottled}
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 10)
		time.Sleep(2 * asked)
		synctest.Wait()
		if wait := at[1].Sub(at[0]); wait < asked || wait >= asked+asked/8 {
			t.Errorf("waited %s, want between %s and an eighth more", wait, asked)
		}
		wantBooks(t, d, books{delivered: 10, batchDelivered: 1, retryThrottled: 1})
		d.Close()
		r.wait(t)
	})
}

// A stop with the Brain just back must not wait for a retry that is due after the grace period.
func TestCloseCutsOneWaitShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		var tries atomic.Int64
		s.answer = func(context.Context, *Batch) error {
			if tries.Add(1) <= 2 {
				return &retryableError{err: errors.New("busy"), after: time.Minute, cause: causeThrottled}
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 12)
		time.Sleep(time.Second)
		d.Close()
		synctest.Wait()
		if n := tries.Load(); n != 2 {
			t.Errorf("%d tries after Close, want the second at once and the third later", n)
		}
		start := time.Now()
		r.wait(t)
		if waited := time.Since(start); waited < time.Minute {
			t.Errorf("the third try came after %s", waited)
		}
		wantBooks(t, d, books{delivered: 12, batchDelivered: 2, retryThrottled: 2})
	})
}

func TestShutdownDropsAndCounts(t *testing.T) {
	tests := []struct {
		name   string
		answer func(context.Context, *Batch) error
	}{
		{"while waiting for a retry", func(context.Context, *Batch) error { return serverError() }},
		{"while sending", func(ctx context.Context, _ *Batch) error {
			<-ctx.Done()
			return &retryableError{err: ctx.Err(), cause: causeConnection}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, s := newFake(t, testConfig())
				s.answer = test.answer
				r := run(d)
				addEvents(d, 0, 35)
				time.Sleep(time.Minute)
				if got := readBooks(d); got.held != 35 {
					t.Errorf("%d events held, want 35", got.held)
				}
				r.stop()
				r.wait(t)
				d.Add(testEvent(35))
				got := readBooks(d)
				if got.shutdown != 36 || got.held != 0 || got.batchDropped != 4 || got.events() != 36 {
					t.Errorf("books: %+v, want 36 dropped at shutdown", got)
				}
			})
		})
	}
}

func TestSinkGoneEndsRun(t *testing.T) {
	gone := errors.New("broken pipe")
	d, s := newFake(t, testConfig())
	s.answer = func(context.Context, *Batch) error { return gone }
	addEvents(d, 0, 15)
	err := d.Run(t.Context())
	if !errors.Is(err, gone) || err.Error() != "deliver to standard output: broken pipe" {
		t.Errorf("Run: %v", err)
	}
	wantBooks(t, d, books{shutdown: 15, batchDropped: 2})
}

func TestOpenFails(t *testing.T) {
	d, s := newFake(t, testConfig())
	s.opened = errors.New("no such file")
	if err := d.Open(); !errors.Is(err, s.opened) || err.Error() != "start delivery: no such file" {
		t.Errorf("Open: %v", err)
	}
}

// A start that fails after Open has the sink closed again.
func TestRunThatIsOverBeforeItBegins(t *testing.T) {
	d, s := newFake(t, testConfig())
	if err := d.Open(); err != nil {
		t.Fatal(err)
	}
	addEvents(d, 0, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err != nil || !s.closed || len(s.tried) > 0 {
		t.Errorf("Run: %v, closed %v, tried %v", err, s.closed, s.tried)
	}
	wantBooks(t, d, books{shutdown: 10, batchDropped: 1})
}

func TestRefusedBatchDoesNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		s.answer = func(_ context.Context, b *Batch) error {
			if strings.Contains(string(b.Lines), `"interface":"0"`) {
				return &refusedError{err: errors.New("no"), reason: reasonRejected}
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 20)
		synctest.Wait()
		wantBooks(t, d, books{delivered: 10, rejected: 10, batchDelivered: 1, batchDropped: 1})
		d.Close()
		r.wait(t)
	})
}

// In single mode neither a refused event nor a retry touches the others of its batch.
func TestSingleSettlesEachEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		s.one = true
		locked := 3
		s.answer = func(_ context.Context, b *Batch) error {
			switch sequences, _ := readLines(b.Lines); {
			case sequences[0] == 4:
				return &refusedError{err: errors.New("no"), reason: reasonRejected}
			case sequences[0] == 6 && locked > 0:
				locked--
				return serverError()
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 10)
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 5, 6, 7, 8, 9}; !slices.Equal(s.got, want) {
			t.Errorf("accepted %v, want %v, each once", s.got, want)
		}
		var keys []string
		for _, id := range s.tried {
			_, part, _ := strings.Cut(id, "-1-") // of the first batch
			keys = append(keys, part)
		}
		if want := "0-1 1-1 2-1 3-1 4-1 5-1 6-1 6-1 6-1 6-1 7-1 8-1 9-1"; strings.Join(keys, " ") != want {
			t.Errorf("tried %v, want %s", keys, want)
		}
		wantBooks(t, d, books{delivered: 9, rejected: 1, batchPartial: 1, retryServer: 3})
		d.Close()
		r.wait(t)
	})
}

// Stopping in the middle of a batch drops what was not acknowledged, and nothing else.
func TestSingleStopsWithinABatch(t *testing.T) {
	d, s := newFake(t, testConfig())
	s.one = true
	ctx, cancel := context.WithCancel(t.Context())
	s.answer = func(context.Context, *Batch) error {
		if len(s.tried) == 4 {
			cancel()
		}
		return nil
	}
	addEvents(d, 0, 10)
	if err := d.Run(ctx); err != nil {
		t.Fatal(err)
	}
	wantBooks(t, d, books{delivered: 4, shutdown: 6, batchPartial: 1})
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Stdout = nil }, "nowhere to deliver to"},
		{func(c *Config) { c.Format = "xml" }, `batch format "xml"`},
		{func(c *Config) { c.Compression = "lz4" }, `compression "lz4"`},
		{func(c *Config) { c.BatchSize = 0 }, "batch size 0"},
		{func(c *Config) { c.QueueMaxBytes = 0 }, "queue bound of 0 bytes"},
		{func(c *Config) { c.SendInterval = 0 }, "send interval 0s"},
		{func(c *Config) { c.RequestTimeout = -1 }, "request timeout -1ns"},
	}
	for _, test := range tests {
		cfg := testConfig()
		test.change(&cfg)
		_, err := New(cfg, zap.NewNop(), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New: %v, want %q", err, test.want)
		}
	}
	reg := prometheus.NewRegistry()
	for i := range 2 {
		if _, err := New(testConfig(), zap.NewNop(), reg); (err != nil) != (i == 1) {
			t.Errorf("New number %d on one registry: %v", i, err)
		}
	}
}

func TestMetricsShowFromTheStart(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	if _, err := New(testConfig(), zap.NewNop(), reg); err != nil {
		t.Fatal(err)
	}
	series, err := testutil.GatherAndCount(reg,
		"weir_delivered_events_total", "weir_dropped_events_total", "weir_batches_total", "weir_delivery_retries_total",
		"weir_delivery_request_duration_seconds", "weir_delivery_queue_bytes", "weir_delivery_queue_events",
		"weir_delivery_last_success_timestamp_seconds", "weir_recovered_events_total", "weir_quarantined_events_total")
	if want := 1 + 7 + 3 + 9 + 1 + 1 + 1 + 1 + 1 + 1; err != nil || series != want {
		t.Errorf("%d series (%v), want %d", series, err, want)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
