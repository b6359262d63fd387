package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/collect"
	"weir/internal/flow"
	"weir/internal/identify"
)

// idleKernel has nothing to hand over, and counts the sweeps.
type idleKernel struct {
	collect.Kernel
	sweeps int
}

func (k *idleKernel) Sweep(uint64, flow.Limits) (flow.Resident, bool, error) {
	k.sweeps++
	return flow.Resident{}, true, nil
}

func (k *idleKernel) ReadRecords(func(*flow.Record)) (int, error) { return 0, nil }

func (k *idleKernel) ReadClosed(func(flow.Closing)) error { return nil }

func (k *idleKernel) ReadSamples(func(*flow.Sample), func(*flow.Lengths)) error { return nil }

func (k *idleKernel) Ledger() (flow.Ledger, error) { return flow.Ledger{}, nil }

// nobody identifies nothing.
func nobody(t *testing.T) *identify.Identifier {
	t.Helper()
	i, err := identify.New(identify.Config{}, collect.SystemClock, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestEnteringTakesLong: the agent is alive while it enters network namespaces, and collects meanwhile if no other process can
// have left flows.
func TestEnteringTakesLong(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k, start := &idleKernel{}, time.Now()
			clock := func() (uint64, time.Time) { return uint64(time.Since(start)), time.Now() }
			c, err := collect.New(collect.Config{}, k, nil, nobody(t), clock, nil, zap.NewNop(), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			a := &Agent{collector: c, pinned: pinned, namespaces: &namespaces{entered: make(chan struct{})}}
			ctx, cancel := context.WithTimeout(t.Context(), 2*hangs)
			defer cancel()
			if ok, why := a.live(); !ok {
				t.Errorf("pinned %t: not alive at first: %s", pinned, why)
			}
			if err := a.collect(ctx); err != nil {
				t.Fatal(err)
			}
			if ok, why := a.live(); !ok {
				t.Errorf("pinned %t: not alive: %s", pinned, why)
			}
			if (k.sweeps == 0) != pinned {
				t.Errorf("pinned %t: %d sweeps", pinned, k.sweeps)
			}
			time.Sleep(2 * hangs)
			close(a.namespaces.entered)
			if ok, _ := a.live(); ok {
				t.Errorf("pinned %t: alive, and hangs", pinned)
			}
		})
	}
}
