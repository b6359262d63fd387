package deliver

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/stall"
)

// maxSeq is above the position of any record.
const maxSeq spool.Seq = math.MaxUint64

// disk keeps batches in a spool. Every batch is written to it, whether the Brain is up or not: what is acknowledged soon
// is never read back, and removed before the kernel has written it out.
type disk struct {
	cfg   spool.Config
	spool *spool.Spool // once it is open
	buf   []byte       // append's

	mu    sync.Mutex
	fault error // of the last append
}

// open returns how many events an earlier run left, those that have been lost since included.
func (d *disk) open(reg prometheus.Registerer) (recovered int, err error) {
	if d.spool, err = spool.Open(d.cfg); err != nil {
		return 0, err
	}
	if err := reg.Register(d.spool); err != nil {
		err = errors.Join(fmt.Errorf("register the spool's metrics: %w", err), d.spool.Close())
		d.spool = nil
		return 0, err
	}
	stats := d.spool.Stats()
	return int(stats.Pending.Events + stats.Damaged.Events), nil
}

// append writes a batch and returns its position, or 0 if that fails: the next one is tried again.
func (d *disk) append(b *Batch, sealed time.Time) (spool.Seq, spool.Eviction) {
	d.buf = appendRecord(d.buf[:0], b, sealed)
	seq, evicted, err := d.spool.Append(d.buf, b.Events)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault = err; err != nil {
		return 0, evicted
	}
	return seq, evicted
}

// read returns the batch of a record.
func (d *disk) read(seq spool.Seq) (*Batch, time.Time, error) {
	record, err := d.spool.Read(seq)
	if err != nil {
		return nil, time.Time{}, err
	}
	return parseRecord(record)
}

// close leaves what waits for the next run of the agent.
func (d *disk) close(log *zap.Logger) error {
	if d.spool == nil {
		return nil
	}
	if events := d.events(); events > 0 {
		log.Info("stopped with events in the spool, for the next start", zap.Int("events", events))
	}
	if err := d.spool.Close(); err != nil {
		return fmt.Errorf("close the spool: %w", err)
	}
	return nil
}

// events returns how many events are in records that wait.
func (d *disk) events() int {
	if d.spool == nil {
		return 0
	}
	return int(d.spool.Stats().Pending.Events)
}

const inMemoryOnly = "events are held in memory only: "

// status says whether batches can be written, and why not.
func (d *disk) status() (ok bool, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.spool.Stalled():
		return false, inMemoryOnly + stall.ErrStalled.Error()
	case d.fault != nil:
		return false, inMemoryOnly + printable(d.fault.Error())
	case d.spool.Stats().Failing:
		return false, "events are written, but may not outlive this machine: the disk fails, as the log says"
	default:
		return true, "spooling"
	}
}
