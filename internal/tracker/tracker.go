// Package tracker knows the connections that are open now: what was counted of them, which fingerprints they carried, and
// what is odd about them. It does no I/O, reads no clock and starts no goroutines; a Tracker belongs to one goroutine.
package tracker

import (
	"container/list"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/flow"
)

// How long a connection stays after its last packet, if IdleAfter does not say otherwise. A connection that goes on is
// reported by the kernel side once per active timeout (60 s by default), and its last packet can then be an idle timeout
// (60 s at most) old: what is alive does not become idle here.
const (
	tcpIdle   = 5 * time.Minute
	otherIdle = 2 * time.Minute
)

// leastExcess is how many connections a Tracker may always have more than its maximum between two Evicts.
const leastExcess = 1024

// Tracker is a table of the connections that were seen last. Finding, updating and evicting one are O(1).
//
// Evict, called every second or so, brings the table back to its maximum. In between it may outgrow that, to twice the
// maximum or 1,024 more, whichever is larger; from there on each new connection evicts the least recently used one at
// once, so that a flood of connections finds its bound.
type Tracker struct {
	// OnEvict, if it is not nil, is called once with every connection that leaves the table, after it has left. It may
	// use the Tracker.
	OnEvict func(conn *Connection)

	entries map[key]*list.Element // of *entry
	lru     list.List             // *entry, the least recently updated one in front
	max     int
	room    room // of the histories

	tcpIdle, otherIdle time.Duration
	swept              time.Time // when Evict was last called
}

// entry is what the table has of a connection.
type entry struct {
	Connection
	key    key
	source uint8     // the end of the key that the connection has as its source
	opened bool      // the source is known to have opened the connection
	swept  time.Time // the Tracker's when the connection was last updated
}

// NewTracker returns a Tracker that Evict brings back to so many connections, none if that is negative.
func NewTracker(maxConns int) *Tracker {
	t := &Tracker{entries: make(map[key]*list.Element), max: max(maxConns, 0)}
	t.IdleAfter(tcpIdle, otherIdle)
	return t
}

// IdleAfter sets how long TCP and all other connections stay after their last packet, instead of 5 and 2 minutes. To keep
// those that go on, it has to be more than the kernel side's active and idle timeouts together.
func (t *Tracker) IdleAfter(tcp, other time.Duration) { t.tcpIdle, t.otherIdle = tcp, other }

// Update counts a packet of so many bytes, and returns its connection: a new one if this is the first packet of the
// 5-tuple in either direction, whose source is then the packet's. It returns nil, and counts nothing, if MakeKey has no key for
// the 5-tuple: under one key, packets with addresses or a protocol that are none would all be of one connection. A packet that is older than another one before it does not turn LastSeen back.
func (t *Tracker) Update(
	srcIP string, srcPort uint16, dstIP string, dstPort uint16, proto string, ts time.Time, packetLen uint64,
) *Connection {
	k, source, ok := newKey(srcIP, srcPort, dstIP, dstPort, proto)
	if !ok {
		return nil
	}
	e := t.entry(k, source, ts)
	t.count(e, ts, 1, packetLen)
	return &e.Connection
}

// UpdateFlow is Update for what the kernel side hands over: any number of packets and bytes, also none. The source is who
// opened the connection, as soon as that is known; until then, End 0.
func (t *Tracker) UpdateFlow(k flow.Key, opener flow.Initiator, ts time.Time, packets, bytes uint64) *Connection {
	var source uint8
	if opener == flow.InitiatorEnd1 {
		source = 1
	}
	e := t.entry(flowKey(&k), source, ts)
	if opener != flow.InitiatorUnknown && !e.opened {
		e.openedBy(source)
	}
	t.count(e, ts, packets, bytes)
	return &e.Connection
}

// entry finds the connection, or makes it.
func (t *Tracker) entry(k key, source uint8, ts time.Time) *entry {
	if element := t.entries[k]; element != nil {
		t.lru.MoveToBack(element)
		return element.Value.(*entry)
	}
	e := newEntry(k, source, ts)
	e.room = &t.room
	t.entries[k] = t.lru.PushBack(e)
	if len(t.entries) > t.max+max(t.max, leastExcess) {
		t.evict([]*Connection{t.remove(t.lru.Front())})
	}
	return e
}

