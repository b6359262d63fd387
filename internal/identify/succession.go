package identify

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/flow"
	"weir/internal/tracker"
)

// Which connection a sample or a record is of, is not told by its ports alone: they serve one after the other, and what was idle for
// long is handed over as if it were over, and may go on.

// rest is how much longer a TCP connection is known than the kernel side waits with its next record: browsers keep one that is idle for
// 5 minutes.
const rest = 10 * time.Minute

// tick is how much earlier than a sample the same packet can be in a record, with Linux's coarsest (CONFIG_HZ=100).
const tick = 10 * time.Millisecond

// former is a connection whose ports serve another one, until its last record has come.
type former struct {
	*tracker.Connection
	*talk
}

// replace has a connection that was first seen at a time take the place of the one between the same ports.
func (i *Identifier) replace(c *tracker.Connection, t *talk, ns uint64) {
	i.release(t)
	t.absorb(c) // nobody waits for the one before any more
	old := *t
	old.GiveUp()
	*t = talk{Conversation: Conversation{methods: t.methods}, v6: t.v6, begunNs: ns, former: &former{c.Split(), &old}}
}

// absorb has what was found of the former connection be found of this one, where one record tells of both.
func (t *talk) absorb(c *tracker.Connection) {
	if t.former == nil {
		return
	}
	c.Absorb(t.former.Connection)
	t.bad, t.news = cmp.Or(t.former.bad, t.bad), cmp.Or(t.former.news, t.news)
	t.former = nil
}

// isFormer says whether a record is of the connection that had the ports before: its last packet came before the first one of this.
func (t *talk) isFormer(r *flow.Record) bool {
	return t.former != nil && lastNs(r)+uint64(tick) < t.begunNs
}

func lastNs(r *flow.Record) uint64 { return max(r.Halves[0].LastNs, r.Halves[1].LastNs) }

// rest says whether a connection is still known after a record that should be its last, since it may go on: then that is seen by its
// having no SYN. Others can take the ports of UDP unseen, and those of TCP where packets are left out.
func (t *talk) rest(r *flow.Record) bool {
	t.resting = r.EndReason == flow.EndIdle && r.Key.Protocol == unix.IPPROTO_TCP && r.SamplingRate == 1 && t.answered(r.Key)
	return t.resting
}

// wake has a connection that was idle go on. The kernel side counts what its ends send from where it saw them again.
func (t *talk) wake() {
	if t.resting {
		t.resting, t.streams = false, [2]stream{}
	}
}
