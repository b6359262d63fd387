package identify

import (
	"container/list"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/fingerprint"
	"weir/internal/fingerprint/ja4plus"
	"weir/internal/flow"
	"weir/internal/known"
	"weir/internal/tracker"
)

// maxHeld bounds the memory, in bytes, of all that waits for more: what has waited for longest is given up. A ClientHello of two
// segments takes 2 KiB, and a connection that means harm some 40 KiB.
const maxHeld = 32 << 20

// Config says what is wanted of connections and what is known beforehand.
type Config struct {
	Methods     []flow.Method // that events are to have; none: there is nothing to do
	Connections int           // to know at a time
	// How long a connection that goes on is known after its last record or sample, more than the kernel side waits with its next
	// record. One of TCP that was idle is known for 10 minutes more.
	TCPIdle, OtherIdle time.Duration
	Known              *known.Known
}

// Identifier turns what the kernel side sampled of connections into what their events say of who is talking. It belongs to one
// goroutine.
type Identifier struct {
	cfg     Config
	methods Methods   // to compute
	wanted  []bool    // by flow.Method
	clock   Clock     // of records
	epoch   time.Time // the wall clock's time when the monotonic clock was 0
	tidied  time.Time // when the tracker was last
	table   *tracker.Tracker
	talks   map[*tracker.Connection]*talk
	held    int
	holding list.List // *talk, in the order in which they began to hold something
	usual   [2]tracker.UsualMSS
	ending  bool // a connection leaves the table because it has ended
	next    flow.Identity
	metrics *metrics
}

// Clock reads the clock that samples are stamped by, in nanoseconds, and the wall clock, at one moment.
type Clock func() (monotonic uint64, wall time.Time)

// New returns an Identifier that knows of no connection.
func New(cfg Config, clock Clock, reg prometheus.Registerer) (*Identifier, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	i := &Identifier{
		cfg: cfg, clock: clock, metrics: m,
		methods: Methods{}, wanted: make([]bool, len(flow.Methods())),
		table: tracker.NewTracker(cfg.Connections), talks: map[*tracker.Connection]*talk{},
	}
	for _, method := range cfg.Methods {
		i.wanted[method] = true
		i.methods[method.Hashed().String()] = true
	}
	i.table.IdleAfter(cfg.TCPIdle+rest, cfg.OtherIdle)
	i.table.OnEvict = i.forget
	i.readClock()
	return i, nil
}

func (i *Identifier) readClock() time.Time {
	mono, wall := i.clock()
	i.epoch = wall.Add(-time.Duration(mono))
	return wall
}

func (i *Identifier) wall(ns uint64) time.Time { return i.epoch.Add(time.Duration(ns)) }

// Tidy forgets, every second at the most, connections that nothing came of for long.
func (i *Identifier) Tidy() {
	const pause = time.Second
	now := i.readClock()
	if since := now.Sub(i.tidied); since >= 0 && since < pause {
		return
	}
	i.tidied = now
	i.table.Evict(now)
	i.metrics.tracked.Set(float64(i.table.Count()))
}

// forget drops what is kept of a connection that has left the table.
func (i *Identifier) forget(c *tracker.Connection) {
	t := i.talks[c]
	if t == nil {
		return
	}
	i.release(t)
	delete(i.talks, c)
	if !i.ending && !t.resting {
		i.metrics.evicted.Inc()
	}
}

// end forgets a connection that is over.
func (i *Identifier) end(k flow.Key) {
	i.ending = true
	i.table.End(k)
	i.ending = false
}

// talk counts what came of the connection of a key, which may be nothing that a record tells of, and returns it. One that was idle
// ends if another was opened since.
func (i *Identifier) talk(k *flow.Key, opener flow.Initiator, ns uint64, of flow.Counter) (*tracker.Connection, *talk) {
	c := i.table.UpdateFlow(*k, opener, i.wall(ns), of.Packets, of.Bytes)
	t := i.talks[c]
	if t != nil && t.resting && opener != flow.InitiatorUnknown {
		i.end(*k)
		return i.talk(k, opener, ns, of)
	}
	if t == nil {
		t = &talk{Conversation: Conversation{methods: i.methods}, v6: k.Ends[0].Addr().Unmap().Is6()}
		i.talks[c] = t
	}
	t.wake()
	return c, t
}

// Sample takes bytes of a connection.
func (i *Identifier) Sample(s *flow.Sample) {
	opener := s.Opener
	if s.Kind == flow.SampleDatagram { // a hello tells more than who was seen first
		opener = flow.InitiatorUnknown
	}
	c, t := i.talk(&s.Key, opener, s.TimeNs, flow.Counter{})
	if t.Replaced(s) {
		i.replace(c, t, s.TimeNs)
	}
	greeted := t.facts.SawClientHello
	found, err := t.Sample(s)
	if err != nil && !errors.Is(err, fingerprint.ErrIncomplete) { // which may yet be completed
		i.metrics.malformed.Inc()
	}
	if t.facts.SawClientHello && !greeted {
		i.table.UpdateFlow(s.Key, flow.InitiatorEnd0+flow.Initiator(s.End), i.wall(s.TimeNs), 0, 0)
	}
	i.note(c, t, found)
	i.keep(t)
}

