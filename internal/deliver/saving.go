package deliver

import (
	"slices"

	"weir/internal/spool"
)

// save writes a batch to the disk that is in memory only and not in flight: what is left of it, which is then all of it.
func (q *queue) save(f *flight) {
	rest := f.part(f.left)
	seq, evicted := q.disk.append(rest, f.sealed)
	q.forget(evicted.Last, int(evicted.Events))
	q.failing = seq == 0
	f.missed = q.failing
	if q.failing {
		return
	}
	if f.Batch != rest {
		f.Batch, f.delivered = rest, 0
	}
	f.seq, q.newest = seq, seq
	q.unsaved--
	q.copies.Add(int64(f.Events))
	if q.to == maxSeq {
		q.to = seq - 1 // what was there before
	}
}

// rescue writes to the disk what it failed to take, oldest first, until it fails again. What it took and gave up for want
// of room is not written twice.
func (q *queue) rescue() {
	before := q.newest
	for _, f := range slices.Concat(q.tried, q.alone, q.live) {
		if !f.missed {
			continue
		}
		if q.save(f); q.failing {
			break
		}
	}
	// Batches leave memory in the order of their records, so those with the newest go behind all others.
	rescued := func(f *flight) bool { return f.seq > before }
	last := slices.DeleteFunc(slices.Concat(q.alone, q.live), func(f *flight) bool { return !rescued(f) })
	q.alone = slices.DeleteFunc(q.alone, rescued)
	q.live = append(slices.DeleteFunc(q.live, rescued), last...)
}

// forget books the records up to last as on disk no more. They held so many events: those in memory too are not lost.
func (q *queue) forget(last spool.Seq, events int) {
	if last == 0 {
		return
	}
	q.evicted = last
	for _, f := range q.inMemory() {
		// Of what has nothing left, all has its fate, or it is yet to be read, in vain.
		if f.left > 0 && f.seq != 0 && f.seq <= last {
			events -= f.Events
			q.copies.Add(-int64(f.Events))
			q.unsaved++
			f.seq = 0
		}
	}
	for f := q.spooled.front(); f != nil && f.seq == 0; f = q.spooled.front() {
		q.alone.push(q.spooled.pop())
	}
	q.metrics.dropped[reasonSpoolFull].Add(float64(events))
}
