package fingerprint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// How much of a QUIC connection is read. A ClientHello with post-quantum keys takes two datagrams.
const (
	maxDatagrams = 4  // of each side
	maxPackets   = 8  // of each datagram
	maxFrames    = 32 // of CRYPTO in each packet; Chromium shuffles a hello in some 10
	maxCrypto    = 16 << 10
)

// leastDatagram is how long a client makes a datagram with an Initial packet (RFC 9000, section 14.1), in bytes: what is shorter is
// none, and no keys are made for it.
const leastDatagram = 1200

// Initials puts together what the Initial packets of one QUIC connection carry, version 1 (RFC 9000, RFC 9001) or 2 (RFC 9369). The
// zero value is at the beginning. The client's first packet has to come first, as the keys of both sides follow from it.
type Initials struct {
	origin []byte // the connection ID that the keys are made from; nil until a packet of the client was opened
	sides  [2]initialSide
}

// initialSide is what one side sent.
type initialSide struct {
	datagrams int
	crypto    *Stream
	done      bool
	keys      *initialKeys // made last, of a version and a connection ID
	version   *quicVersion
	source    []byte // its own connection ID, by which the other side calls it; nil until a packet was opened
}

// IsQUIC says whether a datagram begins like a packet of a version of QUIC that Initials reads. Five bytes tell.
func IsQUIC(datagram []byte) bool {
	const longHeader, fixedBit = 0x80, 0x40
	return len(datagram) >= 5 && datagram[0]&(longHeader|fixedBit) == longHeader|fixedBit &&
		versionOf(binary.BigEndian.Uint32(datagram[1:])) != nil
}

// Add takes a datagram that one side sent. An error tells why a packet in it was not read; those before it were. All of them have one
// destination (RFC 9000, section 12.2), so that keys are made once for them.
func (q *Initials) Add(from Side, datagram []byte) error {
	if q.Spent(from) {
		return nil
	}
	q.sides[from].datagrams++
	if q.origin == nil && from == Client && len(datagram) < leastDatagram && IsQUIC(datagram) {
		return fmt.Errorf("QUIC client's first datagram of %d bytes: %w", len(datagram), ErrMalformed)
	}
	var destination []byte
	for n := range maxPackets {
		if !IsQUIC(datagram) { // a short header, version negotiation, or what fills the datagram up
			break
		}
		packet, err := parseLongPacket(datagram)
		if err != nil {
			return err
		}
		if n == 0 {
			destination = packet.destination
		} else if !bytes.Equal(packet.destination, destination) {
			break
		}
		datagram = datagram[len(packet.bytes):]
		if packet.initial {
			if err := q.addInitial(from, packet); err != nil {
				return err
			}
		}
	}
	return nil
}

// Begun says whether a packet of the client was opened, which shows that it was the client's.
func (q *Initials) Begun() bool {
	return q.origin != nil
}

// Spent says whether no more datagrams of a side are read.
func (q *Initials) Spent(from Side) bool {
	return q.sides[from].datagrams == maxDatagrams
}

// Destinations returns the connection IDs by which the client's Initial packets call the server: the one that it made up, and the
// server's own.
func (q *Initials) Destinations() [][]byte {
	return [][]byte{q.origin, q.sides[Server].source}
}

// Begins says whether a datagram begins a connection whose client made up a connection ID that is none of the known ones: its own keys
// open it.
func Begins(datagram []byte, known [][]byte) bool {
	if len(datagram) < leastDatagram || QUICTypeOf(datagram) != QUICInitial {
		return false
	}
	packet, err := parseLongPacket(datagram)
	if err != nil || slices.ContainsFunc(known, func(id []byte) bool { return bytes.Equal(id, packet.destination) }) {
		return false
	}
	var q Initials
	_, err = q.open(Client, packet)
	return err == nil
}

// Done lets go of what a side sent. Its datagrams are still looked at, as the keys of the other side may change with them.
func (q *Initials) Done(from Side) {
	q.sides[from].done, q.sides[from].crypto = true, nil
}

// Message returns the first handshake message of a side, or ErrIncomplete.
func (q *Initials) Message(from Side) (Message, error) {
	crypto := q.sides[from].crypto
	if crypto == nil {
		return Message{}, ErrIncomplete
	}
	return ParseMessage(crypto.Bytes())
}

