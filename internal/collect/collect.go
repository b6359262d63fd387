// Package collect has the kernel hand over what is finished and makes FlowEvents of it. It owns the timers: when to
// sweep, and how long a closed connection lingers before it is taken.
package collect

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/flow"
)

// Look is how often the ring of closed connections is read. The kernel never wakes the collector: at any rate of
// connections, that is ten wake-ups a second.
const Look = 100 * time.Millisecond

// SweepEvery is how often the whole map is walked. A walk costs from a tenth to a quarter of a microsecond per entry, as
// caches have it: 100,000 entries cost about half a percent of a core.
const SweepEvery = 2 * time.Second

// sweepShare is how many times longer than a walk is the pause behind it: millions of entries do not take a core.
const sweepShare = 20

// Kernel hands over entries. Package datapath has the real one.
type Kernel interface {
	// Sweep has what is due by now handed over; false: the ring of records filled first.
	Sweep(nowNs uint64, limits flow.Limits) (flow.Resident, bool, error)
	// SweepOut is Sweep for everything.
	SweepOut() (flow.Resident, bool, error)
	// Take has the entries of closed connections handed over and returns with how many of them it dealt.
	Take([]flow.Closing) (int, error)
	ReadRecords(func(*flow.Record)) (int, error)
	ReadClosed(func(flow.Closing)) error
	// ReadSamples passes on what was copied of packets, before the records of these packets are read.
	ReadSamples(func(*flow.Sample), func(*flow.Lengths)) error
	// Inherit passes on what the maps in a folder hold that a process of another generation left, until ctx ends.
	Inherit(ctx context.Context, folder string, fn func(*flow.Record)) error
	Ledger() (flow.Ledger, error)
}

// Host knows what the records do not say.
type Host interface {
	Local(netns uint8, addr netip.Addr) bool
	InterfaceName(netns uint8, ifindex uint32) string
	NamespaceName(netns uint8) string
}

// Identifier knows who is talking. Package identify has the real one.
type Identifier interface {
	Sample(*flow.Sample)
	Lengths(*flow.Lengths)
	// Describe returns what is known of a record's connection by now, nil for nothing. It is valid until the next call.
	Describe(*flow.Record) *flow.Identity
	// Tidy is called at each look, to forget what is too old.
	Tidy()
}

// Sink receives the events. The kernel side may keep their records until the sink has them safe.
type Sink interface {
	// Add takes an event over, and does not keep what it is handed.
	Add(*flow.Event)
	// Seal makes what was added safe without waiting for more.
	Seal()
}

// Clock reads the clock that records are stamped by, in nanoseconds, and the wall clock, at one moment.
type Clock func() (monotonic uint64, wall time.Time)

// Config says what is due when, and what an event tells of.
type Config struct {
	Limits      flow.Limits
	Connections bool // one event per connection, not per direction
	MaxFlows    int  // connections that the kernel's map was made for
	HighWater   int  // percent of MaxFlows above which limits become shorter, 1 to 100
	Hostname    string
}

// Collector turns records into FlowEvents.
type Collector struct {
	cfg        Config
	kernel     Kernel
	host       Host
	identifier Identifier
	sample     func(*flow.Sample) // the identifier's: a replay reads samples after every packet
	lengths    func(*flow.Lengths)
	clock      Clock
	sink       Sink
	log        *zap.Logger
	metrics    *metrics

	pressure     pressure
	fins, resets lingering
	began        uint64 // the last sweep, by the monotonic clock
	nextSweep    uint64
	pauseEnds    uint64        // nextSweep, as it was before it was put off
	known        uint64        // arrivals before the last whole walk of the map
	walked       time.Duration // in the kernel, by the last sweep; waiting for a slow Brain is none of it
	sent         uint64
	stuck        bool       // the last reading found nothing in a full ring
	epoch        time.Time  // the wall clock's time when the monotonic clock was 0
	next         flow.Event // the one being made, its Reverse and its Identity
	reverse      flow.Counts
	identity     *flow.Identity
	books        flow.Audit
	audit        atomic.Pointer[flow.Audit]
	swept        atomic.Pointer[time.Time] // when the last whole walk of the map began
	worked       atomic.Int64              // Unix time, nanoseconds, of the last look or event
}

