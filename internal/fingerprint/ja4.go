// The method JA4 is by John Althouse of FoxIO (2023), who give it away under the BSD 3-Clause licence and claim no patent on it;
// the file NOTICE has their notice. This is an implementation of its description, not a copy of theirs.

package fingerprint

import "slices"

// Transport is what carried a ClientHello, by the letter that begins its JA4.
type Transport byte

// The values of Transport.
const (
	TCP  Transport = 't'
	QUIC Transport = 'q'
)

// JA4 names a client by what it offers: https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md. The raw form is the one
// that is called JA4_r.
func JA4(hello *ClientHello, transport Transport) Fingerprint {
	// Room for what clients send, so that nothing is allocated but the result. Longer lists move to the heap.
	var cipherRoom, extensionRoom, schemeRoom [64]uint16
	var rawRoom [1024]byte
	var valueRoom [64]byte

	ciphers := appendKnown(cipherRoom[:0], hello.Ciphers)
	extensions, counted, named := hello.ja4Extensions(extensionRoom[:0])
	schemes := appendKnown(schemeRoom[:0], hello.SignatureAlgorithms)
	slices.Sort(ciphers)
	slices.Sort(extensions)

	raw := append(append(rawRoom[:0], byte(transport)), VersionCode(hello.HighestVersion())...)
	raw = AppendCount(append(raw, named), len(ciphers))
	raw = AppendALPN(AppendCount(raw, counted), hello.ALPN)
	value := append(valueRoom[:0], raw...)

	raw = append(raw, '_')
	start := len(raw)
	raw = AppendCodes(raw, ciphers)
	value = appendHash(append(value, '_'), raw[start:])

	raw = append(raw, '_')
	start = len(raw)
	raw = AppendCodes(raw, extensions)
	if len(schemes) > 0 {
		raw = AppendCodes(append(raw, '_'), schemes)
	}
	value = appendHash(append(value, '_'), raw[start:])
	return Fingerprint{Method: "ja4", Value: string(value), Raw: string(raw)}
}

// ja4Extensions appends the types of the extensions that are hashed. It counts those that are not with them, and says by a letter
// whether a server (domain) is named.
func (h *ClientHello) ja4Extensions(dst []uint16) (hashed []uint16, counted int, named byte) {
	named = 'i'
	for code := range h.Extensions.All() {
		if IsGREASE(code) {
			continue
		}
		counted++
		switch code {
		case ExtensionServerName:
			named = 'd'
		case ExtensionALPN: // like the name it changes with the server, not with the client
		default:
			dst = append(dst, code)
		}
	}
	return dst, counted, named
}

// HighestVersion returns the highest version that the client offers.
func (h *ClientHello) HighestVersion() uint16 {
	highest := uint16(0)
	for version := range h.Versions.All() {
		if !IsGREASE(version) {
			highest = max(highest, version)
		}
	}
	if highest == 0 {
		return h.Version
	}
	return highest
}

// VersionCode returns the two letters of JA4 for a version of TLS.
func VersionCode(version uint16) string {
	switch version {
	case VersionTLS13:
		return "13"
	case VersionTLS12:
		return "12"
	case VersionTLS11:
		return "11"
	case VersionTLS10:
		return "10"
	case VersionSSL3:
		return "s3"
	case VersionSSL2:
		return "s2"
	}
	return "00"
}

// AppendCount appends a number as the two digits of JA4: 99 stands for all that are higher.
func AppendCount(dst []byte, n int) []byte {
	n = min(n, 99)
	return append(dst, byte('0'+n/10), byte('0'+n%10))
}

// AppendALPN appends the two letters of JA4 for a protocol of ALPN: its first and last, or those of its hexadecimal form if one of
// them is neither a letter nor a digit, or 00 for none.
func AppendALPN(dst, protocol []byte) []byte {
	if len(protocol) == 0 {
		return append(dst, "00"...)
	}
	first, last := protocol[0], protocol[len(protocol)-1]
	if !alphanumeric(first) || !alphanumeric(last) {
		const digits = "0123456789abcdef"
		first, last = digits[first>>4], digits[last&15]
	}
	return append(dst, first, last)
}

func alphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}

// appendKnown appends the numbers that are not GREASE.
func appendKnown(dst []uint16, codes Codes) []uint16 {
	for code := range codes.All() {
		if !IsGREASE(code) {
			dst = append(dst, code)
		}
	}
	return dst
}
