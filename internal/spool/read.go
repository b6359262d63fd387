package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
)

// Next returns the position of the first record behind after that is not settled, if there is one.
func (s *Spool) Next(after Seq) (Seq, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, e, ok := s.following(after)
	return e.seq, ok
}

func (s *Spool) following(after Seq) (*segment, entry, bool) {
	for after < math.MaxUint64 {
		from := s.settled.after(after + 1)
		g, e, ok := s.lowest(from)
		if !ok || !s.settled.has(e.seq) {
			return g, e, ok
		}
		after = e.seq
	}
	return nil, entry{}, false
}

// lowest returns the first record at a position or after it. Segments overlap where files were copied, so it asks all.
func (s *Spool) lowest(from Seq) (found *segment, e entry, ok bool) {
	for _, g := range s.segments {
		if n := len(g.entries); n == 0 || g.entries[n-1].seq < from {
			continue
		}
		if candidate := g.entries[g.from(from)]; !ok || candidate.seq < e.seq {
			found, e, ok = g, candidate, true
		}
	}
	return found, e, ok
}

// find returns a record that is not settled.
func (s *Spool) find(seq Seq) (*segment, entry, bool) {
	g, e, ok := s.lowest(seq)
	return g, e, ok && e.seq == seq && !s.settled.has(seq)
}

// Read returns a record. The error is ErrGone if it is settled or was never there, and ErrDamaged if what is on the disk
// is not what was written: it is then counted and settled. Any other is the system's, such as EIO: the record waits on, and
// another try may succeed.
func (s *Spool) Read(seq Seq) ([]byte, error) {
	s.mu.Lock()
	g, e, ok := s.find(seq)
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if !ok {
		return nil, fmt.Errorf("read record %d: %w", seq, ErrGone)
	}
	record, err := s.read(g, e)
	if err = s.judgeRead(seq, err); err != nil {
		return nil, fmt.Errorf("read record %d: %w", seq, err)
	}
	return record, nil
}

// judgeRead acts on how reading a record went, and returns the error that is to be told.
func (s *Spool) judgeRead(seq Seq, err error) error {
	s.mu.Lock()
	defer s.unlock()
	if err == nil {
		s.report(opRead, nil)
		return nil
	}
	g, e, ok := s.find(seq)
	switch {
	case s.closed:
		return ErrClosed
	case !ok: // meanwhile it was settled, and its segment removed
		return ErrGone
	case errors.Is(err, ErrDamaged):
		s.settle(g, e)
		s.damaged.add(e)
		s.reap()
	default:
		s.report(opRead, err)
	}
	return err
}

// read reads and checks a record. The error is ErrDamaged only if the disk answered.
func (s *Spool) read(g *segment, e entry) ([]byte, error) {
	b := make([]byte, e.size())
	err := s.with(g, func(file File) error {
		_, err := file.ReadAt(b, int64(e.offset))
		return err
	})
	if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) { // somebody else cut or removed the file
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	h, ok := parseRecordHeader(b)
	if !ok || h.seq != e.seq || h.length != e.length || h.sum != checksum(b[recordHeaderSize:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	return b[recordHeaderSize:], nil
}

// Ack says that a record was delivered. One that is settled already is passed over.
func (s *Spool) Ack(seq Seq) {
	s.mu.Lock()
	defer s.unlock()
	if g, e, ok := s.find(seq); ok && !s.closed {
		s.settle(g, e)
		if g.left == 0 {
			s.reap()
		}
	}
}

// settle books a record as not to be delivered any more, unless it is already.
func (s *Spool) settle(g *segment, e entry) bool {
	if s.settled.has(e.seq) {
		return false
	}
	s.settled.add(e.seq, e.seq)
	s.unsaved = true
	g.left--
	s.records--
	s.events -= int64(e.events)
	return true
}
