package deliver

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestPrintable(t *testing.T) {
	tests := map[string]string{
		"":                             "",
		"dial tcp: connection refused": "dial tcp: connection refused",
		"größe":                        "größe",
		"a\nb":                         `"a\nb"`,
		"\x1b[2J":                      `"\x1b[2J"`,
		"\xff":                         `"\xff"`,
		"a\u202eb":                     `"a\u202eb"`, // turns the writing direction
		strings.Repeat("x", 513):       strings.Repeat("x", 512),
		strings.Repeat("x", 511) + "é": `"` + strings.Repeat("x", 511) + `\xc3"`,
	}
	for text, want := range tests {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %s, want %s", text, got, want)
		}
	}
}

// A send without an answer is no news for a while, and then is.
func TestStatusOfAHangingSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		s.answer = func(ctx context.Context, _ *Batch) error {
			select {
			case <-time.After(30 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r := run(d)
		time.Sleep(time.Hour)
		wantStatus(t, d, true, "delivering")
		addEvents(d, 0, 10)
		time.Sleep(9 * time.Second)
		wantStatus(t, d, true, "delivering")
		time.Sleep(time.Second)
		wantStatus(t, d, false, "standard output has not answered for 10s")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		wantStatus(t, d, true, "delivering")
		d.Close()
		r.wait(t)
	})
}

// A Brain that refuses is not ready, and an agent that has nothing more for it is.
func TestStatusAfterRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := newFake(t, testConfig())
		s.answer = func(context.Context, *Batch) error {
			return &refusedError{err: errors.New("404"), reason: reasonRejected}
		}
		r := run(d)
		for range 4 {
			addEvents(d, 0, 10)
			time.Sleep(20 * time.Second)
		}
		wantStatus(t, d, false, "standard output has not accepted anything for 1m20s: 404")
		time.Sleep(staleAfter - 20*time.Second - time.Millisecond)
		wantStatus(t, d, false, "standard output has not accepted anything for 2m0s: 404")
		time.Sleep(time.Millisecond)
		wantStatus(t, d, true, "delivering")
		time.Sleep(time.Hour)
		addEvents(d, 0, 10)
		synctest.Wait()
		wantStatus(t, d, true, "standard output has not accepted anything for 0s: 404")
		d.Close()
		r.wait(t)
	})
}

// blockingLog never ends a Write until it is told to.
type blockingLog struct {
	zapcore.Core
	entered, release chan struct{}
}

func (l blockingLog) Enabled(zapcore.Level) bool { return true }

func (l blockingLog) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return c.AddCore(e, l)
}

func (l blockingLog) Write(zapcore.Entry, []zapcore.Field) error {
	l.entered <- struct{}{}
	<-l.release
	return nil
}

func TestBlockedLogBlocksNoOther(t *testing.T) {
	log := blockingLog{zapcore.NewNopCore(), make(chan struct{}), make(chan struct{})}
	held := func() (int64, int) { return 0, 0 }
	h := &health{log: zap.New(log), held: held}
	h.sending()
	var logging, asking sync.WaitGroup
	for _, report := range []func(){
		func() { h.failed(errors.New("no"), 0) },
		func() { h.evicted(1) },
		h.accepted,
		func() { h.refused(errors.New("no"), 1) },
	} {
		logging.Go(report)
		<-log.entered
		asking.Go(func() { h.status() })
		answered := make(chan struct{})
		go func() { asking.Wait(); close(answered) }()
		select {
		case <-answered:
		case <-time.After(10 * time.Second):
			t.Error("Status waits for the log")
		}
	}
	close(log.release)
	logging.Wait()
	asking.Wait()
}

func TestStatusAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, logs := newTest(t, testConfig())
		s := new(fakeSink)
		d.sink = s
		var up atomic.Bool
		s.answer = func(context.Context, *Batch) error {
			if !up.Load() {
				return &retryableError{err: errors.New("connection refused\x1b[2J\n"), cause: causeConnection}
			}
			return nil
		}
		wantStatus(t, d, true, "delivering")
		r := run(d)
		addEvents(d, 0, 10)
		synctest.Wait()
		wantStatus(t, d, true, `standard output has not accepted anything for 0s: "connection refused\x1b[2J\n"`)
		time.Sleep(35 * time.Second)
		wantStatus(t, d, false, `standard output has not accepted anything for 35s: "connection refused\x1b[2J\n"`)
		time.Sleep(10*time.Minute - 35*time.Second)

		up.Store(true)
		time.Sleep(maxBackoff)
		synctest.Wait()
		wantStatus(t, d, true, "delivering")
		warnings, recoveries := logs.FilterMessage("delivery fails, will be retried"), logs.FilterMessage("delivery works again")
		if n := warnings.Len(); n < 5 || n > 10 {
			t.Errorf("%d warnings in ten minutes of failing, want about one a minute", n)
		}
		for _, entry := range warnings.All() {
			if got := entry.ContextMap()["error"]; got != `"connection refused\x1b[2J\n"` {
				t.Errorf("logged error: %v", got)
			}
		}
		if recoveries.Len() != 1 {
			t.Fatalf("%d recoveries logged, want 1", recoveries.Len())
		}
		fields := recoveries.All()[0].ContextMap()
		if failed := fields["failed_for"].(time.Duration); failed < 10*time.Minute || fields["queued_events"] != int64(0) {
			t.Errorf("recovery logged with %v", fields)
		}
		d.Close()
		r.wait(t)
	})
}

// What is dropped at the end has a cause.
func TestAbandonedForACause(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(context.Context, *Batch) error
		after  time.Duration
		want   string
	}{
		"failing":   {func(context.Context, *Batch) error { return serverError() }, 10 * time.Second, "not accepted anything for 10s: the database is locked"},
		"no answer": {func(ctx context.Context, _ *Batch) error { <-ctx.Done(); return ctx.Err() }, 3 * time.Second, "not answered for 3s"},
		"fatal":     {func(context.Context, *Batch) error { return errors.New("it is gone") }, 0, "deliver to the Brain: it is gone"},
		"no time":   {nil, 0, "no more time"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, logs := newTest(t, remoteConfig())
				d.sink = &fakeSink{answer: tc.answer}
				ctx, cancel := context.WithCancel(t.Context())
				if err := d.Open(); err != nil {
					t.Fatal(err)
				}
				addEvents(d, 0, 10)
				if tc.answer == nil {
					cancel()
				}
				done := make(chan struct{})
				go func() { defer close(done); _ = d.Run(ctx) }()
				time.Sleep(tc.after)
				synctest.Wait()
				cancel()
				<-done
				logged := logs.FilterMessage("stopped with events undelivered, dropped").All()
				if len(logged) != 1 || !strings.Contains(logged[0].ContextMap()["cause"].(string), tc.want) {
					t.Errorf("logged %v, want once a cause with %q", logged, tc.want)
				}
			})
		})
	}
}

func wantStatus(t *testing.T, d *Deliverer, ok bool, reason string) {
	t.Helper()
	if gotOK, gotReason := d.Status(); gotOK != ok || gotReason != reason {
		t.Errorf("Status: %v, %q, want %v, %q", gotOK, gotReason, ok, reason)
	}
}