func newEntry(k key, source uint8, ts time.Time) *entry {
	src, dst := k.end(source), k.end(1-source)
	return &entry{
		Connection: Connection{
			ID:    k.String(),
			SrcIP: src.Addr().String(), SrcPort: src.Port(),
			DstIP: dst.Addr().String(), DstPort: dst.Port(),
			Protocol:  protocolName(k.protocol),
			FirstSeen: ts, LastSeen: ts,
		},
		key:    k,
		source: source,
	}
}

// openedBy turns the connection around if its source is not the end that opened it.
func (e *entry) openedBy(source uint8) {
	e.opened = true
	if e.source != source {
		e.source = source
		e.SrcIP, e.DstIP = e.DstIP, e.SrcIP
		e.SrcPort, e.DstPort = e.DstPort, e.SrcPort
	}
}

func (t *Tracker) count(e *entry, ts time.Time, packets, bytes uint64) {
	e.swept = t.swept
	e.PacketCount += packets
	e.ByteCount += bytes
	if ts.After(e.LastSeen) {
		e.LastSeen = ts
	}
	if ts.Before(e.FirstSeen) {
		e.FirstSeen = ts
	}
	if t.swept.Sub(e.LastSeen) > t.shortestIdle() { // it may be stale: Evict finds it in front
		e.swept = time.Time{}
		t.lru.MoveToFront(t.entries[e.key])
	}
}

// Get returns the connection with a key of MakeKey, or nil if there is none.
func (t *Tracker) Get(key string) *Connection {
	k, ok := parseKey(key)
	if !ok {
		return nil
	}
	return t.find(k)
}

// Find is Get for the kernel side's key.
func (t *Tracker) Find(k flow.Key) *Connection { return t.find(flowKey(&k)) }

func (t *Tracker) find(k key) *Connection {
	if element := t.entries[k]; element != nil {
		return &element.Value.(*entry).Connection
	}
	return nil
}

// All returns snapshots of all connections, the least recently updated one first.
func (t *Tracker) All() []*Connection {
	all := make([]*Connection, 0, t.Count())
	for element := t.lru.Front(); element != nil; element = element.Next() {
		all = append(all, element.Value.(*entry).Snapshot())
	}
	return all
}

// Count returns how many connections there are.
func (t *Tracker) Count() int { return len(t.entries) }

// End evicts a connection at once, because it is known to be over. It returns nil if there is none.
func (t *Tracker) End(k flow.Key) *Connection {
	element := t.entries[flowKey(&k)]
	if element == nil {
		return nil
	}
	c := t.remove(element)
	t.evict([]*Connection{c})
	return c
}

// Evict removes the connections whose last packet is longer ago than their protocol's idle timeout, then the least
// recently updated ones while there are more than the maximum, and returns them.
//
// It looks only at those in front that were not updated for the shortest timeout, by its own clock, or whose last packet was
// older than that already: a timestamp in the future keeps no other connection than its own.
func (t *Tracker) Evict(now time.Time) []*Connection {
	var evicted []*Connection
	t.swept = now
	shortest := t.shortestIdle()
	for element := t.lru.Front(); element != nil; {
		e, next := element.Value.(*entry), element.Next()
		if now.Sub(e.swept) <= shortest {
			break
		}
		if now.Sub(e.LastSeen) > t.idle(e.key.protocol) {
			evicted = append(evicted, t.remove(element))
		}
		element = next
	}
	for len(t.entries) > t.max {
		evicted = append(evicted, t.remove(t.lru.Front()))
	}
	t.evict(evicted)
	return evicted
}

func (t *Tracker) shortestIdle() time.Duration { return min(t.tcpIdle, t.otherIdle) }

func (t *Tracker) idle(protocol uint8) time.Duration {
	if protocol == unix.IPPROTO_TCP {
		return t.tcpIdle
	}
	return t.otherIdle
}

func (t *Tracker) remove(element *list.Element) *Connection {
	e := t.lru.Remove(element).(*entry)
	delete(t.entries, e.key)
	e.leave()
	return &e.Connection
}

// evict tells of connections that have left the table.
func (t *Tracker) evict(evicted []*Connection) {
	if t.OnEvict == nil {
		return
	}
	for _, c := range evicted {
		t.OnEvict(c)
	}
}
