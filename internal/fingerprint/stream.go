package fingerprint

// Stream puts together the beginning of what one end of a connection sent, from pieces that may be out of order, repeated or
// overlapping. Of bytes that came twice, the first count. It never holds more than its limit and an eighth of it.
type Stream struct {
	limit  int
	bytes  []byte   // bytes[:whole] are all there; behind them early ones lie in their places
	whole  int      // how many bytes there are before the first gap
	placed []uint64 // a bit for each byte that was put there; nil if none ever came early
}

// NewStream returns a stream of which only the first so many bytes are kept.
func NewStream(limit int) *Stream {
	return &Stream{limit: limit}
}

// Add takes a piece whose first byte is so many bytes behind the beginning. It keeps a copy.
func (s *Stream) Add(offset uint64, piece []byte) {
	if offset >= uint64(s.limit) {
		return
	}
	start := int(offset)
	piece = piece[:min(len(piece), s.limit-start)]
	if seen := s.whole - start; seen > 0 {
		piece = piece[min(seen, len(piece)):]
		start = s.whole
	}
	switch {
	case len(piece) == 0:
	case start == s.whole && s.whole == len(s.bytes): // nothing waits behind it
		s.extend(start + len(piece))
		copy(s.bytes[start:], piece)
		s.whole = len(s.bytes)
	default:
		s.place(start, piece)
	}
}

// place puts a piece where it belongs, which leaves a gap before it or may close one.
func (s *Stream) place(start int, piece []byte) {
	if s.placed == nil {
		s.placed = make([]uint64, (s.limit+63)/64)
	}
	s.extend(start + len(piece))
	for i, b := range piece {
		if at := start + i; !s.has(at) {
			s.bytes[at] = b
			s.placed[at/64] |= 1 << (at % 64)
		}
	}
	for s.whole < len(s.bytes) && s.has(s.whole) {
		s.whole++
	}
}

// extend makes room for the first n bytes, and for no more than the limit.
func (s *Stream) extend(n int) {
	if n > cap(s.bytes) {
		grown := make([]byte, len(s.bytes), min(max(n, 2*len(s.bytes)), s.limit))
		copy(grown, s.bytes)
		s.bytes = grown
	}
	s.bytes = s.bytes[:max(n, len(s.bytes))]
}

func (s *Stream) has(at int) bool {
	return s.placed[at/64]&(1<<(at%64)) != 0
}

// Bytes returns what is there before the first gap. It is valid until the next Add.
func (s *Stream) Bytes() []byte {
	return s.bytes[:s.whole:s.whole]
}

// Full says whether everything within the limit is there.
func (s *Stream) Full() bool {
	return s.whole == s.limit
}

// Size returns how many bytes of memory are taken.
func (s *Stream) Size() int {
	const word = 8
	return cap(s.bytes) + word*len(s.placed)
}
