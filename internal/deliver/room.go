package deliver

import "time"

// makeRoom brings memory back within its bound after an event of that size was added: what is on disk too leaves at once.
// Otherwise it waits for room, and drops the oldest batches if delivery cannot be trusted to make some. It returns how
// many events it dropped.
func (q *queue) makeRoom(size int) (evicted int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spill()
	if int64(size) <= q.maxBytes {
		q.awaitRoom()
	}
	if q.closed { // what is held may still be delivered
		return 0
	}
	return q.evict()
}

// spill has batches leave memory that are on disk, what failed first, then the oldest.
func (q *queue) spill() {
	for i := 0; q.bytes.Load() > q.maxBytes && i < len(q.tried); i++ {
		if f := q.tried[i]; f.seq != 0 && f.whole() { // a record does not say how far its batch came
			q.leaveMemory(f)
		}
	}
	for q.bytes.Load() > q.maxBytes && len(q.spooled)+len(q.live) > 0 {
		f := q.spooled.pop()
		if f == nil {
			q.retire(q.live.pop())
			continue
		}
		q.to = f.seq
		q.leaveMemory(f)
	}
}

// leaveMemory books a batch as being on disk only.
func (q *queue) leaveMemory(f *flight) {
	if f.Batch == nil {
		return
	}
	q.bytes.Add(-int64(len(f.unsettled)))
	q.events.Add(-int64(f.left))
	q.copies.Add(-int64(f.Events))
	f.Batch, f.unsettled, f.left = nil, nil, 0
}

// awaitRoom waits while memory is full and delivery can be trusted: it accepted something within patience, or it was
// idle until then and has not failed.
func (q *queue) awaitRoom() {
	for q.bytes.Load() > q.maxBytes && !q.closed {
		trusted := q.accepted
		if q.presumed.After(trusted) {
			trusted = q.presumed
		}
		wait := time.Until(trusted.Add(patience))
		if wait <= 0 {
			return
		}
		timer := time.AfterFunc(wait, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.room.Broadcast()
		})
		q.room.Wait()
		timer.Stop()
	}
}

// evict drops the oldest batches until the bound is kept, or until there are only those on the wire, which may be
// delivered already.
func (q *queue) evict() (events int) {
	for q.bytes.Load() > q.maxBytes {
		f := q.victim()
		if f == nil {
			break
		}
		events += f.left
		q.forfeit(f, reasonQueueFull)
	}
	return events
}

// victim takes the oldest batch that is in memory only.
func (q *queue) victim() *flight {
	oldest := q.alone.front()
	for _, f := range q.tried {
		if f.seq == 0 && (oldest == nil || !oldest.sealed.Before(f.sealed)) {
			oldest = f
		}
	}
	switch oldest {
	case nil:
		return q.live.pop() // spill left none there that is on disk
	case q.alone.front():
		return q.alone.pop()
	default:
		q.tried.remove(oldest)
		return oldest
	}
}
