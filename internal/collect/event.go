package collect

import (
	"time"

	"weir/internal/flow"
)

// heartbeat is after how many events the collector shows that it works: the sink may throttle it to the Brain's pace.
const heartbeat = 16

// record makes one or two events of a record.
func (c *Collector) record(r *flow.Record) {
	c.identity = c.identifier.Describe(r)
	if c.cfg.Connections {
		c.connection(r, source(r))
		return
	}
	if !empty(&r.Halves[0]) {
		c.direction(r, 0, empty(&r.Halves[1]))
	}
	if !empty(&r.Halves[1]) {
		c.direction(r, 1, true)
	}
}

// direction emits what end i of the record sent, which may be the last that the record has to tell.
func (c *Collector) direction(r *flow.Record, i int, last bool) {
	half := &r.Halves[i]
	e := c.event(r, i)
	e.Start, e.End = c.wall(half.FirstNs), c.wall(half.LastNs)
	e.Interface = c.host.InterfaceName(r.Key.Netns, half.IfIndex)
	c.send(e, last)
}

// connection emits both directions as one event, told from the side of end i.
func (c *Collector) connection(r *flow.Record, i int) {
	there, back := &r.Halves[i], &r.Halves[1-i]
	e := c.event(r, i)
	c.reverse = flow.Counts{Packets: back.Packets, Bytes: back.Bytes, TCPFlags: back.TCPFlags}
	e.Reverse = &c.reverse
	first, last := there.FirstNs, there.LastNs
	ifindex := there.IfIndex
	switch {
	case empty(there):
		first, last, ifindex = back.FirstNs, back.LastNs, back.IfIndex
	case !empty(back):
		first, last = min(first, back.FirstNs), max(last, back.LastNs)
	}
	e.Start, e.End = c.wall(first), c.wall(last)
	e.Interface = c.host.InterfaceName(r.Key.Netns, ifindex)
	c.send(e, true)
}

// event fills in what both shapes share, with end i as the source. There is one event at a time, so it is always the
// same.
func (c *Collector) event(r *flow.Record, i int) *flow.Event {
	src, dst, netns := r.Key.Ends[i], r.Key.Ends[1-i], r.Key.Netns
	half := &r.Halves[i]
	c.next = flow.Event{
		ID:           r.ID,
		Src:          src,
		Dst:          dst,
		Protocol:     r.Key.Protocol,
		Direction:    flow.DirectionOf(c.host.Local(netns, src.Addr()), c.host.Local(netns, dst.Addr())),
		Hostname:     c.cfg.Hostname,
		Counts:       flow.Counts{Packets: half.Packets, Bytes: half.Bytes, TCPFlags: half.TCPFlags},
		EndReason:    r.EndReason,
		Initiator:    opened(r.Initiator, i),
		SamplingRate: r.SamplingRate,
		VLAN:         r.VLAN,
		Netns:        c.host.NamespaceName(netns),
		Identity:     c.identity,
	}
	if t := r.Tunnel; t != nil {
		c.next.TunnelKind, c.next.TunnelID = t.Kind, t.ID
		c.next.OuterSrc, c.next.OuterDst = t.Outer(i)
	}
	return &c.next
}

func (c *Collector) send(e *flow.Event, last bool) {
	if last {
		e.ID.Sequence++
	}
	c.metrics.events[e.EndReason].Inc()
	c.sink.Add(e)
	c.sent++
	if c.sent%heartbeat == 0 {
		c.worked.Store(time.Now().UnixNano())
	}
}

func (c *Collector) wall(mono uint64) time.Time { return c.epoch.Add(time.Duration(mono)) }

// empty says whether a direction has nothing to tell. Bytes can come without a packet: many are carried over at a time, and a
// hand-over may fall between.
func empty(h *flow.Half) bool { return h.Packets == 0 && h.Bytes == 0 }

// opened says whether end i opened the connection.
func opened(by flow.Initiator, i int) flow.Opened {
	switch {
	case by == flow.InitiatorUnknown:
		return flow.OpenedUnknown
	case by == flow.InitiatorEnd0 == (i == 0):
		return flow.OpenedBySrc
	default:
		return flow.OpenedByDst
	}
}

// source returns the end from whose side a connection is told: the one that opened it or, if that is not known, the one
// with the higher port, which is the client's as a rule. It is the same for every delta of a connection.
func source(r *flow.Record) int {
	switch {
	case r.Initiator == flow.InitiatorEnd0:
		return 0
	case r.Initiator == flow.InitiatorEnd1:
		return 1
	case r.Key.Ends[1].Port() > r.Key.Ends[0].Port():
		return 1
	default:
		return 0
	}
}
