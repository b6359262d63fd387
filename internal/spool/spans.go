package spool

import (
	"cmp"
	"slices"
)

// span is a run of positions, both ends included.
type span struct{ first, last Seq }

// spans is a set of positions: ascending, and neither overlapping nor touching. Records are acknowledged nearly in
// order, so it stays short.
type spans []span

// add puts the positions from first to last into the set.
func (s *spans) add(first, last Seq) {
	// Most additions continue the last span.
	from, _ := s.search(first)
	if from > 0 && (*s)[from-1].last+1 == first {
		from--
	}
	to := from
	for to < len(*s) && (*s)[to].first <= last+1 {
		first, last = min(first, (*s)[to].first), max(last, (*s)[to].last)
		to++
	}
	*s = slices.Replace(*s, from, to, span{first, last})
}

// union puts all positions of another set into the set.
func (s *spans) union(other spans) {
	for _, x := range other {
		s.add(x.first, x.last)
	}
}

// without returns the positions that are in s but not in other.
func (s spans) without(other spans) spans {
	if len(s) == 0 {
		return nil
	}
	last := s[len(s)-1].last
	rest := s.holes(last)
	rest.union(other)
	return rest.holes(last)
}

// count returns how many positions are in the set.
func (s spans) count() (n uint64) {
	for _, x := range s {
		n += uint64(x.last-x.first) + 1
	}
	return n
}

// search returns the index of the first span that does not end before seq, and whether seq is in it.
func (s spans) search(seq Seq) (int, bool) {
	i, _ := slices.BinarySearchFunc(s, seq, func(x span, seq Seq) int { return cmp.Compare(x.last, seq) })
	return i, i < len(s) && s[i].first <= seq
}

func (s spans) has(seq Seq) bool {
	_, in := s.search(seq)
	return in
}

// after returns the first position from seq on that is not in the set.
func (s spans) after(seq Seq) Seq {
	if i, in := s.search(seq); in {
		return s[i].last + 1
	}
	return seq
}

// holes returns the positions from 1 to last that are not in the set.
func (s spans) holes(last Seq) spans {
	var holes spans
	next := Seq(1)
	for _, x := range s {
		if x.first > last {
			break
		}
		if x.first > next {
			holes = append(holes, span{next, x.first - 1})
		}
		next = x.last + 1
	}
	if next <= last {
		holes = append(holes, span{next, last})
	}
	return holes
}
