package deliver

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"weir/internal/spool"
)

// queue holds every batch between its completion and its fate, in memory and on disk, and says which is sent next. It
// keeps the books: whatever enters leaves as delivered or as dropped for a reason.
//
// A batch that waits in memory is live for liveFor, and backlog from then on. A batch whose record is on disk leaves
// memory when that is full, oldest first, and is read back in its turn.
type queue struct {
	maxBytes int64
	maxAge   time.Duration // 0: any
	share    int           // backlog's, of 100 sends while there is live data too
	ordered  bool          // a batch that failed comes before all others
	disk     *disk         // nil without one
	metrics  *metrics
	wake     chan struct{} // has a token when next may have a new answer
	closing  chan struct{} // closed by close

	// Changed with mu, read without by who must not wait for the disk.
	bytes  atomic.Int64 // in memory, those of the batch being filled included
	events atomic.Int64 // likewise
	copies atomic.Int64 // events of the batches in memory whose records are on disk

	mu       sync.Mutex // also held while a batch is written to the disk
	live     lane
	spooled  lane                 // backlog that is on disk too
	alone    lane                 // backlog that is in memory only
	tried    lane                 // what failed and will be tried again, the first to be due first; some of it is on disk only
	again    bool                 // the last of the backlog's sends was of tried, or the last send failed
	inFlight map[*flight]struct{} // the others' bytes may go, these must stay
	from, to spool.Seq            // batches on disk only are those unacknowledged records with from < Seq <= to
	newest   spool.Seq            // record
	failing  bool                 // the disk did not take the last one
	evicted  spool.Seq            // records up to it are on disk no more
	turn     int                  // of 100, see share
	unsaved  int                  // batches that have no record
	closed   bool

	room     *sync.Cond // broadcast when makeRoom may have to wait no longer; with mu
	accepted time.Time  // the last acceptance
	presumed time.Time  // the first event after the queue was empty; zero once a try has failed since
}

const (
	// patience is how long makeRoom trusts in a delivery that accepts nothing.
	patience = 5 * time.Second
	// liveFor is how old live batches are: with the interval after which they are sealed, they are not late yet.
	liveFor = 2 * time.Second
	// stalledWait is how often it is looked whether a disk that hangs answers again.
	stalledWait = time.Second
)

func newQueue(cfg *Config, d *disk) *queue {
	q := &queue{
		maxBytes: cfg.QueueMaxBytes,
		maxAge:   cfg.MaxAge,
		share:    cfg.BacklogShare,
		ordered:  cfg.URL == nil, // a line that was torn is to be completed first
		disk:     d,
		wake:     make(chan struct{}, 1),
		closing:  make(chan struct{}),
		inFlight: make(map[*flight]struct{}),
	}
	q.room = sync.NewCond(&q.mu)
	return q
}

// recover takes in what an earlier life of the agent left on disk.
func (q *queue) recover() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.to = maxSeq
	signal(q.wake)
}

// enter takes an event into the books that is in the batch being filled.
func (q *queue) enter(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.events.Load() == 0 {
		q.presumed = time.Now()
	}
	q.bytes.Add(int64(size))
	q.events.Add(1)
}

// push lets a batch wait that has just been sealed, on disk if there is one, and in memory as long as there is room.
func (q *queue) push(f *flight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unsaved++
	failed := q.failing
	if q.disk != nil {
		q.save(f)
	}
	q.live.push(f)
	if failed && !q.failing {
		q.rescue()
	}
	signal(q.wake)
}

// next takes the batch out that is to be sent now, until release. It may be on disk only. If there is none, next returns
// how long there will be none, unless wake says otherwise.
func (q *queue) next() (f *flight, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.age()
	if f = q.choose(); f != nil {
		q.inFlight[f] = struct{}{}
		return f, 0
	}
	wait = math.MaxInt64
	if q.from < q.to && q.disk.spool.Stalled() {
		wait = stalledWait
	}
	if f := q.tried.front(); f != nil {
		wait = min(wait, time.Until(f.due))
	}
	return nil, wait
}

// choose divides the sends between live batches and the backlog by share. Every other one of the backlog's is of a batch
// that failed before, and is due, unless the last send failed: however many the Brain fails at for reasons of their own,
// they do not stop the rest.
func (q *queue) choose() *flight {
	if q.ordered && len(q.tried) > 0 {
		return q.tried.pop()
	}
	if len(q.live) > 0 {
		if q.turn += q.share; q.turn < 100 {
			return q.live.pop()
		}
		q.turn -= 100
	}
	q.again = !q.again
	if q.again {
		if f := q.dueAgain(); f != nil {
			return f
		}
	}
	if f := q.oldest(); f != nil {
		return f
	}
	if f := q.live.pop(); f != nil {
		return f
	}
	return q.dueAgain()
}

// dueAgain takes the batch out of tried that is to be tried next, if it is time. At the end it is, for what may be sent: the
// sender paces it.
func (q *queue) dueAgain() *flight {
	if f := q.tried.front(); f == nil || q.undue(f) > 0 {
		return nil
	}
	return q.tried.pop()
}

// undue returns how long a batch that failed is not to be tried again.
func (q *queue) undue(f *flight) time.Duration {
	if q.closed && !f.unread {
		return 0
	}
	return max(0, time.Until(f.due))
}

// rests returns how long next would have nothing of what there is now, 0 if all of that is in flight.
func (q *queue) rests() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.tried.front()
	if f == nil || q.ordered || len(q.live)+len(q.spooled)+len(q.alone) > 0 {
		return 0
	}
	if _, ok := q.nextOnDisk(); ok {
		return 0
	}
	return q.undue(f)
}

// oldest takes the oldest of the backlog that was not tried yet.
func (q *queue) oldest() *flight {
	if f := q.onDisk(); f != nil {
		return f
	}
	spooled, alone := q.spooled.front(), q.alone.front()
	if spooled == nil || alone != nil && alone.sealed.Before(spooled.sealed) {
		return q.alone.pop()
	}
	return q.spooled.pop()
}

// onDisk takes the oldest batch that is on disk only, or nil.
func (q *queue) onDisk() *flight {
	seq, ok := q.nextOnDisk()
	if !ok {
		return nil
	}
	q.from = seq
	return &flight{seq: seq}
}

// nextOnDisk returns the position of that batch. While the disk hangs, there is none: all would fail to be read.
func (q *queue) nextOnDisk() (seq spool.Seq, ok bool) {
	for q.from < q.to && !q.disk.spool.Stalled() {
		seq, ok := q.disk.spool.Next(q.from)
		if !ok || seq > q.to {
			q.from, q.to = 0, 0
			break
		}
		if !q.taken(seq) {
			return seq, true
		}
		q.from = seq
	}
	return 0, false
}

// taken says that a record is of a batch that was sent before those around it left memory.
func (q *queue) taken(seq spool.Seq) bool {
	for f := range q.inFlight {
		if f.seq == seq {
			return true
		}
	}
	return slices.ContainsFunc(q.tried, func(f *flight) bool { return f.seq == seq })
}

// age makes backlog of what is live no more.
func (q *queue) age() {
	for f := q.live.front(); f != nil && time.Since(f.sealed) > liveFor; f = q.live.front() {
		q.retire(q.live.pop())
	}
}

func (q *queue) retire(f *flight) {
	if f.seq != 0 {
		q.spooled.push(f)
	} else {
		q.alone.push(f)
	}
}
