package fingerprint

// reader takes numbers and vectors, in the order of the network, off the front of some bytes. After it was asked for more than there
// is, it is bad and gives zeros.
type reader struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, as they lie there.
func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.bad = nil, true
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

// number returns the number in the next so many bytes, 4 at most.
func (r *reader) number(bytes int) int {
	n := 0
	for _, b := range r.take(bytes) {
		n = n<<8 | int(b)
	}
	return n
}

// vector returns the bytes behind a length of so many bytes.
func (r *reader) vector(lengthBytes int) []byte {
	return r.take(r.number(lengthBytes))
}

// ended says whether everything was read and there was enough of it.
func (r *reader) ended() bool {
	return !r.bad && len(r.rest) == 0
}
