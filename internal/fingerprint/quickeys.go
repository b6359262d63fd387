package fingerprint

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
)

// quicVersion is what versions of QUIC do differently before a connection has keys of its own.
type quicVersion struct {
	salt                          string
	keyLabel, ivLabel, maskLabel  string
	initial, zeroRTT, handshaking byte // types of long packets; the fourth is Retry
}

// versionOf returns nil for a version that is not read.
func versionOf(number uint32) *quicVersion {
	switch number {
	case 1:
		return &quic1
	case 0x6b3343cf:
		return &quic2
	}
	return nil
}

// RFC 9001, section 5.2; RFC 9000, section 17.2.
var quic1 = quicVersion{
	salt:     "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a",
	keyLabel: "quic key", ivLabel: "quic iv", maskLabel: "quic hp",
	initial: 0, zeroRTT: 1, handshaking: 2,
}

// RFC 9369, section 3.
var quic2 = quicVersion{
	salt:     "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9",
	keyLabel: "quicv2 key", ivLabel: "quicv2 iv", maskLabel: "quicv2 hp",
	initial: 1, zeroRTT: 2, handshaking: 3,
}

// Side is an end of a connection by its part in it.
type Side uint8

// The values of Side.
const (
	Client Side = iota
	Server
)

// initialKeys protect the Initial packets that one side sends. Whoever sees the first of them can make them.
type initialKeys struct {
	aead cipher.AEAD
	iv   [12]byte
	mask cipher.Block // of header protection
}

// newInitialKeys makes the keys that follow from a connection ID (RFC 9001, section 5.2).
func newInitialKeys(v *quicVersion, origin []byte, side Side) (*initialKeys, error) {
	secret := mac([]byte(v.salt), origin) // HKDF-Extract
	label := [...]string{Client: "client in", Server: "server in"}[side]
	secret = expandLabel(secret[:], label, sha256.Size)
	key, iv, mask := expandLabel(secret[:], v.keyLabel, 16), expandLabel(secret[:], v.ivLabel, 12), expandLabel(secret[:], v.maskLabel, 16)
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, fmt.Errorf("make the packet cipher: %w", err)
	}
	keys := initialKeys{iv: [12]byte(iv[:12])}
	if keys.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("make the packet cipher: %w", err)
	}
	if keys.mask, err = aes.NewCipher(mask[:16]); err != nil {
		return nil, fmt.Errorf("make the header cipher: %w", err)
	}
	return &keys, nil
}

// expandLabel is HKDF-Expand-Label of RFC 8446, section 7.1, without a context: the first so many bytes of what it returns, which are
// of its first round.
func expandLabel(secret []byte, label string, length byte) [sha256.Size]byte {
	const prefix = "tls13 "
	var room [longestMessage]byte
	info := append(room[:0], 0, length, byte(len(prefix)+len(label)))
	info = append(append(info, prefix...), label...)
	return mac(secret, append(info, 0, 1))
}

const longestMessage = 32 // bytes, to mac

// mac is HMAC-SHA-256 (RFC 2104) with a key of a block at most. crypto/hmac and crypto/hkdf allocate for each of the five that a side
// takes, and anybody can have it take them.
func mac(key, message []byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + longestMessage]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append(inner[:sha256.BlockSize], message...))
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}

const (
	maskSample      = 16
	maxPacketNumber = 4 // bytes
)

// open takes the protection off a packet whose packet number begins at a place, and returns its frames. The packet is left as it is.
func (k *initialKeys) open(packet []byte, numberAt int) ([]byte, error) {
	if len(packet) < numberAt+maxPacketNumber+maskSample {
		return nil, fmt.Errorf("QUIC packet of %d bytes: %w", len(packet), ErrMalformed)
	}
	var mask [aes.BlockSize]byte
	k.mask.Encrypt(mask[:], packet[numberAt+maxPacketNumber:][:maskSample])
	first := packet[0] ^ mask[0]&0x0f
	size := int(first&3) + 1

	header := append([]byte(nil), packet[:numberAt+size]...)
	header[0] = first
	nonce := k.iv
	// The number is sent whole until one is acknowledged (RFC 9000, appendix A.2), which is as far as a hello can go.
	for i := range size {
		header[numberAt+i] ^= mask[1+i]
		nonce[len(nonce)-size+i] ^= header[numberAt+i]
	}
	frames, err := k.aead.Open(nil, nonce[:], packet[numberAt+size:], header)
	if err != nil {
		return nil, fmt.Errorf("QUIC packet that its keys do not open: %w", ErrMalformed)
	}
	return frames, nil
}
