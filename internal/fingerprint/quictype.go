package fingerprint

import "encoding/binary"

// QUICType is the type of a QUIC packet, as far as its long header says it without keys.
type QUICType uint8

// The values of QUICType.
const (
	QUICOther QUICType = iota
	QUICInitial
	QUICHandshake
)

// QUICTypeOf returns the type of the first packet in a datagram. Five bytes tell.
func QUICTypeOf(datagram []byte) QUICType {
	if !IsQUIC(datagram) {
		return QUICOther
	}
	version := versionOf(binary.BigEndian.Uint32(datagram[1:]))
	switch datagram[0] >> 4 & 3 {
	case version.initial:
		return QUICInitial
	case version.handshaking:
		return QUICHandshake
	}
	return QUICOther
}
