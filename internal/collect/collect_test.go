package collect

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"weir/internal/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLinger takes closed connections when their linger is over: a reset after a third of the time.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{Limits: flow.Limits{Linger: 1200 * time.Millisecond}})
		fin, rst := closing(1, false, 0), closing(2, true, 0)
		f.kernel.announce = []flow.Closing{fin, rst}
		f.runFor(t, 1950*time.Millisecond)
		if len(f.kernel.taken) != 2 {
			t.Fatalf("taken %v, want twice one", f.kernel.taken)
		}
		for i, want := range []struct {
			closing flow.Closing
			at      time.Duration
		}{{rst, 400 * time.Millisecond}, {fin, 1200 * time.Millisecond}} {
			if got := f.kernel.taken[i]; len(got) != 1 || got[0] != want.closing || f.kernel.at[i] != want.at {
				t.Errorf("took %v after %s, want %v after %s", got, f.kernel.at[i], want.closing, want.at)
			}
		}
	})
}

// TestManyClosed takes all that are due, in order, in batches.
func TestManyClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		for i := range 2*batch + 5 {
			f.kernel.announce = append(f.kernel.announce, closing(uint16(i), false, 0))
		}
		f.kernel.announce = append(f.kernel.announce, closing(9999, false, time.Hour)) // not yet due
		f.runFor(t, Look+Look/2)
		var ports []uint16
		for _, taken := range f.kernel.taken {
			for _, c := range taken {
				ports = append(ports, c.Key.Ends[0].Port())
			}
		}
		if len(f.kernel.taken) != 3 || len(ports) != 2*batch+5 {
			t.Fatalf("%d taken in %d batches, want %d in 3", len(ports), len(f.kernel.taken), 2*batch+5)
		}
		for i, port := range ports {
			if int(port) != i {
				t.Fatalf("number %d taken is %d", i, port)
			}
		}
		if left := len(f.fins.queue) - f.fins.head; left != 1 {
			t.Errorf("%d linger, want 1", left)
		}
	})
}

// TestLingeringIsBounded leaves to the sweep what the map cannot hold anyway.
func TestLingeringIsBounded(t *testing.T) {
	l := lingering{most: 3}
	for i := range 5 {
		l.push(closing(uint16(i), false, 0))
	}
	l.pop(len(l.due(uint64(2 * time.Hour))))
	l.push(closing(9, false, 0))
	if due := l.due(uint64(2 * time.Hour)); len(due) != 1 || due[0].Key.Ends[0].Port() != 9 {
		t.Errorf("due %+v, want what came after the first three", due)
	}
}

// TestBeginAgain forgets what lingers by a clock that was set back.
func TestBeginAgain(t *testing.T) {
	f := newFixture(t, Config{Limits: flow.Limits{Linger: time.Second}})
	mono := uint64(time.Hour)
	f.clock = func() (uint64, time.Time) { return mono, time.Unix(0, int64(mono)) }
	look := func(at time.Duration) {
		t.Helper()
		mono = uint64(at)
		if err := f.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.Begin()
	f.kernel.announce = []flow.Closing{closing(1, false, 0), closing(2, true, 0)}
	look(time.Hour)
	mono = 0
	f.Begin()
	for _, due := range []time.Duration{SweepEvery, time.Second} {
		if got := f.DueNs(); got != uint64(due) {
			t.Errorf("due at %d, want %d", got, due)
		}
		f.kernel.announce = []flow.Closing{closing(3, false, -time.Hour)}
		look(0)
		f.kernel.announce = nil
	}
	look(time.Second)
	look(SweepEvery)
	if len(f.kernel.taken) != 1 || f.kernel.taken[0][0].Key.Ends[0].Port() != 3 {
		t.Errorf("taken %v, want what closed by the new clock", f.kernel.taken)
	}
	if len(f.kernel.sweeps) != 1 || f.kernel.swept != uint64(SweepEvery) {
		t.Errorf("%d sweeps, the last at %d, want one by the new clock", len(f.kernel.sweeps), f.kernel.swept)
	}
}

// TestStuckTake ends rather than take for ever.
func TestStuckTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.kernel.refuse = true
		f.kernel.announce = []flow.Closing{closing(1, false, 0)}
		if err := f.Run(t.Context()); !errors.Is(err, errStuck) {
			t.Errorf("error %v, want %v", err, errStuck)
		}
	})
}

// TestDrainInTime gives up when there is no time left.
func TestDrainInTime(t *testing.T) {
	f := newFixture(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	f.added = cancel
	f.kernel.room = 1
	f.kernel.due = []flow.Record{record(1), record(2), record(3)}
	if err := f.Drain(ctx); err != nil || len(f.kernel.due) != 2 {
		t.Errorf("error %v, %d records left, want none and 2", err, len(f.kernel.due))
	}
}

// TestSweeps walks the map at its interval, with the limits that were set, again while the ring fills.
func TestSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := flow.Limits{TCPIdle: 1, OtherIdle: 2, Active: 3, Linger: 4}
		f := newFixture(t, Config{Limits: limits})
		f.kernel.room = 2
		f.kernel.due = []flow.Record{record(1), record(2), record(3), record(4), record(5)}
		f.kernel.ledger = flow.Ledger{Inserts: 7, Counted: flow.Counter{Packets: 5, Bytes: 500}}
		f.runFor(t, SweepEvery+Look/2)
		if f.kernel.limits != limits || f.kernel.swept != uint64(time.Hour+SweepEvery) {
			t.Errorf("limits %+v at %d, want %+v, by the clock", f.kernel.limits, f.kernel.swept, limits)
		}
		want := []time.Duration{SweepEvery, SweepEvery, SweepEvery}
		if len(f.kernel.sweeps) != 3 || f.kernel.sweeps[0] != want[0] {
			t.Errorf("sweeps at %v, want %v", f.kernel.sweeps, want)
		}
		if len(f.events) != 5 {
			t.Errorf("%d events, want 5", len(f.events))
		}
		if n := testutil.CollectAndCount(f.metrics.sweeps); n != 1 {
			t.Errorf("%d histograms of sweeps", n)
		}
		f.runFor(t, SweepEvery+Look/2)
		if a := f.Audit(); a.UnaccountedPackets != 5 || a.UnaccountedBytes != 500 {
			t.Errorf("audit %+v, want the ledger balanced after each whole walk", a)
		}
	})
}

