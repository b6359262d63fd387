// Package deliver brings FlowEvents to the Brain, to standard output or to a file: it gathers them in batches, holds
// what cannot be sent yet within a bound, and sends each batch until it is accepted, refused or pushed out by newer
// ones. Every event ends as delivered or as dropped for a reason, and is counted as that:
//
//	added = delivered + dropped + held
package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/flow"
)

// sink is where batches go.
type sink interface {
	open() error

	// send returns nil if all of the batch was accepted, a *retryableError or a *refusedError if nothing of it was. After
	// errArrayRefused single has a new answer. Any other error means that there is no more sending. If the beginning of
	// the batch was accepted, the error is within a *partialError.
	send(ctx context.Context, b *Batch) error

	// single says that a batch must hold one event. Once true it stays true.
	single() bool

	close() error
}

// Deliverer takes events by Add and sends them in Run, after Open.
type Deliverer struct {
	queue   *queue
	sink    sink
	where   string // the endpoint, fit for logs
	target  string // what the endpoint is, in messages
	metrics *metrics
	health  *health
	log     *zap.Logger
	backoff backoff // Run's
}

// New returns a Deliverer that has not opened anything. It fails if the configuration is wrong or if reg has its
// metrics already.
func New(cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Deliverer, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure delivery: %w", err)
	}
	q := newQueue(&cfg)
	m, err := newMetrics(reg, q.held)
	if err != nil {
		return nil, err
	}
	q.metrics = m
	s, target, err := cfg.sink(m)
	if err != nil {
		return nil, fmt.Errorf("configure delivery: %w", err)
	}
	h := &health{log: log, target: target, held: q.held}
	return &Deliverer{queue: q, sink: s, where: cfg.where(), target: target, metrics: m, health: h, log: log}, nil
}

// Open opens what events are written to, and fails at once if that cannot be done. It is called once, before Run, which
// closes it again: if there is nothing to run after all, call Run with a context that is done.
func (d *Deliverer) Open() error {
	if err := d.sink.open(); err != nil {
		return fmt.Errorf("start delivery: %w", err)
	}
	d.log.Info("delivery opened", zap.String("endpoint", d.where))
	return nil
}

// Add encodes an event into the batch being filled, and does not keep e. It may run beside Run.
//
// If the queue is full, Add waits for room as long as delivery makes progress, so a Brain that is slower than the
// kernel slows the caller to its own pace, and the kernel's map holds the rest. Once nothing has been accepted for 5
// seconds (a delivery that had nothing to send counts them from the first event, and has none left if its first send
// fails), Add no longer waits, and drops the oldest events in favour of new ones, until something is accepted again.
//
// After Close, or once Run has returned, Add never waits, and the event is dropped.
func (d *Deliverer) Add(e *flow.Event) {
	if evicted := d.queue.add(e); evicted > 0 {
		d.health.evicted(evicted)
	}
}

// Seal lets no more events into the batch being filled: it is sent as soon as it can be.
func (d *Deliverer) Seal() {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	if d.queue.filled > 0 {
		d.queue.seal()
	}
}

// Close says that no more events come. What is held is sent at once, even if a retry was not due yet: there may not be
// much time left.
func (d *Deliverer) Close() {
	d.queue.close()
}

// Status says whether events get through, and why not. They do not if for 10 seconds, since the beginning of a send,
// nothing was accepted: it has had no answer, or it and all later ones failed or were refused. A refusal is forgotten a
// minute after the last one, as nothing is left to be accepted. The reason holds no secrets and nothing unprintable.
func (d *Deliverer) Status() (ok bool, reason string) {
	return d.health.status()
}

// Run sends until Close was called and nothing is held, or until ctx is done, closes what Open opened and returns nil.
// What is held then is dropped for the reason shutdown. It returns an error if the sink is gone for good. Run may be
// called once.
func (d *Deliverer) Run(ctx context.Context) (err error) {
	defer d.abandon()
	defer func() {
		if closeErr := d.sink.close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", d.target, closeErr))
		}
	}()
	closing := d.queue.closing
	for ctx.Err() == nil {
		f, idle, drained := d.queue.next()
		if drained {
			return nil
		}
		if f == nil {
			pause(ctx, idle, d.queue.wake)
			continue
		}
		err := d.deliver(ctx, f)
		d.queue.release(err != nil)
		if err == nil || ctx.Err() != nil {
			continue
		}
		retry, ok := errors.AsType[*retryableError](err)
		if !ok {
			return fmt.Errorf("deliver to %s: %w", d.target, err)
		}
		wait := d.backoff.next(retry.after)
		d.metrics.retries[retry.cause].Inc()
		d.health.failed(err, wait)
		if pause(ctx, wait, closing) {
			closing = nil // cuts one wait short, not all that follow
			d.backoff = backoff{}
		}
	}
	return nil
}

// deliver sends what is left of f and books its fate. On an error it can be called again for the rest.
func (d *Deliverer) deliver(ctx context.Context, f *flight) error {
	for f.left > 0 {
		unit := f.unit(d.sink.single())
		d.health.sending()
		err := d.sink.send(ctx, unit)
		if partial, ok := errors.AsType[*partialError](err); ok {
			d.queue.accept(f, unit.beginning(partial.accepted))
		}
		refused, isRefused := errors.AsType[*refusedError](err)
		switch {
		case err == nil:
			d.queue.accept(f, unit)
			d.health.accepted()
		case isRefused:
			d.queue.drop(f, unit, refused.reason)
			d.health.refused(err, unit.Events)
		case errors.Is(err, errArrayRefused):
			d.log.Info("the Brain does not take arrays of events, sending them one by one")
		default:
			return err
		}
		d.backoff = backoff{}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (d *Deliverer) abandon() {
	if events := d.queue.abandon(); events > 0 {
		d.log.Warn("stopped with events undelivered, dropped", zap.Int("events", events))
	}
}

// pause waits for a time, and reports whether wake ended it.
func pause(ctx context.Context, wait time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-wake:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}
