package collect

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/flow"
)

// fakeKernel hands over what a test put into it. Its monotonic clock started an hour before the test.
type fakeKernel struct {
	start    time.Time
	announce []flow.Closing
	ring     []flow.Record // read by the next ReadRecords
	due      []flow.Record // what a sweep hands over
	left     []flow.Record // by another process
	sampled  []flow.Sample // read by the next ReadSamples
	windows  []flow.Lengths
	room     int // records that a sweep finds room for in the ring

	taken  [][]flow.Closing // by Take
	at     []time.Duration  // when, since start
	sweeps []time.Duration
	limits flow.Limits
	swept  uint64 // the time that the last sweep was for
	out    int    // sweeps of everything
	refuse bool   // to take anything
	walk   time.Duration
	ledger flow.Ledger
	stay   func(time.Duration) uint64 // connections that are not due, by the time since start; may be nil
	fail   error
}

func (k *fakeKernel) clock() (uint64, time.Time) {
	return uint64(time.Since(k.start) + time.Hour), time.Now()
}

func (k *fakeKernel) Sweep(now uint64, l flow.Limits) (flow.Resident, bool, error) {
	k.limits, k.swept = l, now
	k.sweeps = append(k.sweeps, time.Since(k.start))
	return k.sweep()
}

func (k *fakeKernel) SweepOut() (flow.Resident, bool, error) {
	k.out++
	return k.sweep()
}

func (k *fakeKernel) sweep() (flow.Resident, bool, error) {
	time.Sleep(k.walk) // the clock is synctest's
	n := min(k.room, len(k.due))
	k.ring, k.due = append(k.ring, k.due[:n]...), k.due[n:]
	return flow.Resident{Flows: k.occupied() + uint64(len(k.due))}, len(k.due) == 0, k.fail
}

func (k *fakeKernel) Take(closed []flow.Closing) (int, error) {
	k.taken = append(k.taken, append([]flow.Closing(nil), closed...))
	k.at = append(k.at, time.Since(k.start))
	if k.refuse {
		return 0, nil
	}
	return len(closed), nil
}

func (k *fakeKernel) ReadRecords(fn func(*flow.Record)) (int, error) {
	n := len(k.ring)
	for i := range k.ring {
		fn(&k.ring[i])
	}
	k.ring = nil
	return n, nil
}

func (k *fakeKernel) Inherit(ctx context.Context, _ string, fn func(*flow.Record)) error {
	for i := range k.left {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fn(&k.left[i])
	}
	return k.fail
}

func (k *fakeKernel) ReadClosed(fn func(flow.Closing)) error {
	for _, c := range k.announce {
		fn(c)
	}
	k.announce = nil
	return nil
}

func (k *fakeKernel) ReadSamples(sample func(*flow.Sample), lengths func(*flow.Lengths)) error {
	for i := range k.sampled {
		sample(&k.sampled[i])
	}
	for i := range k.windows {
		lengths(&k.windows[i])
	}
	k.sampled, k.windows = nil, nil
	return nil
}

func (k *fakeKernel) Ledger() (flow.Ledger, error) {
	ledger := k.ledger
	ledger.Inserts += k.occupied()
	return ledger, nil
}

func (k *fakeKernel) occupied() uint64 {
	if k.stay == nil {
		return 0
	}
	return k.stay(time.Since(k.start))
}

// fakeHost has one address and two interfaces, and another namespace with one, number 9.
type fakeHost struct{}

var local = netip.MustParseAddr("10.0.0.1")

func (fakeHost) Local(netns uint8, a netip.Addr) bool { return netns != 9 && a == local }

func (fakeHost) InterfaceName(netns uint8, ifindex uint32) string {
	if netns == 9 {
		return "veth0"
	}
	return map[uint32]string{3: "eth0", 4: "eth1"}[ifindex]
}

func (fakeHost) NamespaceName(netns uint8) string { return map[uint8]string{9: "blue"}[netns] }

// fakeIdentifier knows of a connection the names of what was called for it, in order.
type fakeIdentifier struct {
	calls    []string
	tidied   int
	identity flow.Identity
}

func (i *fakeIdentifier) Sample(*flow.Sample)   { i.calls = append(i.calls, "sample") }
func (i *fakeIdentifier) Lengths(*flow.Lengths) { i.calls = append(i.calls, "lengths") }
func (i *fakeIdentifier) Tidy()                 { i.tidied++ }

func (i *fakeIdentifier) Describe(*flow.Record) *flow.Identity {
	if len(i.calls) == 0 {
		return nil
	}
	i.identity = flow.Identity{Anomalies: i.calls}
	return &i.identity
}

// fixture is a collector and its sink.
type fixture struct {
	kernel     *fakeKernel
	identifier *fakeIdentifier
	*Collector
	events []flow.Event
	added  func() // called for each event
	seal   func()
	reg    *prometheus.Registry
	logs   *observer.ObservedLogs
}

func (f *fixture) Add(e *flow.Event) {
	kept := *e
	if e.Reverse != nil {
		reverse := *e.Reverse
		kept.Reverse = &reverse
	}
	f.events = append(f.events, kept)
	f.added()
}

func (f *fixture) Seal() { f.seal() }

func newFixture(t *testing.T, cfg Config) *fixture {
	t.Helper()
	cfg.MaxFlows, cfg.HighWater = 4096, 80
	core, logs := observer.New(zap.DebugLevel)
	f := &fixture{
		kernel: &fakeKernel{start: time.Now(), room: 100}, identifier: &fakeIdentifier{}, reg: prometheus.NewRegistry(), logs: logs,
	}
	f.added, f.seal = func() {}, func() {}
	var err error
	f.Collector, err = New(cfg, f.kernel, fakeHost{}, f.identifier, f.kernel.clock, f, zap.New(core), f.reg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// runFor runs the collector for so long.
func (f *fixture) runFor(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func closing(port uint16, reset bool, at time.Duration) flow.Closing {
	return flow.Closing{
		Key:   flow.Key{Ends: [2]netip.AddrPort{netip.AddrPortFrom(local, port)}},
		AtNs:  uint64(time.Hour + at),
		Reset: reset,
	}
}
