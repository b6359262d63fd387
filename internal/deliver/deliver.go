// Package deliver brings FlowEvents to the Brain, to standard output or to a file: it gathers them in batches, keeps
// these on disk if it is told where, holds what cannot be sent yet within a bound, and sends each batch until it is
// accepted, refused or pushed out by newer ones. Every event ends as delivered or as dropped for a reason, and is counted
// as that:
//
//	added + recovered = delivered + dropped + damaged + held
//
// where recovered are those that an earlier run of the agent left on disk, and damaged those that the disk lost.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/flow"
)

// sink is where batches go. Several may be sent at a time.
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
	batcher     *batcher
	queue       *queue
	disk        *disk // nil without one
	sink        sink
	quarantine  *quarantine // nil without one
	concurrency int
	where       string // the endpoint, fit for logs
	target      string // what the endpoint is, in messages
	metrics     *metrics
	health      *health
	log         *zap.Logger
	reg         prometheus.Registerer
}

// New returns a Deliverer that has not opened anything. It fails if the configuration is wrong or if reg has its
// metrics already.
func New(cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Deliverer, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure delivery: %w", err)
	}
	d := &Deliverer{concurrency: cfg.concurrency(), where: cfg.where(), log: log, reg: reg}
	if cfg.Spool != nil {
		d.disk = &disk{cfg: *cfg.Spool}
		d.disk.cfg.Log = log
	}
	d.queue = newQueue(&cfg, d.disk)
	d.batcher = newBatcher(&cfg, d.queue)
	var err error
	if d.metrics, err = newMetrics(reg, d.queue.held); err != nil {
		return nil, err
	}
	d.queue.metrics = d.metrics
	if d.sink, d.target, err = cfg.sink(d.metrics, log); err != nil {
		return nil, fmt.Errorf("configure delivery: %w", err)
	}
	if cfg.QuarantinePath != "" {
		d.quarantine = newQuarantine(&cfg, d.metrics.quarantined, log)
	}
	d.health = &health{log: log, target: d.target, held: d.queue.held}
	return d, nil
}

// Open opens what events are written to, and what is left of an earlier run, and fails at once if that cannot be done. It
// is called once, before Run, which closes it again: if there is nothing to run after all, call Run with a context that
// is done.
func (d *Deliverer) Open() error {
	if err := d.sink.open(); err != nil {
		return fmt.Errorf("start delivery: %w", err)
	}
	if d.disk != nil {
		recovered, err := d.disk.open(d.reg)
		if err != nil {
			return errors.Join(fmt.Errorf("start delivery: %w", err), d.sink.close())
		}
		d.metrics.recovered.Add(float64(recovered))
		d.queue.recover()
	}
	d.log.Info("delivery opened", zap.String("endpoint", d.where))
	return nil
}

// Add encodes an event into the batch being filled, and does not keep e. It may run beside Run, after Open.
//
// With a disk that works, Add never waits for the Brain. Otherwise, if memory is full, it waits for room as long as
// delivery makes progress, so a Brain that is slower than the kernel slows the caller to its own pace, and the kernel's
// map holds the rest. Once nothing has been accepted for 5 seconds (a delivery that had nothing to send counts them from
// the first event, and has none left if its first send fails), Add no longer waits, and drops the oldest events in favour
// of new ones, until something is accepted again.
//
// After Close, or once Run has returned, Add never waits, and the event is dropped.
func (d *Deliverer) Add(e *flow.Event) {
	size := d.batcher.add(e)
	if size == 0 {
		return
	}
	if evicted := d.queue.makeRoom(size); evicted > 0 {
		d.health.evicted(evicted)
	}
}

// Seal lets no more events into the batch being filled: it is sent as soon as it can be.
func (d *Deliverer) Seal() { d.batcher.sealNow() }

// Close says that no more events come. What is held is sent at once, even if a retry was not due yet: there may not be
// much time left.
func (d *Deliverer) Close() {
	d.batcher.close()
	d.queue.close()
}

// Status says whether events get through, and why not. They do not if for 10 seconds, since the beginning of a send,
// nothing was accepted: it has had no answer, or it and all later ones failed or were refused. A refusal is forgotten a
// minute after the last one, as nothing is left to be accepted. The reason holds no secrets and nothing unprintable.
func (d *Deliverer) Status() (ok bool, reason string) {
	return d.health.status()
}

// SpoolStatus says whether events are written to the disk before they are sent, and why not; used is false if they are
// not to be.
func (d *Deliverer) SpoolStatus() (used, ok bool, reason string) {
	if d.disk == nil {
		return false, true, ""
	}
	ok, reason = d.disk.status()
	return true, ok, reason
}

// Left is what has no fate yet, in events.
type Left struct {
	Memory int // nowhere else: lost if the process ends now
	Spool  int // on disk: the next start's
}

// Left returns what there is. It does not wait for anything.
func (d *Deliverer) Left() Left {
	_, events := d.queue.held()
	var left Left
	if d.disk != nil {
		left.Spool = min(d.disk.events(), events) // what was accepted in part is wholly on disk
	}
	left.Memory = events - left.Spool
	return left
}

// Run sends until Close was called and nothing is held, or until ctx is done, closes what Open opened and returns nil.
// What is in memory then is dropped for the reason shutdown. What is on disk stays there for the next run: when Close was
// called and only that is left, Run ends after a failure, or after 2 seconds. It returns an error if the sink is gone for
// good. Run may be called once.
func (d *Deliverer) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.end(err)) }()
	tending, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	defer d.Close() // frees what waits for room
	tasks.Go(func() { d.batcher.run(tending) })
	if d.disk != nil && d.disk.spool != nil {
		tasks.Go(func() { _ = d.disk.spool.Run(tending) }) // it logs and counts its failures
	}
	return newSender(d).run(ctx)
}

// end leaves what is on disk there, drops the rest, and closes everything. fatal is why there is no more sending, if not for
// a stop.
func (d *Deliverer) end(fatal error) error {
	d.Close()
	if events := d.queue.abandon(); events > 0 {
		d.health.abandoned(events, fatal)
	}
	var errs []error
	if err := d.sink.close(); err != nil {
		errs = append(errs, fmt.Errorf("close %s: %w", d.target, err))
	}
	if d.disk != nil {
		errs = append(errs, d.disk.close(d.log))
	}
	return errors.Join(errs...)
}

// pause waits for a time, or until there is a token in wake.
func pause(ctx context.Context, wait time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}