// Size returns about how many bytes of memory are taken.
func (q *Initials) Size() int {
	const keys = 2 << 10 // of both sides
	size := keys
	for i := range q.sides {
		if crypto := q.sides[i].crypto; crypto != nil {
			size += crypto.Size()
		}
	}
	return size
}

func (q *Initials) addInitial(from Side, packet longPacket) error {
	frames, err := q.open(from, packet)
	if err != nil {
		return err
	}
	side := &q.sides[from]
	if side.source == nil {
		side.source = bytes.Clone(packet.source)
	}
	if side.done {
		return nil
	}
	if side.crypto == nil {
		side.crypto = NewStream(maxCrypto)
	}
	return addFrames(side.crypto, frames)
}

// open takes the protection off an Initial packet. A client that begins anew, by a Retry or by a version that the server prefers, has
// keys from its new destination; that is found out by trying, so that the packet which made it do so need not have been seen.
func (q *Initials) open(from Side, packet longPacket) ([]byte, error) {
	var failed error
	if q.origin != nil {
		keys, err := q.keys(from, packet.version)
		if err != nil {
			return nil, err
		}
		frames, err := keys.open(packet.bytes, packet.numberAt)
		if err == nil {
			return frames, nil
		}
		failed = err
	}
	if from == Server {
		if failed == nil {
			failed = fmt.Errorf("QUIC server before its client: %w", ErrIncomplete)
		}
		return nil, failed
	}
	keys, err := newInitialKeys(packet.version, packet.destination, Client)
	if err != nil {
		return nil, err
	}
	frames, err := keys.open(packet.bytes, packet.numberAt)
	if err != nil {
		return nil, err
	}
	q.origin = bytes.Clone(packet.destination)
	q.sides[Client].begin(packet.version, keys)
	q.sides[Server].begin(nil, nil)
	return frames, nil
}

// begin forgets what came of an attempt that was given up, or of another connection between the same ports.
func (s *initialSide) begin(v *quicVersion, keys *initialKeys) {
	*s = initialSide{datagrams: s.datagrams, version: v, keys: keys}
}

// keys returns the keys of a side. The versions of two packets may differ (RFC 9368, section 2.3).
func (q *Initials) keys(from Side, v *quicVersion) (*initialKeys, error) {
	side := &q.sides[from]
	if side.version == v {
		return side.keys, nil
	}
	keys, err := newInitialKeys(v, q.origin, from)
	if err != nil {
		return nil, err
	}
	side.version, side.keys = v, keys
	return keys, nil
}

// longPacket is a packet with a long header (RFC 9000, section 17.2).
type longPacket struct {
	version     *quicVersion
	initial     bool
	destination []byte // connection ID
	source      []byte // likewise
	bytes       []byte // the packet, without others behind it
	numberAt    int    // where in it the packet number begins, of an Initial packet
}

const maxConnectionID = 20 // bytes

// parseLongPacket parses the header of the first packet of a datagram, which IsQUIC.
func parseLongPacket(datagram []byte) (longPacket, error) {
	r := reader{rest: datagram}
	kind := byte(r.number(1)) >> 4 & 3
	packet := longPacket{version: versionOf(uint32(r.number(4)))}
	packet.destination = r.vector(1)
	packet.source = r.vector(1)
	if r.bad || len(packet.destination) > maxConnectionID || len(packet.source) > maxConnectionID {
		return longPacket{}, fmt.Errorf("QUIC connection IDs: %w", ErrMalformed)
	}
	switch kind {
	case packet.version.initial:
		packet.initial = true
		r.takeVarint(r.varint()) // the token
	case packet.version.zeroRTT, packet.version.handshaking:
	default: // Retry, which fills its datagram
		packet.bytes = datagram
		return packet, nil
	}
	length := r.varint()
	packet.numberAt = len(datagram) - len(r.rest)
	r.takeVarint(length)
	if r.bad {
		return longPacket{}, fmt.Errorf("QUIC packet length: %w", ErrMalformed)
	}
	packet.bytes = datagram[:len(datagram)-len(r.rest)]
	return packet, nil
}
