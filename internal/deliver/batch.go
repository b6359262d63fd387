package deliver

import (
	"bytes"
	"strconv"
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

// flight is a batch that is being delivered, and how far it came, so that a retry resumes where the last try ended.
type flight struct {
	*Batch
	rest      []byte // the lines whose fate is still open
	left      int    // the events in rest
	delivered int    // the events that were accepted; the others outside rest were dropped
}

func newFlight(b *Batch) *flight {
	return &flight{Batch: b, rest: b.Lines, left: b.Events}
}

// unit returns what is to be sent next: all that is open, or, where single, its first event under a key of its own.
func (f *flight) unit(single bool) *Batch {
	if !single {
		return &Batch{ID: f.ID, Lines: f.rest, Events: f.left}
	}
	return &Batch{
		ID:     f.ID + "-" + strconv.Itoa(f.Events-f.left),
		Lines:  f.rest[:bytes.IndexByte(f.rest, '\n')+1],
		Events: 1,
	}
}

// settle takes a unit whose fate is known off the flight.
func (f *flight) settle(u *Batch) {
	f.rest = f.rest[len(u.Lines):]
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
