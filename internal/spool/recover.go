package spool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"
)

// recovery is what is found in a directory.
type recovery struct {
	found  []*finding
	cursor *cursor // nil: there is none, or it is damaged
	named  Seq     // the highest position in the name of a file
}

// finding is a segment and what its file tells.
type finding struct {
	*segment
	torn          []entry
	err           error // why not all of it could be read
	lowest, above Seq   // positions that it has or had for sure: from lowest on, below above
}

// recover finds the records that can be delivered, and counts those that were lost.
func (s *Spool) recover() error {
	r, err := s.look()
	if err != nil {
		return err
	}
	slices.SortFunc(r.found, func(a, b *finding) int {
		return cmp.Or(cmp.Compare(a.lowest, b.lowest), cmp.Compare(a.first, b.first))
	})
	if err := s.unread(r.found); err != nil {
		return err
	}
	have := s.dedupe(r.found)
	s.judge(r, have)
	for _, f := range r.found {
		s.segments = append(s.segments, f.segment)
		s.bytes += f.size
		f.entries = slices.DeleteFunc(f.entries, func(e entry) bool { return s.settled.has(e.seq) })
		f.left = uint64(len(f.entries)) + f.doubt.count()
		s.records += int64(len(f.entries))
		for _, e := range f.entries {
			s.events += int64(e.events)
		}
	}
	s.saveCursor(false) // reported; the old one may be wrong
	s.reap()
	if s.records+s.damaged.Records > 0 {
		s.cfg.Log.Info("the spool holds records of an earlier run", zap.Int64("records", s.records),
			zap.Int64("events", s.events), zap.Int64("damaged_records", s.damaged.Records))
	}
	return nil
}

// look reads all segments and the cursor. Files that are not the spool's are left alone.
func (s *Spool) look() (*recovery, error) {
	files, err := s.fs.List()
	if err != nil {
		return nil, err
	}
	r := &recovery{}
	for _, file := range files {
		first := parseSegmentName(file.Name())
		r.named = max(r.named, first)
		if !file.Type().IsRegular() || first == 0 && file.Name() != cursorName {
			continue
		}
		info, err := file.Info()
		if err != nil {
			return nil, err
		}
		if first > 0 {
			r.found = append(r.found, s.findRecords(first, info.Size()))
			continue
		}
		r.cursor, err = s.loadCursor(info.Size())
		if errors.Is(err, errCursor) {
			s.cfg.Log.Warn("the spool's cursor is of no use: records may be sent again", zap.Error(err))
		} else if err != nil {
			return nil, fmt.Errorf("read the cursor: %w", err)
		}
	}
	return r, nil
}

var errVersion = errors.New("another version of weir wrote it")

// findRecords finds the records of a segment.
func (s *Spool) findRecords(first Seq, size int64) *finding {
	f := &finding{segment: &segment{first: first, size: size}, lowest: first, above: first}
	f.err = s.with(f.segment, f.scan)
	return f
}

// unread books the segments of which not all could be read. That is no damage: another start may read them, so each is
// kept, and may have any position up to the next segment. The last is different: nobody can tell which positions are free
// behind it.
func (s *Spool) unread(found []*finding) error {
	for i, f := range found {
		if f.err == nil {
			continue
		}
		err := fmt.Errorf("read segment %s: %w", segmentName(f.first), f.err)
		if i == len(found)-1 {
			return err
		}
		f.above = max(f.above, found[i+1].lowest)
		s.cfg.Log.Warn("a segment of the spool is left for the next start", zap.Error(err))
		s.report(opRead, err)
	}
	return nil
}

// scan finds the records in the segment's file.
func (f *finding) scan(file File) error {
	sc := &scanner{file: file, size: min(f.size, maxScan)}
	version, begins, ok := parseSegmentHeader(sc.view(0, segmentHeaderSize))
	switch {
	case ok && version != formatVersion:
		return errVersion
	case ok:
		sc.scan(segmentHeaderSize)
	default:
		sc.scan(0)
	}
	f.entries, f.torn = sc.good, sc.torn
	slices.SortStableFunc(f.entries, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	switch {
	case ok: // it knows better than the name
		f.lowest = begins
	case len(f.entries) > 0 && sc.err == nil:
		f.lowest = f.entries[0].seq
	}
	f.above = max(f.lowest, sc.highest+1)
	if sc.highest == 0 && f.size > segmentHeaderSize {
		f.above++ // at least one record was there
	}
	return sc.err
}

// dedupe leaves one of records that are there twice, as of a segment that was copied, and one that is whole. It returns
// which records are there.
func (s *Spool) dedupe(found []*finding) spans {
	var once, twice, have spans
	for _, f := range found {
		for _, e := range f.entries {
			if once.has(e.seq) {
				twice.add(e.seq, e.seq)
			}
			once.add(e.seq, e.seq)
		}
	}
	for _, f := range found {
		f.entries = slices.DeleteFunc(f.entries, func(e entry) bool {
			if have.has(e.seq) {
				return true
			}
			if twice.has(e.seq) {
				if _, err := s.read(f.segment, e); errors.Is(err, ErrDamaged) {
					f.torn = append(f.torn, e)
					return true
				}
			}
			have.add(e.seq, e.seq)
			return false
		})
	}
	return have
}

// judge decides which positions are settled, and counts as damaged those that are neither settled nor there. Of lost
// positions it is not always known whether their records were acknowledged; then they are counted, if at all.
func (s *Spool) judge(r *recovery, have spans) {
	end := Seq(1) // above all positions that a segment shows
	for _, f := range r.found {
		end = max(end, f.above)
	}
	counted := end
	switch c := r.cursor; {
	case c != nil && c.next <= max(end, r.named):
		s.settled = c.settled
		counted = max(end, c.next)
	case c != nil && uint64(c.next-end) <= uint64(s.cfg.MaxBytes/recordHeaderSize):
		// The newest records are lost, or these are older segments than the cursor's: it is believed but for what is there.
		s.settled = c.settled.without(have)
		counted = c.next
	default: // no cursor, or one that tells of more records than there is room for
		s.settled = r.gaps()
	}
	s.count(r, have, counted)
	s.next = max(counted, r.named+1)
	if r.cursor != nil {
		s.next = max(s.next, r.cursor.next)
	}
	if s.next > counted {
		s.settled.add(counted, s.next-1) // never used
	}
}

// gaps returns the positions between the segments. Without a cursor to ask, they are taken for delivered and removed.
func (r *recovery) gaps() spans {
	var gaps spans
	edge := Seq(1)
	for _, f := range r.found {
		if f.lowest > edge {
			gaps.add(edge, f.lowest-1)
		}
		edge = max(edge, f.above)
	}
	return gaps
}

// count counts and settles the positions below end that are neither settled nor there, unless they may be in a segment
// that could not be read.
func (s *Spool) count(r *recovery, have spans, end Seq) {
	known := slices.Clone(s.settled)
	known.union(have)
	for _, f := range r.found {
		for _, e := range f.torn {
			if e.seq < end && !known.has(e.seq) {
				s.damaged.add(e)
				s.settled.add(e.seq, e.seq)
				known.add(e.seq, e.seq)
			}
		}
	}
	for _, f := range r.found {
		if f.err != nil && f.lowest < f.above {
			f.doubt = spans{{f.lowest, f.above - 1}}.without(known)
			known.union(f.doubt)
		}
	}
	s.giveUp(known.holes(end - 1))
}

// giveUp counts and settles positions of records that are lost.
func (s *Spool) giveUp(lost spans) {
	s.damaged.Records += int64(lost.count())
	s.settled.union(lost)
	s.unsaved = true
}
