package deliver

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/stall"
)

// quarantine is a file of the events that the Brain refused, one JSON object a line, so that they can be looked into,
// and posted again. When it is full, or its disk fails or hangs, what is refused is dropped.
type quarantine struct {
	path string
	sync func(*os.File) error // after each batch; nil: nothing is done
	kept prometheus.Counter   // events
	log  *zap.Logger

	guard *stall.Guard // a sender must not wait for a disk that hangs

	mu      sync.Mutex // held while writing
	reports throttle
}

const (
	maxQuarantine      = 64 << 20 // bytes of the file
	quarantinePatience = 4 * time.Second
)

func newQuarantine(cfg *Config, kept prometheus.Counter, log *zap.Logger) *quarantine {
	return &quarantine{
		path: cfg.QuarantinePath, sync: cfg.syncer(), kept: kept, log: log, guard: stall.New(quarantinePatience),
	}
}

var errQuarantineFull = errors.New("it is full: move it away")

// keep writes a batch. The file is opened each time, as it may be moved away, and refusals are rare.
func (q *quarantine) keep(b *Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.guard.Do(func() error { return q.write(b.Lines) })
	if err == nil {
		q.kept.Add(float64(b.Events))
		return
	}
	if events, ok := q.reports.allow(time.Now(), b.Events); ok {
		q.log.Warn("refused events cannot be put aside", zap.String("file", q.path), zap.Error(err),
			zap.Int("events_since_last_report", events))
	}
}

func (q *quarantine) write(lines []byte) (err error) {
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	file, err := os.OpenFile(q.path, flags, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size()+int64(len(lines)) > maxQuarantine {
		return errQuarantineFull
	}
	if n, err := file.Write(lines); err != nil {
		// A line that is torn would spoil the next one.
		return errors.Join(fmt.Errorf("after %d of %d bytes: %w", n, len(lines), err), file.Truncate(info.Size()))
	}
	if q.sync != nil {
		return q.sync(file)
	}
	return nil
}
