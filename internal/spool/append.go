package spool

import (
	"fmt"
	"math"
	"time"
)

// Eviction tells what Append dropped to make room: the oldest records, up to Last. Those of them that had been settled
// before are not counted.
type Eviction struct {
	Last Seq // 0: nothing was dropped
	Count
}

// Append adds a record, which the caller says holds so many events, and returns its position. If it fails, the record
// is not in the spool; unless the error is ErrTooLarge or ErrClosed, it may succeed another time. Whether it fails or
// not, it may have evicted records. The error wraps that of the system, such as ENOSPC.
func (s *Spool) Append(record []byte, events int) (Seq, Eviction, error) {
	s.mu.Lock()
	defer s.unlock()
	if s.closed {
		return 0, Eviction{}, ErrClosed
	}
	if segmentHeaderSize+recordHeaderSize+int64(len(record)) > min(s.cfg.MaxBytes, maxSegmentBytes) {
		return 0, Eviction{}, fmt.Errorf("append %d bytes: %w", len(record), ErrTooLarge)
	}
	h := recordHeader{
		length: uint32(len(record)),
		sum:    checksum(record),
		events: uint32(min(max(events, 0), math.MaxUint32)),
		time:   time.Now().UnixNano(),
	}
	seq, evicted, err := s.append(&h, record)
	s.report(opAppend, err)
	if err != nil {
		err = fmt.Errorf("append to the spool: %w", err)
	}
	return seq, evicted, err
}

func (s *Spool) append(h *recordHeader, record []byte) (Seq, Eviction, error) {
	size := recordHeaderSize + int64(len(record))
	g, err := s.writable(size)
	if err != nil {
		return 0, Eviction{}, err
	}
	evicted, err := s.makeRoom(size)
	if err != nil {
		return 0, evicted, err
	}
	h.seq = s.next
	s.scratch = append(h.append(s.scratch[:0]), record...)
	if err := s.write(g, s.scratch); err != nil {
		return 0, evicted, err
	}
	g.entries = append(g.entries, newEntry(h, g.size))
	g.left++
	g.size += size
	s.next++
	s.bytes += size
	s.records++
	s.events += int64(h.events)
	return h.seq, evicted, nil
}

// writable returns the segment for a record of so many bytes, header included.
func (s *Spool) writable(size int64) (*segment, error) {
	if g := s.active; g != nil && (g.size == segmentHeaderSize || g.size+size <= s.cfg.SegmentBytes) {
		return g, nil
	}
	g, file, err := s.create(s.next)
	if err != nil {
		return nil, err
	}
	s.retire()
	s.segments = append(s.segments, g)
	s.active, s.file = g, file
	s.bytes += g.size
	s.unnamed = true
	s.reap() // the last one may have stayed for its name alone
	return g, nil
}

// makeRoom removes the oldest segments until so many bytes more are allowed.
func (s *Spool) makeRoom(size int64) (Eviction, error) {
	var total Eviction
	for s.bytes+size > s.cfg.MaxBytes && len(s.segments) > 1 {
		g := s.segments[0]
		if err := s.remove(g); err != nil {
			return total, err
		}
		for _, e := range g.entries {
			if s.settle(g, e) {
				total.add(e)
				s.evicted.add(e)
			}
			total.Last = max(total.Last, e.seq)
		}
		s.giveUp(g.doubt)
	}
	if total.Records > 0 {
		s.saveCursor(false) // after the removal: what a crash leaves open is counted as damaged, not forgotten
	}
	return total, nil
}

// write puts a record at the end of a segment. If that fails the record is cut off again, so that its position can be
// used; where that is impossible, or it is unknown what reached the disk, both the segment and the position are given up.
func (s *Spool) write(g *segment, record []byte) error {
	_, err := s.file.WriteAt(record, g.size)
	if err != nil {
		s.scratch = nil // a disk that hangs may read it yet
		if s.file.Truncate(g.size) != nil {
			s.abandon()
		}
		return err
	}
	g.dirty = true
	if s.cfg.Sync != Always {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		s.abandon()
		return err
	}
	g.dirty = false
	return nil
}

// abandon lets the next record begin a new segment, at a new position.
func (s *Spool) abandon() {
	s.retire()
	s.burn()
}

// retire lets the next record begin a new segment.
func (s *Spool) retire() {
	if s.file != nil {
		s.file.Close() // what fails to reach the disk is fsync's to tell
	}
	s.active, s.file = nil, nil
}

// burn gives up the next position, which may be on the disk already.
func (s *Spool) burn() {
	s.settled.add(s.next, s.next)
	s.unsaved = true
	s.next++
}
