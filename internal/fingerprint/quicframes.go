package fingerprint

import (
	"bytes"
	"fmt"
)

// Frames that an Initial packet can hold (RFC 9000, sections 12.4 and 19).
const (
	framePadding         = 0x00
	framePing            = 0x01
	frameACK             = 0x02
	frameACKWithECN      = 0x03
	frameCrypto          = 0x06
	frameConnectionClose = 0x1c
)

// addFrames adds what CRYPTO frames carry to a stream.
func addFrames(crypto *Stream, frames []byte) error {
	r := reader{rest: frames}
	pieces := 0
	for len(r.rest) > 0 {
		switch kind := r.varint(); kind {
		case framePadding:
			r.rest = bytes.TrimLeft(r.rest, "\x00") // most of a packet may be of them
		case framePing:
		case frameACK, frameACKWithECN:
			passOverACK(&r, kind == frameACKWithECN)
		case frameCrypto:
			if pieces++; pieces > maxFrames {
				return fmt.Errorf("more than %d CRYPTO frames in a QUIC packet: %w", maxFrames, ErrMalformed)
			}
			offset := r.varint()
			crypto.Add(offset, r.takeVarint(r.varint()))
		case frameConnectionClose:
			return nil
		default:
			return fmt.Errorf("QUIC frame of type %d in an Initial packet: %w", kind, ErrMalformed)
		}
	}
	if r.bad {
		return fmt.Errorf("QUIC frames: %w", ErrMalformed)
	}
	return nil
}

// passOverACK reads the rest of an ACK frame (RFC 9000, section 19.3).
func passOverACK(r *reader, withECN bool) {
	r.varint() // largest acknowledged
	r.varint() // delay
	numbers := 1 + 2*min(r.varint(), uint64(len(r.rest)))
	if withECN {
		numbers += 3
	}
	for ; numbers > 0 && !r.bad; numbers-- {
		r.varint()
	}
}

// varint returns the next number of variable length (RFC 9000, section 16).
func (r *reader) varint() uint64 {
	first := r.take(1)
	if r.bad {
		return 0
	}
	n := uint64(first[0] & 0x3f)
	for _, b := range r.take(1<<(first[0]>>6) - 1) {
		n = n<<8 | uint64(b)
	}
	return n
}

// takeVarint returns the next n bytes, for an n that came as a varint.
func (r *reader) takeVarint(n uint64) []byte {
	return r.take(int(min(n, uint64(len(r.rest))+1)))
}