// Lengths takes a window of an SSH connection.
func (i *Identifier) Lengths(l *flow.Lengths) {
	c, t := i.talk(&l.Key, l.Opener, l.TimeNs, flow.Counter{})
	i.note(c, t, t.Lengths(l))
}

// keep bounds what waits for more.
func (i *Identifier) keep(t *talk) {
	held := t.Held()
	if held == 0 {
		i.release(t)
		return
	}
	i.held += held - t.held
	t.held = held
	if t.holding == nil {
		t.holding = i.holding.PushBack(t)
	}
	for i.held > maxHeld {
		oldest := i.holding.Front().Value.(*talk)
		oldest.GiveUp()
		i.release(oldest)
		i.metrics.noRoom.Inc()
	}
}

func (i *Identifier) release(t *talk) {
	if t.holding != nil {
		i.holding.Remove(t.holding)
	}
	i.held -= t.held
	t.held, t.holding = 0, nil
}

// Describe returns what is known of the connection of a record, or nil if that is nothing. It is valid until the next call. When
// the record is the connection's last, it is forgotten.
func (i *Identifier) Describe(r *flow.Record) *flow.Identity {
	if len(i.cfg.Methods) == 0 || r.Handshake == nil && i.table.Find(r.Key) == nil {
		return nil
	}
	there, back := &r.Halves[0], &r.Halves[1]
	c, t := i.talk(&r.Key, r.Initiator, lastNs(r), flow.Counter{
		Packets: there.Packets + back.Packets, Bytes: there.Bytes + back.Bytes,
	})
	over := r.EndReason != flow.EndActive
	if t.isFormer(r) {
		i.describe(t.former.Connection, t.former.talk, r)
		if over {
			t.former = nil
		}
		return &i.next
	}
	t.absorb(c) // records come in order: one of the former alone would have come before
	i.describe(c, t, r)
	if over && !t.rest(r) {
		i.end(r.Key)
	}
	return &i.next
}

// describe fills in what the event of a record says.
func (i *Identifier) describe(c *tracker.Connection, t *talk, r *flow.Record) {
	for end := range r.Halves {
		t.sent[end].Packets += r.Halves[end].Packets
		t.sent[end].Bytes += r.Halves[end].Bytes
	}
	if r.Handshake != nil {
		i.open(c, t, r)
	}
	i.see(c, t, r.Key)
	i.evaluate(c, t, r)
	t.tell(&i.next, c)
}

// open notes how the connection was opened, by the first SYN: anybody can send another one. What is usual is decided by those that
// were answered and went on, which takes a real address.
func (i *Identifier) open(c *tracker.Connection, t *talk, r *flow.Record) {
	i.note(c, t, t.Handshake(r.Handshake, r.Initiator))
	if t.rtt == 0 {
		t.rtt = roundTrip(r.Handshake)
	}
	mss := announcedMSS(r.Handshake.SYN.Options)
	if mss > 0 && c.MSSValue == 0 {
		c.SetMSS(mss)
	}
	if mss > 0 && r.Handshake.ACKNs > 0 && !t.voted {
		t.voted = true
		i.usualMSS(t).Add(mss)
	}
}

// usualMSS returns that of the connection's IP version.
func (i *Identifier) usualMSS(t *talk) *tracker.UsualMSS {
	if t.v6 {
		return &i.usual[1]
	}
	return &i.usual[0]
}

// evaluate finds anomalies.
func (i *Identifier) evaluate(c *tracker.Connection, t *talk, r *flow.Record) {
	over := r.EndReason != flow.EndActive && r.EndReason != flow.EndShutdown
	for _, rule := range c.Evaluate(&tracker.Facts{
		ClientHello: t.facts.SawClientHello, ServerHello: t.facts.SawServerHello,
		HTTP: t.facts.CarriesHTTP, SSH: t.facts.CarriesSSH, HTTPSampled: i.methods[flow.JA4H.String()],
		Ended:     over && r.SamplingRate == 1 && t.unanswered(r.Key),
		BadReason: t.bad, NewFingerprint: t.news, UsualMSS: i.usualMSS(t).Value(),
	}) {
		i.metrics.anomalies[rule].Inc()
	}
}

// note adds fingerprints to what is known of a connection.
func (i *Identifier) note(c *tracker.Connection, t *talk, found []Found) {
	for f := range found {
		f := &found[f]
		method, _ := flow.MethodNamed(f.Method) // all that are made have one
		at := i.wall(f.TimeNs)
		i.metrics.fingerprints[method].Inc()
		c.AddFingerprint(f.Method, f.Value, at, c.PacketCount)
		if i.wanted[method] {
			t.add(method, f.Value)
		}
		if raw, ok := method.Raw(); ok && i.wanted[raw] {
			c.AddRawFingerprint(f.Method, f.Raw, at, c.PacketCount)
			t.add(raw, f.Raw)
		}
		if method == flow.JA4SSH {
			setSession(c, ja4plus.InterpretJA4SSH(f.Value))
		}
		i.judge(c, t, method, f.Value, at)
	}
}

// setSession notes the kind of an SSH session, as its last window shows one.
func setSession(c *tracker.Connection, kind string) {
	if c.SSHSessionType == "" || kind != "Unknown" {
		c.SSHSessionType = kind
	}
}
