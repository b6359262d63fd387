package fingerprint

import (
	"encoding/binary"
	"iter"
)

// Codes are numbers of 16 bits (cipher suites, versions, signature schemes), one after the other as they were sent.
type Codes []byte

// All gives the numbers in order.
func (c Codes) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for rest := c; len(rest) >= 2; rest = rest[2:] {
			if !yield(binary.BigEndian.Uint16(rest)) {
				return
			}
		}
	}
}

// IsGREASE says whether a number is one that only keeps others from assuming what may be sent (RFC 8701).
func IsGREASE(code uint16) bool {
	return code&0x0f0f == 0x0a0a && code>>8 == code&0xff
}

// AppendCodes appends numbers as 4 hexadecimal digits each, with commas between them.
func AppendCodes(dst []byte, codes []uint16) []byte {
	const digits = "0123456789abcdef"
	for i, c := range codes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, digits[c>>12], digits[c>>8&15], digits[c>>4&15], digits[c&15])
	}
	return dst
}
