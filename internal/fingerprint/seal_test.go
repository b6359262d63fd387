package fingerprint

import (
	"encoding/binary"
	"testing"
)

// sealed is an Initial packet under construction, as RFC 9001 has it: its length takes two bytes.
type sealed struct {
	version      uint32
	from         Side
	origin       []byte // connection ID that the keys are made from
	destination  []byte
	source       []byte
	number       uint32
	numberBytes  int
	frames       []byte
	paddedFrames int // bytes
}

// packet protects it.
func (s sealed) packet(t testing.TB) []byte {
	t.Helper()
	v := versionOf(s.version)
	keys, err := newInitialKeys(v, s.origin, s.from)
	if err != nil {
		t.Fatal(err)
	}
	frames := append(s.frames, make([]byte, max(0, s.paddedFrames-len(s.frames)))...)
	packet := []byte{0xc0 | v.initial<<4 | byte(s.numberBytes-1)}
	packet = binary.BigEndian.AppendUint32(packet, s.version)
	packet = join(packet, vector(1, s.destination), vector(1, s.source), vector(1)) // without a token
	length := s.numberBytes + len(frames) + keys.aead.Overhead()
	packet = binary.BigEndian.AppendUint16(packet, 0x4000|uint16(length))
	numberAt := len(packet)
	packet = append(packet, binary.BigEndian.AppendUint32(nil, s.number)[4-s.numberBytes:]...)

	nonce := keys.iv
	binary.BigEndian.PutUint32(nonce[8:], binary.BigEndian.Uint32(nonce[8:])^s.number)
	packet = keys.aead.Seal(packet, nonce[:], frames, packet)

	var mask [16]byte
	keys.mask.Encrypt(mask[:], packet[numberAt+4:][:16])
	packet[0] ^= mask[0] & 0x0f
	for i := range s.numberBytes {
		packet[numberAt+i] ^= mask[1+i]
	}
	return packet
}

// varint is a number of QUIC in 4 bytes.
func varint(n int) []byte {
	return binary.BigEndian.AppendUint32(nil, 0x80000000|uint32(n))
}

// crypto is a CRYPTO frame.
func crypto(offset int, data []byte) []byte {
	return join([]byte{frameCrypto}, varint(offset), varint(len(data)), data)
}

// initial is a packet of a client as most send it.
func initial(t testing.TB, version uint32, id string, number uint32, frames ...[]byte) []byte {
	t.Helper()
	return sealed{
		version: version, origin: []byte(id), destination: []byte(id), source: []byte("source"), number: number, numberBytes: 1,
		frames: join(frames...), paddedFrames: 1180,
	}.packet(t)
}
