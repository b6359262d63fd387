package deliver

import (
	"errors"
	"io"
	"sync"
)

// payload lends bytes to the bodies of a request. The transport may read a body after its answer came, and the bytes
// are to be used again by then: so they can be taken back.
type payload struct {
	mu      sync.Mutex
	data    []byte
	revoked bool
}

func (p *payload) revoke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data, p.revoked = nil, true
}

func (p *payload) reader() io.ReadCloser {
	return &payloadReader{payload: p}
}

type payloadReader struct {
	payload *payload
	offset  int
}

var errRevoked = errors.New("the request is over")

// Read copies under the lock, so that nothing is read after revoke has returned.
func (r *payloadReader) Read(dst []byte) (int, error) {
	r.payload.mu.Lock()
	defer r.payload.mu.Unlock()
	if r.payload.revoked {
		return 0, errRevoked
	}
	n := copy(dst, r.payload.data[r.offset:])
	r.offset += n
	if n == 0 && len(dst) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *payloadReader) Close() error { return nil }