// New returns a Collector that passes its events to sink, one at a time.
func New(
	cfg Config, kernel Kernel, host Host, identifier Identifier, clock Clock, sink Sink, log *zap.Logger, reg prometheus.Registerer,
) (*Collector, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	c := &Collector{
		cfg: cfg, kernel: kernel, host: host, clock: clock, sink: sink, log: log, metrics: m,
		identifier: identifier, sample: identifier.Sample, lengths: identifier.Lengths,
		fins:   lingering{linger: cfg.Limits.Linger, most: cfg.MaxFlows},
		resets: lingering{linger: cfg.Limits.Linger / 3, most: cfg.MaxFlows},
	}
	c.audit.Store(&flow.Audit{})
	c.swept.Store(&time.Time{})
	_, wall := clock()
	c.worked.Store(wall.UnixNano())
	return c, nil
}

// Audit returns the books as of the last whole sweep. It may be called from any goroutine.
func (c *Collector) Audit() flow.Audit { return *c.audit.Load() }

// Swept returns when the last sweep began that came through, and all of whose events have been passed on; the zero time
// before the first.
func (c *Collector) Swept() time.Time { return *c.swept.Load() }

// LastWork returns when the collector last looked for work, or passed an event on: a while ago means that it hangs. Before it
// has begun, that is when it was made.
func (c *Collector) LastWork() time.Time { return time.Unix(0, c.worked.Load()) }

// Run collects until ctx ends, and then returns nil: what is in the map stays there for Drain. Any error is the
// kernel's.
func (c *Collector) Run(ctx context.Context) error {
	ticker := time.NewTicker(Look)
	defer ticker.Stop()
	c.Begin()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := c.Look(ctx); err != nil {
				return err
			}
		}
	}
}

// Begin sets the timers by the clock, with nothing in the map. Who calls Look without Run begins with it, and again when the
// clock was set back.
func (c *Collector) Begin() {
	mono, wall := c.clock()
	c.fins.pop(len(c.fins.queue) - c.fins.head)
	c.resets.pop(len(c.resets.queue) - c.resets.head)
	c.pressure = newPressure(&c.cfg)
	c.began, c.walked = mono, 0
	c.pause()
	c.worked.Store(wall.UnixNano())
}

// Inherit makes events of what a process left in a folder of maps that this one cannot go on with, until ctx ends, which is an
// error. It returns how many events these are and the ID of the last, zero if there is none: the sink has them all safe when it
// has that one. It is called while Run is not running.
func (c *Collector) Inherit(ctx context.Context, folder string) (events uint64, last flow.EventID, err error) {
	mono, wall := c.clock()
	c.epoch = wall.Add(-time.Duration(mono))
	c.worked.Store(wall.UnixNano())
	c.next = flow.Event{}
	before := c.sent
	err = c.kernel.Inherit(ctx, folder, c.record)
	c.sink.Seal()
	return c.sent - before, c.next.ID, err
}

// Drain hands over everything that is in the map, or as much as ctx leaves time for. It is called when no packets come any
// more, and Run has returned.
func (c *Collector) Drain(ctx context.Context) error {
	return c.sweep(ctx, c.kernel.SweepOut)
}

// ReadSamples makes room in the ring of samples. Who has time pass faster than the wall clock does calls it between two Looks.
func (c *Collector) ReadSamples() error {
	return c.kernel.ReadSamples(c.sample, c.lengths)
}

// Look takes the closed connections whose linger is over, and sweeps when it is time. Run does so at every Look.
func (c *Collector) Look(ctx context.Context) error {
	c.identifier.Tidy()
	if err := c.ReadSamples(); err != nil {
		return err
	}
	if err := c.kernel.ReadClosed(c.announced); err != nil {
		return err
	}
	mono, wall := c.clock()
	c.worked.Store(wall.UnixNano())
	for _, l := range []*lingering{&c.fins, &c.resets} {
		if err := c.take(l, mono); err != nil {
			return err
		}
	}
	sweeps := mono >= c.nextSweep
	if sweeps {
		c.began, c.walked = mono, 0
		if err := c.sweep(ctx, func() (flow.Resident, bool, error) {
			now, _ := c.clock()
			return c.kernel.Sweep(now, c.pressure.limitsNow())
		}); err != nil {
			return err
		}
	}
	return c.press(sweeps)
}

