// Package spool is a bounded queue of records on disk. What a record is, is the caller's affair.
//
// It is written through: every record is appended to the newest segment, a file, so that it survives the end of the
// process at once, and a failure of the machine as soon as Policy says. A segment whose records are all acknowledged is
// removed, often before the kernel wrote it to the disk. Records are acknowledged in any order, and delivered at least
// once: acknowledgements are saved every second at most, and a crash forgets those since.
//
// What holds at any time:
//
//   - Every record that Append took can be read until it is settled: acknowledged, evicted or found damaged.
//   - After an Append, the segments together take MaxBytes at most.
//   - Only the newest segment is written to, and only at its end. None is written to again after a restart, or after a
//     failure that leaves in doubt what is in it.
//   - A damaged byte costs no other record than the one that it is in, and each such loss is counted.
//   - What the disk fails to give back is not damaged: it stays where it is, for another try or another start.
//   - Once a spool is open, a disk that hangs holds a caller up for Patience at most, Stats and Collect not at all. It is
//     then a disk that fails, until it has answered.
package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/internal/stall"
)

// Policy says when records are forced to the disk: after each interval of so long, or as one of the constants says.
// What was appended since is lost if the machine fails, never if only the process does.
type Policy time.Duration

// The other values of Policy.
const (
	Always Policy = 0  // before Append returns
	Never  Policy = -1 // when the kernel sees fit, usually within half a minute
)

// Config says where a spool is and how large.
type Config struct {
	Dir          string // made with mode 0700 if it is not there; only one process can have it open
	MaxBytes     int64  // bound on the segments together, at least 64 KiB
	SegmentBytes int64  // of a segment, unless a single record is larger; 0: as defaultSegment says
	Sync         Policy
	FS           FS            // nil: that of OpenDir(Dir). Close closes it
	Patience     time.Duration // with the disk, before it is taken for one that hangs; 0: 4 s
	Log          *zap.Logger
}

// Errors that callers tell apart.
var (
	ErrLocked   = errors.New("another process uses it")
	ErrClosed   = errors.New("the spool is closed")
	ErrTooLarge = errors.New("the record is larger than the spool")
	ErrGone     = errors.New("the record is not in the spool")
	ErrDamaged  = errors.New("the record is damaged")
)

const (
	minMaxBytes     = 64 << 10
	maxSegmentBytes = 1 << 30 // offsets in a segment have 32 bits
	cursorInterval  = time.Second

	// A disk that is merely busy answers sooner. A stop whose time is over when the disk begins to hang takes so much longer.
	defaultPatience = 4 * time.Second
)

// Spool is an open spool. Its methods may be called by several goroutines at a time.
type Spool struct {
	cfg    Config
	fs     FS // guarded once the spool is open
	guard  *stall.Guard
	lock   io.Closer
	closed bool

	shown atomic.Pointer[shown] // read without mu

	mu       sync.Mutex // also held while a record is written, so that records are in order
	segments []*segment // oldest first
	active   *segment   // the last of segments, while it may be written to
	file     File       // active's
	next     Seq        // position of the next record
	settled  spans      // positions that are not to be delivered any more
	unsaved  bool       // the cursor is older than settled
	ahead    bool       // a segment was removed that the cursor does not know to be settled
	unnamed  bool       // a segment was made since the directory was forced to the disk
	scratch  []byte     // a record as it is written

	bytes, records, events int64 // of all segments; of what is not settled
	damaged, evicted       Count
	faults                 [operations]fault
}

// Open opens a spool or makes one, and finds what is in it. Only the heads of records are read: that a payload is
// damaged is found by Read. A segment that cannot be read is left for the next time; if it is the newest or the cursor,
// Open fails, and changes nothing.
func Open(cfg Config) (*Spool, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Spool{cfg: cfg, fs: cfg.FS, guard: stall.New(cmp.Or(cfg.Patience, defaultPatience)), next: 1}
	if err := s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("open the spool %s: %w", cfg.Dir, err)
	}
	s.fs = &guarded{s.fs, s.guard} // not before: a start waits for what an earlier run left
	s.show()
	return s, nil
}

