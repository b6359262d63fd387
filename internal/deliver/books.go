package deliver

import (
	"errors"
	"maps"
	"slices"
	"time"

	"weir/internal/spool"
)

// load reads a batch into memory that is on disk only. It reports whether there is anything to send: what cannot be read
// is not there any more, or not now, and what is too old is dropped.
func (q *queue) load(f *flight) bool {
	if f.Batch == nil && !q.read(f) {
		return false
	}
	if q.maxAge > 0 && time.Since(f.sealed) > q.maxAge {
		q.drop(f, &Batch{Lines: f.unsettled, Events: f.left}, reasonExpired)
		return false
	}
	return true
}

// read reads a batch back. One that was evicted meanwhile is in the books as dropped, one that is damaged is in the
// spool's.
func (q *queue) read(f *flight) bool {
	b, sealed, err := q.disk.read(f.seq)
	q.mu.Lock()
	defer q.mu.Unlock()
	f.unread = false
	switch {
	case errors.Is(err, errRecord):
		q.dropRecord(f.seq, reasonUnreadable)
		return false
	case f.seq <= q.evicted, errors.Is(err, spool.ErrGone), errors.Is(err, spool.ErrDamaged):
		return false
	case err != nil:
		f.unread = true
		return false
	}
	f.Batch, f.sealed, f.unsettled, f.left = b, sealed, b.Lines, b.Events
	q.bytes.Add(int64(len(b.Lines)))
	q.events.Add(int64(b.Events))
	q.copies.Add(int64(b.Events))
	return true
}

// dropRecord drops what is on disk only.
func (q *queue) dropRecord(seq spool.Seq, reason dropReason) {
	before := q.disk.events()
	q.disk.spool.Ack(seq)
	q.metrics.dropped[reason].Add(float64(before - q.disk.events()))
}

// accept books a unit of f, which is in flight, as delivered.
func (q *queue) accept(f *flight, u *Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f.delivered += u.Events
	q.accepted = time.Now()
	q.metrics.delivered.Add(float64(u.Events))
	q.metrics.lastSuccess.SetToCurrentTime()
	q.settle(f, u)
}

// drop books a unit of f, which is in flight, as dropped.
func (q *queue) drop(f *flight, u *Batch, reason dropReason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.metrics.dropped[reason].Add(float64(u.Events))
	q.settle(f, u)
}

// forfeit drops what is left of f, which is in memory only.
func (q *queue) forfeit(f *flight, reason dropReason) {
	q.metrics.dropped[reason].Add(float64(f.left))
	q.settle(f, &Batch{Lines: f.unsettled, Events: f.left})
}

// settle takes a unit off the books, and the batch off the disk with its last one.
func (q *queue) settle(f *flight, u *Batch) {
	q.bytes.Add(-int64(len(u.Lines)))
	q.events.Add(-int64(u.Events))
	f.settle(u)
	q.room.Broadcast()
	if f.left > 0 {
		return
	}
	q.metrics.batches[f.outcome()].Inc()
	if f.seq == 0 {
		q.unsaved--
		return
	}
	q.copies.Add(-int64(f.Events))
	q.disk.spool.Ack(f.seq)
}

// release takes back what next gave out, and keeps what is left of it for another try, not before after.
func (q *queue) release(f *flight, err error, after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.inFlight, f)
	if err != nil {
		q.presumed = time.Time{}
		q.again = true // the next is one that has not failed
		q.room.Broadcast()
	}
	if f.left > 0 || f.unread {
		if f.missed && !q.failing {
			q.save(f)
		}
		f.due = time.Now().Add(f.backoff.next(after))
		q.tried.insert(f)
	}
}

// inMemory returns all batches that are, or will be once they are loaded.
func (q *queue) inMemory() []*flight {
	all := slices.Collect(maps.Keys(q.inFlight))
	return slices.Concat(all, q.tried, q.alone, q.spooled, q.live)
}

// remaining says whether there are batches in memory only, and whether there are any on disk.
func (q *queue) remaining() (unsaved, saved bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.unsaved > 0, q.disk != nil && q.disk.events() > 0
}

// close says that no more batches come: nobody waits for room any more, and the disk is tried once more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		if q.failing {
			q.rescue()
		}
		q.room.Broadcast()
		close(q.closing)
	}
}

// abandon drops what is in memory only, and leaves the rest on disk. Nothing is in flight.
func (q *queue) abandon() (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failing {
		q.rescue()
	}
	for _, l := range []*lane{&q.tried, &q.alone, &q.spooled, &q.live} {
		for f := l.pop(); f != nil; f = l.pop() {
			if f.seq != 0 {
				q.leaveMemory(f)
				continue
			}
			dropped += f.left
			q.forfeit(f, reasonShutdown)
		}
	}
	return dropped
}

// held returns what is in memory, in bytes, and all that has no fate yet, in events. It waits for no disk, so while batches
// move between memory and disk they may count twice, or not at all.
func (q *queue) held() (bytes int64, events int) {
	bytes, events = q.bytes.Load(), int(q.events.Load())
	if q.disk != nil {
		events += q.disk.events() - int(q.copies.Load())
	}
	return bytes, max(0, events)
}
