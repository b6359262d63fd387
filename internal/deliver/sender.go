package deliver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// sender decides how many batches are on the wire and when the next may go. All of its state is its run's.
type sender struct {
	*Deliverer

	backoff backoff
	due     time.Time    // of the next send
	round   int          // counts the waits, so that batches that fail together are one failure
	proven  bool         // a batch has had its fate
	flying  int          // batches on the wire
	landed  chan landing // they come back by
	closed  time.Time    // when no more events came
}

// landing is a batch that comes back: with an error, something of it is left to be sent again.
type landing struct {
	flight  *flight
	err     error
	settled bool // something of it has its fate
	round   int  // in which it began
}

// lastCall is how long a stop goes on sending what is safe on disk.
const lastCall = 2 * time.Second

func newSender(d *Deliverer) *sender {
	return &sender{Deliverer: d, landed: make(chan landing, d.concurrency)}
}

// run sends until everything has its fate, or what has not is on disk and the agent stops, or ctx ends.
func (s *sender) run(ctx context.Context) error {
	sending, cancel := context.WithCancel(ctx)
	defer s.clear()
	defer cancel()
	closing := s.queue.closing
	for ctx.Err() == nil {
		wait := s.launch(sending)
		if s.finished() {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case l := <-s.landed:
			if err := s.land(sending, l); err != nil {
				return err
			}
		case <-closing:
			closing = nil // cuts one wait short, not all that follow
			s.due, s.backoff, s.closed = time.Time{}, backoff{}, time.Now()
		case <-s.queue.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// launch sends what may be sent now, and returns how long nothing more may.
func (s *sender) launch(ctx context.Context) time.Duration {
	if wait := time.Until(s.due); wait > 0 {
		return wait
	}
	wait := time.Duration(math.MaxInt64)
	for s.flying < s.limit() {
		f, until := s.queue.next()
		if f == nil {
			wait = until
			break
		}
		s.flying++
		go func(round int) {
			settled, err := s.deliver(ctx, f)
			s.landed <- landing{f, err, settled, round}
		}(s.round)
	}
	if left := time.Until(s.closed.Add(lastCall)); left > 0 { // the stop is looked at again then
		return min(left, wait)
	}
	return wait
}

// limit is how many batches may be on the wire: one, to see if it arrives, while none does.
func (s *sender) limit() int {
	if !s.proven || s.backoff.tries > 0 {
		return 1
	}
	return s.concurrency
}

// finished says that sending ends: all is done, or the agent stops, the rest is safe, and the Brain had its chance.
func (s *sender) finished() bool {
	if s.closed.IsZero() {
		return false
	}
	switch unsaved, saved := s.queue.remaining(); {
	case unsaved:
		return false
	case !saved:
		return true
	default:
		return s.backoff.tries > 0 || time.Since(s.closed) >= lastCall
	}
}

// land books a batch's return. It returns an error if there is no more sending.
func (s *sender) land(ctx context.Context, l landing) error {
	s.flying--
	retry, retried := errors.AsType[*retryableError](l.err)
	var after time.Duration
	if retried {
		after = max(retry.after, retry.cause.rest())
	}
	s.queue.release(l.flight, l.err, after)
	if l.settled {
		s.proven = true
		if l.round == s.round {
			s.due, s.backoff = time.Time{}, backoff{}
		}
	}
	if l.err == nil || ctx.Err() != nil {
		return nil
	}
	if !retried {
		return fmt.Errorf("deliver to %s: %w", s.target, l.err)
	}
	s.metrics.retries[retry.cause].Inc()
	wait := retry.after
	if l.round == s.round {
		s.round++
		if s.backoff.tries > 0 { // another batch may fare better than the first that failed
			wait = after
		}
		wait = s.backoff.next(wait)
	}
	if due := time.Now().Add(wait); due.After(s.due) {
		s.due = due
	}
	s.health.failed(l.err, max(time.Until(s.due), s.queue.rests()))
	return nil
}

// clear takes back what is on the wire when sending was cancelled.
func (s *sender) clear() {
	for ; s.flying > 0; s.flying-- {
		l := <-s.landed
		s.queue.release(l.flight, l.err, 0)
	}
}

// deliver sends what is left of f and books its fate, and reports whether any of it was settled by the sink. On an error
// it can be called again for the rest.
func (s *sender) deliver(ctx context.Context, f *flight) (settled bool, err error) {
	if !s.queue.load(f) {
		return false, nil
	}
	for before := f.left; f.left > 0; {
		if err := ctx.Err(); err != nil {
			return f.left < before, err
		}
		unit := f.unit(s.sink.single())
		s.health.sending()
		if err := s.settle(f, unit, s.sink.send(ctx, unit)); err != nil {
			return f.left < before, err
		}
	}
	return true, nil
}

// settle books what the sink made of a unit of f, and returns an error if it is to be sent again.
func (s *sender) settle(f *flight, unit *Batch, err error) error {
	if partial, ok := errors.AsType[*partialError](err); ok {
		s.queue.accept(f, unit.beginning(partial.accepted))
	}
	refused, isRefused := errors.AsType[*refusedError](err)
	switch {
	case err == nil:
		s.queue.accept(f, unit)
		s.health.accepted()
	case isRefused && refused.reason == reasonTooLarge && unit.Events > 1:
		f.unitEvents = unit.Events / 2
		s.metrics.retries[causeTooLarge].Inc()
	case isRefused:
		s.refuse(f, unit, refused)
	case errors.Is(err, errArrayRefused):
		s.log.Info("the Brain does not take arrays of events, sending them one by one")
	default:
		return err
	}
	return nil
}

// refuse gives a unit up. It is put aside first, so that it is not lost between the two.
func (s *sender) refuse(f *flight, unit *Batch, refused *refusedError) {
	if s.quarantine != nil {
		s.quarantine.keep(unit)
	}
	s.queue.drop(f, unit, refused.reason)
	s.health.refused(refused, unit.Events)
}
