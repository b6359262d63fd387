package collect

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"weir/internal/flow"
)

// TestPressureLevel follows how full a map of 1,000 connections is: the high mark is 800 and the low one 600.
func TestPressureLevel(t *testing.T) {
	type look struct {
		occupied uint64
		at       time.Duration
		swept    bool
		level    int
	}
	for name, looks := range map[string][]look{
		"stays at 0 up to the high mark": {{0, 0, false, 0}, {800, Look, true, 0}, {800, 2 * Look, false, 0}},
		"begins without a sweep":         {{801, 0, false, 1}},
		"one level for each sweep that does not help": {
			{1000, 0, false, 1},
			{1000, Look, false, 1},
			{1000, 2 * Look, true, 2},
			{1000, 3 * Look, false, 2},
			{801, 4 * Look, true, 3},
		},
		"stays between the marks": {{1000, 0, false, 1}, {800, Look, true, 1}, {600, time.Minute, true, 1}},
		"goes no further than the shortest timeouts": {
			{1000, 0, true, 1},
			{1000, 0, true, 2},
			{1000, 0, true, 3},
			{1000, 0, true, 3},
			{1000, 0, true, 3},
		},
		"returns level by level": {
			{1000, 0, true, 1},
			{1000, Look, true, 2},
			{599, 2 * Look, true, 2},
			{599, Look + SweepEvery, true, 1},
			{599, 2 * SweepEvery, false, 1},
			{599, Look + 2*SweepEvery, false, 0},
			{0, time.Minute, true, 0},
		},
		"turns back on the way down": {
			{1000, 0, true, 1},
			{1000, 0, true, 2},
			{0, SweepEvery, true, 1},
			{1000, SweepEvery + Look, true, 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPressure(&Config{MaxFlows: 1000, HighWater: 80, Limits: flow.Limits{
				TCPIdle: 4 * time.Second, OtherIdle: time.Second,
			}})
			for i, l := range looks {
				p.update(l.occupied, uint64(time.Hour+l.at), l.swept)
				if p.level != l.level {
					t.Fatalf("look %d, %+v: level %d", i, l, p.level)
				}
			}
		})
	}
}

// TestPressureOff: there are no more connections in a map than it was made for.
func TestPressureOff(t *testing.T) {
	p := newPressure(&Config{MaxFlows: 1000, HighWater: 100})
	if p.update(1000, 1, true); p.level != 0 || p.above {
		t.Errorf("level %d, above the mark: %t", p.level, p.above)
	}
}

// TestPressureLimits shortens what is longer than a second, step by step, and nothing else.
func TestPressureLimits(t *testing.T) {
	const s = time.Second
	for _, row := range []struct {
		name       string
		tcp, other time.Duration
		want       [][2]time.Duration // by level, from 1 on
	}{
		{"the defaults", 60 * s, 30 * s, [][2]time.Duration{
			{60 * s, 30 * s},
			{30 * s, 15 * s},
			{15 * s, 7500 * time.Millisecond},
			{7500 * time.Millisecond, 3750 * time.Millisecond},
			{3750 * time.Millisecond, 1875 * time.Millisecond},
			{1875 * time.Millisecond, s},
			{s, s},
		}},
		{"one protocol", s, 2 * s, [][2]time.Duration{{s, 2 * s}, {s, s}}},
		{"shorter than the floor", s / 10, s, [][2]time.Duration{{s / 10, s}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			limits := flow.Limits{TCPIdle: row.tcp, OtherIdle: row.other, Active: time.Hour, Linger: time.Minute}
			p := newPressure(&Config{MaxFlows: 1000, HighWater: 80, Limits: limits})
			if got := p.limitsNow(); got != limits {
				t.Errorf("level 0: %+v, want %+v", got, limits)
			}
			if p.most != len(row.want) {
				t.Errorf("%d levels, want %d", p.most, len(row.want))
			}
			for i, want := range row.want {
				p.level = i + 1
				limits.TCPIdle, limits.OtherIdle, limits.SingleIdle = want[0], want[1], s
				if got := p.limitsNow(); got != limits {
					t.Errorf("level %d: %+v, want %+v", p.level, got, limits)
				}
			}
		})
	}
}