func (c *Config) complete() error {
	if c.MaxBytes < minMaxBytes {
		return fmt.Errorf("spool of %d bytes: want at least %d", c.MaxBytes, minMaxBytes)
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegment(c.MaxBytes)
	}
	if c.SegmentBytes < minMaxBytes/16 || c.SegmentBytes > min(c.MaxBytes/2, maxSegmentBytes) {
		return fmt.Errorf("spool segments of %d bytes: want %d to %d", c.SegmentBytes, minMaxBytes/16, min(c.MaxBytes/2, maxSegmentBytes))
	}
	return nil
}

// defaultSegment is 8 MiB, but a small spool has at least 16 segments, and one above 2 GiB only 256, or as many as it needs
// with the largest that there may be.
func defaultSegment(maxBytes int64) int64 {
	return min(maxBytes/16, max(8<<20, maxBytes/256), maxSegmentBytes)
}

func (s *Spool) open() (err error) {
	if err = os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lock(s.cfg.Dir); err != nil {
		return err
	}
	if s.fs == nil {
		if s.fs, err = OpenDir(s.cfg.Dir); err != nil {
			return err
		}
	}
	return s.recover()
}

// Run forces records to the disk as Policy says, and saves acknowledgements, until ctx ends. Failures are logged and
// counted.
func (s *Spool) Run(ctx context.Context) error {
	cursor := time.NewTicker(cursorInterval)
	defer cursor.Stop()
	var records <-chan time.Time
	if s.cfg.Sync > 0 {
		ticker := time.NewTicker(time.Duration(s.cfg.Sync))
		defer ticker.Stop()
		records = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-cursor.C:
			s.tend()
		case <-records:
			s.syncSegments() // reported
		}
	}
}

// tend saves acknowledgements and lets go of what they leave. Its failures are reported where they happen.
func (s *Spool) tend() {
	s.mu.Lock()
	defer s.unlock()
	if s.closed {
		return
	}
	s.reap() // what could not be removed before
	if s.unsaved {
		s.saveCursor(false)
	}
}

// Sync forces all records and acknowledgements to the disk.
func (s *Spool) Sync() error {
	err := s.syncSegments()
	s.mu.Lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	return errors.Join(err, s.saveCursor(true))
}

// Close forces everything to the disk and lets go of the directory.
func (s *Spool) Close() error {
	err := s.Sync()
	s.mu.Lock()
	defer s.unlock()
	if s.closed {
		return ErrClosed
	}
	s.closed = true
	return errors.Join(err, s.release())
}

// release closes all files.
func (s *Spool) release() error {
	var errs []error
	if s.file != nil {
		errs = append(errs, s.file.Close())
	}
	if s.fs != nil {
		errs = append(errs, s.fs.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.guard.Close(s.lock))
	}
	return errors.Join(errs...)
}

// syncSegments forces to the disk what was written since it did so last, while others append. After a failure nobody
// knows what is on the disk, and trying again would succeed without writing what is missing (fsync(2): the error is
// reported once, the pages are clean then). So nothing more is appended to a segment that this happened to.
func (s *Spool) syncSegments() error {
	s.mu.Lock()
	var dirty []*segment
	for _, g := range s.segments {
		if g.dirty {
			g.dirty = false
			dirty = append(dirty, g)
		}
	}
	newest, unnamed := s.active, s.unnamed
	s.unnamed = false
	s.mu.Unlock()

	var errs []error
	var suspect *segment // the newest of which nobody knows what is on the disk
	for _, g := range dirty {
		if err := s.with(g, File.Sync); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			errs = append(errs, err)
			suspect = g
		}
	}
	if unnamed {
		if err := s.fs.Sync(); err != nil {
			errs = append(errs, err)
			suspect = newest
		}
	}

	s.mu.Lock()
	defer s.unlock()
	err := errors.Join(errs...)
	if len(dirty) > 0 || unnamed { // a disk that was asked for nothing has not shown that it works
		s.report(opSync, err)
	}
	if suspect == s.active {
		s.retire()
	}
	if errors.Is(err, stall.ErrStalled) { // most was not even begun
		for _, g := range dirty {
			g.dirty = true
		}
		s.unnamed = s.unnamed || unnamed
	}
	if err != nil {
		return fmt.Errorf("force the spool to the disk: %w", err)
	}
	return nil
}