// TestSlowSweeps leaves most of the time to others when a walk takes long.
func TestSlowSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.kernel.walk = time.Second
		f.runFor(t, time.Minute)
		if n := len(f.kernel.sweeps); n != 3 {
			t.Errorf("%d sweeps of a second in a minute, at %v, want 3", n, f.kernel.sweeps)
		}
	})
}

// TestSweepsBehindASlowBrain go on at their pace: what the sink waits is not the walk's.
func TestSweepsBehindASlowBrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.added = func() { time.Sleep(10 * time.Second) }
		f.kernel.due = []flow.Record{record(1)}
		f.runFor(t, 20*time.Second)
		if n := len(f.kernel.sweeps); n < 4 {
			t.Errorf("%d sweeps in 20s, at %v, want no pause behind an event that took 10s", n, f.kernel.sweeps)
		}
		if since := time.Since(f.LastWork()); since > Look {
			t.Errorf("last work %s ago", since)
		}
	})
}

// TestDrain hands over everything once Run has returned.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.runFor(t, time.Second)
		f.kernel.room = 1
		f.kernel.due = []flow.Record{record(1), record(2)}
		if err := f.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.kernel.out != 2 || len(f.events) != 2 {
			t.Errorf("%d sweeps, %d events, want 2 and 2", f.kernel.out, len(f.events))
		}
	})
}

func TestKernelErrorEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.kernel.fail = errors.New("no more")
		if err := f.Run(t.Context()); !errors.Is(err, f.kernel.fail) {
			t.Errorf("error %v, want %v", err, f.kernel.fail)
		}
	})
}

// TestStuckRing ends rather than sweep for ever.
func TestStuckRing(t *testing.T) {
	f := newFixture(t, Config{})
	f.kernel.room = 0
	f.kernel.due = []flow.Record{record(1)}
	if err := f.Drain(t.Context()); err == nil {
		t.Error("no error from a ring that is full and empty")
	}
}

// TestRingOfWaitingRecords goes on when the ring is full of records that wait until their events are safe.
func TestRingOfWaitingRecords(t *testing.T) {
	f := newFixture(t, Config{})
	f.kernel.room = 0
	f.kernel.due = []flow.Record{record(1), record(2)}
	f.seal = func() { f.kernel.room = 2 }
	if err := f.Drain(t.Context()); err != nil || len(f.events) != 2 {
		t.Errorf("error %v, %d events, want none and 2", err, len(f.events))
	}
}

// TestInherit makes events of what another process left, and makes them safe at once.
func TestInherit(t *testing.T) {
	f := newFixture(t, Config{})
	f.kernel.left = []flow.Record{record(1), record(2)}
	sealed := 0
	f.seal = func() { sealed = len(f.events) }
	for range 2 {
		f.events = nil
		if n, last, err := f.Inherit(t.Context(), "maps"); err != nil || n != 2 || sealed != 2 || last != f.events[1].ID {
			t.Errorf("error %v, %d events, %d sealed, the last %v, want none and 2 of %v", err, n, sealed, last, f.events)
		}
	}
	f.kernel.left = nil
	if n, last, err := f.Inherit(t.Context(), "maps"); err != nil || n != 0 || last != (flow.EventID{}) {
		t.Errorf("error %v, and %d events, the last %v, of nothing", err, n, last)
	}
}

// TestInheritInTime gives up when there is no time left, and says so.
func TestInheritInTime(t *testing.T) {
	f := newFixture(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	f.added = cancel
	f.kernel.left = []flow.Record{record(1), record(2)}
	if _, _, err := f.Inherit(ctx, "maps"); !errors.Is(err, context.Canceled) || len(f.events) != 1 {
		t.Errorf("error %v, %d events, want %v and 1", err, len(f.events), context.Canceled)
	}
}

// TestLastWork tells a collector that works from one that hangs.
func TestLastWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		if since := time.Since(f.LastWork()); since != 0 {
			t.Errorf("last work %s before it was made", since)
		}
		f.runFor(t, time.Second+Look/2)
		if since := time.Since(f.LastWork()); since > Look {
			t.Errorf("last look %s ago", since)
		}
	})
}

// TestSwept is the beginning of the last walk that came to the map's end.
func TestSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.kernel.walk, f.kernel.room = 50*time.Millisecond, 1
		f.kernel.due = []flow.Record{record(1), record(2)}
		if !f.Swept().IsZero() {
			t.Errorf("swept at %s, before the first sweep", f.Swept())
		}
		last := time.Now().Add(f.kernel.walk) // the first walk fills the ring
		if err := f.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !f.Swept().Equal(last) {
			t.Errorf("swept at %s, want %s", f.Swept(), last)
		}
	})
}