// fullUntil has 4,000 connections in a map of 4,096 until then, and 100 from then on.
func fullUntil(until time.Duration) func(time.Duration) uint64 {
	return func(at time.Duration) uint64 {
		if at < until {
			return 4000
		}
		return 100
	}
}

// TestPressedSweeps come ten times a second while the map fills, with shorter limits.
func TestPressedSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := flow.Limits{TCPIdle: time.Minute, OtherIdle: time.Minute, Active: time.Minute}
		f := newFixture(t, Config{Limits: limits})
		f.kernel.stay = fullUntil(time.Hour)
		f.runFor(t, time.Second+Look/2)
		want := []time.Duration{2 * Look, 3 * Look, 4 * Look, 5 * Look, 6 * Look, 7 * Look, 8 * Look, 9 * Look, 10 * Look}
		if !slices.Equal(f.kernel.sweeps, want) {
			t.Errorf("sweeps at %v, want %v", f.kernel.sweeps, want)
		}
		short := flow.Limits{TCPIdle: time.Second, OtherIdle: time.Second, Active: time.Minute, SingleIdle: time.Second}
		if f.kernel.limits != short {
			t.Errorf("limits %+v, want %+v", f.kernel.limits, short)
		}
		f.checkPressure(t, 7, 4000, len(want))
	})
}

// TestPressureEnds: once the map has room, sweeps are as before, and so are the limits after a while.
func TestPressureEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := flow.Limits{TCPIdle: time.Minute, OtherIdle: time.Minute, Active: time.Minute}
		f := newFixture(t, Config{Limits: limits})
		f.kernel.stay = fullUntil(time.Second)
		f.runFor(t, time.Minute)
		if f.kernel.limits != limits {
			t.Errorf("limits %+v, want %+v", f.kernel.limits, limits)
		}
		last := f.kernel.sweeps[len(f.kernel.sweeps)-2:]
		if pause := last[1] - last[0]; pause != SweepEvery {
			t.Errorf("a pause of %s, want %s again", pause, SweepEvery)
		}
		f.checkPressure(t, 0, 100, 9)
	})
}

// checkPressure wants the metrics to say so.
func (f *fixture) checkPressure(t *testing.T, level, flows, sweeps int) {
	t.Helper()
	if got := int(testutil.ToFloat64(f.metrics.level)); got != level {
		t.Errorf("level %d, want %d", got, level)
	}
	if got := testutil.ToFloat64(f.metrics.occupancy) * 4096; got != float64(flows) {
		t.Errorf("%v connections, want %d", got, flows)
	}
	if got := int(testutil.ToFloat64(f.metrics.pressedSweeps)); got != sweeps {
		t.Errorf("%d sweeps under pressure, want %d", got, sweeps)
	}
}

// TestSlowPressedSweeps leave most of the time to others.
func TestSlowPressedSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.kernel.walk = time.Second
		f.kernel.stay = fullUntil(time.Hour)
		f.runFor(t, time.Minute)
		if n := len(f.kernel.sweeps); n != 12 {
			t.Errorf("%d sweeps of a second in a minute, at %v, want 12", n, f.kernel.sweeps)
		}
	})
}

// TestPressureIsSaid at once, then not more often than every ten seconds; what is said last is how it stays.
func TestPressureIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{Limits: flow.Limits{TCPIdle: time.Minute}})
		f.kernel.stay = fullUntil(15 * time.Second)
		f.runFor(t, time.Minute)
		type said struct {
			severity zapcore.Level
			level    int64
			after    time.Duration
		}
		var got []said
		for _, line := range f.logs.All() {
			got = append(got, said{line.Level, line.ContextMap()["level"].(int64), line.Time.Sub(f.kernel.start)})
		}
		want := []said{
			{zap.WarnLevel, 1, Look},
			{zap.WarnLevel, 7, 10*time.Second + Look},
			{zap.WarnLevel, 4, 20*time.Second + Look},
			{zap.InfoLevel, 0, 30*time.Second + Look},
		}
		if !slices.Equal(got, want) {
			t.Errorf("said %+v, want %+v", got, want)
		}
	})
}
