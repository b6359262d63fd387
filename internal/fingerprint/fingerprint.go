// Package fingerprint takes the beginnings of connections apart - streams of TLS, datagrams of QUIC - and names the software that
// sent them by JA4. It trusts nothing that it reads: a length that is stated costs no memory, and what does not parse is an error.
package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// Fingerprint is what one method makes of what one end of a connection sent.
type Fingerprint struct {
	Method string // "ja4", "ja4s", ...
	Value  string // the form that is compared, its long parts hashed
	Raw    string // the same with nothing hashed; "" if the method hashes nothing
}

var (
	// ErrIncomplete says that what was asked for has begun, or may yet begin, and that more bytes are needed.
	ErrIncomplete = errors.New("incomplete")
	// ErrMalformed says that the bytes are not what they were taken for; more of them would not help.
	ErrMalformed = errors.New("malformed")
)

// Hash returns the 12 hexadecimal digits by which JA4 and its relatives name a list: the first of its SHA-256, or zeros if it is
// empty.
func Hash(list []byte) string {
	return string(appendHash(nil, list))
}

const hashDigits = 12

func appendHash(dst, list []byte) []byte {
	if len(list) == 0 {
		return append(dst, "000000000000"...)
	}
	sum := sha256.Sum256(list)
	return hex.AppendEncode(dst, sum[:hashDigits/2])
}