// press has the limits and the next sweep follow how full the map is.
func (c *Collector) press(swept bool) error {
	ledger, err := c.kernel.Ledger()
	if err != nil {
		return err
	}
	mono, _ := c.clock()
	occupied := min(ledger.Occupied(), c.pressure.capacity)
	before := c.pressure.above
	c.pressure.update(occupied, mono, swept)
	if swept || c.pressure.above != before {
		c.pause()
	}
	if swept && before {
		c.metrics.pressedSweeps.Inc()
	}
	c.pressure.say(c.log, occupied, mono)
	c.metrics.level.Set(float64(c.pressure.level))
	c.metrics.occupancy.Set(float64(occupied) / float64(c.pressure.capacity))
	return nil
}

// pause sets when the next sweep is.
func (c *Collector) pause() {
	c.pauseEnds = c.began + uint64(c.pressure.pause(c.walked))
	c.nextSweep = c.pauseEnds
}

// PutOff has the next sweep wait until an entry can be due. It is called after each Look by whoever has time pass faster than
// the wall clock does, and needs no audit in between.
func (c *Collector) PutOff() error {
	ledger, err := c.kernel.Ledger()
	if err != nil {
		return err
	}
	due := c.books.Resident.DueNs
	switch {
	case arrivals(&ledger) != c.known || c.pressure.level > 0:
		due = 0
	case due == 0:
		due = math.MaxInt64
	}
	c.nextSweep = max(c.pauseEnds, due)
	return nil
}

// arrivals counts the entries of which the last sweep cannot have said when they are due, or not rightly: new ones, and those
// that closed unannounced.
func arrivals(l *flow.Ledger) uint64 { return l.Inserts + l.ClosedFull }

// DueNs returns when, by the monotonic clock, there is next something for Look to do, if no packets come.
func (c *Collector) DueNs() uint64 {
	due := c.nextSweep
	for _, l := range []*lingering{&c.fins, &c.resets} {
		if l.head < len(l.queue) {
			due = min(due, l.queue[l.head].AtNs+uint64(l.linger))
		}
	}
	return due
}

func (c *Collector) announced(closing flow.Closing) {
	if closing.Reset {
		c.resets.push(closing)
	} else {
		c.fins.push(closing)
	}
}

// take has every connection handed over whose linger is over.
func (c *Collector) take(l *lingering, mono uint64) error {
	for due := l.due(mono); len(due) > 0; due = l.due(mono) {
		done, err := c.kernel.Take(due)
		if err != nil {
			return err
		}
		l.pop(done)
		if err := c.read(done > 0); err != nil {
			return err
		}
	}
	return nil
}

var errStuck = errors.New("hand flows over: the ring of records is full, but has no record to read")

// sweep walks the map, as often as the ring of records fills before the end of it and until ctx ends, and audits the
// books after the walk that came through.
func (c *Collector) sweep(ctx context.Context, walk func() (flow.Resident, bool, error)) error {
	for ctx.Err() == nil {
		before, err := c.kernel.Ledger()
		if err != nil {
			return err
		}
		began := time.Now()
		start, _ := c.clock()
		resident, whole, err := walk()
		if err != nil {
			return err
		}
		end, _ := c.clock()
		took := time.Duration(end - start)
		c.walked += took
		c.metrics.sweeps.Observe(took.Seconds())
		if err := c.read(whole); err != nil {
			return err
		}
		if whole {
			c.swept.Store(&began)
			return c.balance(&before, resident)
		}
	}
	return nil
}

func (c *Collector) balance(before *flow.Ledger, resident flow.Resident) error {
	after, err := c.kernel.Ledger()
	if err != nil {
		return err
	}
	c.books.Update(before, &after, resident)
	c.known = arrivals(before)
	books := c.books
	c.audit.Store(&books)
	return nil
}

// read makes events of the records in the ring, of whose packets all samples are read first. If the kernel side did not get on,
// the ring must have had some, or be full of those that wait for the sink.
func (c *Collector) read(gotOn bool) error {
	mono, wall := c.clock()
	c.epoch = wall.Add(-time.Duration(mono))
	c.worked.Store(wall.UnixNano())
	if err := c.ReadSamples(); err != nil {
		return err
	}
	read, err := c.kernel.ReadRecords(c.record)
	if err != nil || gotOn || read > 0 {
		c.stuck = false
		return err
	}
	if c.stuck {
		return errStuck
	}
	c.stuck = true
	c.sink.Seal()
	return nil
}
