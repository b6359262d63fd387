package deliver

import (
	"bytes"
	"fmt"
	"time"

	"weir/internal/spool"
)

// Batch is a number of events that travel together. It does not change once it is made.
type Batch struct {
	ID     string // unique to the batch, the same whenever it is resent; letters, digits and hyphens
	Lines  []byte // one JSON object and a newline for each event
	Events int
}

// beginning returns the part of b that is in lines, the first of its own.
func (b *Batch) beginning(lines []byte) *Batch {
	return &Batch{ID: b.ID, Lines: lines, Events: bytes.Count(lines, []byte{'\n'})}
}

// flight is a batch on its way, and how far it came, so that a retry resumes where the last try ended.
type flight struct {
	*Batch               // nil while it is only on disk
	sealed     time.Time // when it was complete
	seq        spool.Seq // of its record on disk; 0 if it has none
	unsettled  []byte    // the lines whose fate is open
	left       int       // the events in them
	delivered  int       // the events that were accepted; the others outside unsettled were dropped
	unitEvents int       // events that may be sent at once; 0: all

	unread  bool      // the disk failed to give it back, and may another time
	missed  bool      // the disk failed to take it, and did not since
	backoff backoff   // of its own failures
	due     time.Time // not to be tried again before
}

func newFlight(b *Batch, sealed time.Time) *flight {
	return &flight{Batch: b, sealed: sealed, unsettled: b.Lines, left: b.Events}
}

// whole says that all of the batch is in memory and open, as in its record.
func (f *flight) whole() bool { return f.Batch != nil && f.left == f.Events }

// unit returns what is to be sent next: all that is open, or as much as may be sent at once.
func (f *flight) unit(single bool) *Batch {
	events := f.left
	if f.unitEvents > 0 {
		events = min(events, f.unitEvents)
	}
	if single {
		events = 1
	}
	return f.part(events)
}

// part returns the next events that are open. Unless it is all of the batch, it has a key of its own, which says where in
// the batch it is, so it is the same in a later life of the agent.
func (f *flight) part(events int) *Batch {
	if events == f.Events {
		return f.Batch
	}
	lines := f.unsettled
	if events < f.left {
		lines = lines[:endOfLine(lines, events)]
	}
	return &Batch{ID: fmt.Sprintf("%s-%d-%d", f.ID, f.Events-f.left, events), Lines: lines, Events: events}
}

// endOfLine returns where the nth of some lines ends.
func endOfLine(lines []byte, n int) (end int) {
	for range n {
		end += bytes.IndexByte(lines[end:], '\n') + 1
	}
	return end
}

// settle takes a unit whose fate is known off the flight.
func (f *flight) settle(u *Batch) {
	f.unsettled = f.unsettled[len(u.Lines):]
	f.left -= u.Events
}

func (f *flight) outcome() outcome {
	switch f.delivered {
	case f.Events:
		return outcomeDelivered
	case 0:
		return outcomeDropped
	default:
		return outcomePartial
	}
}
