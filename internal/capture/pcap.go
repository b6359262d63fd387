package capture

import (
	"encoding/binary"
	"fmt"
	"io"
)

// pcap is what the header of a pcap file says (draft-ietf-opsawg-pcap).
type pcap struct {
	link LinkType
	unit uint64 // nanoseconds in the finer part of a time
}

const (
	magicMicroseconds = 0xa1b2c3d4
	magicNanoseconds  = 0xa1b23c4d
)

// recognise takes the first four bytes, which are a number by which the byte order and the resolution of times are known.
func (p *pcap) recognise(magic []byte, order *binary.ByteOrder) bool {
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		*order = o
		switch o.Uint32(magic) {
		case magicMicroseconds:
			p.unit = 1000
			return true
		case magicNanoseconds:
			p.unit = 1
			return true
		}
	}
	return false
}

// readFileHeader reads the magic, the version, two words without a use, the snap length, which files exceed, and the link.
func (r *Reader) readFileHeader() error {
	var header [24]byte
	if err := r.fill(header[:]); err != nil {
		return fmt.Errorf("read the header of a pcap file: %w", err)
	}
	if major, minor := r.order.Uint16(header[4:]), r.order.Uint16(header[6:]); major != 2 || minor != 4 {
		return fmt.Errorf("pcap version %d.%d: only 2.4 is read", major, minor)
	}
	r.pcap.link = LinkType(r.order.Uint32(header[20:])) // the upper half says how long the frame check sequence is
	return nil
}

// nextRecord reads one packet of a pcap file.
func (r *Reader) nextRecord() error {
	if r.atEnd() {
		return io.EOF
	}
	var header [16]byte
	if err := r.fill(header[:]); err != nil {
		return err
	}
	seconds, fraction := uint64(r.order.Uint32(header[0:])), uint64(r.order.Uint32(header[4:]))
	r.raw.link = r.pcap.link
	r.raw.packet = Packet{
		AtNs:      min(seconds*1e9+fraction*r.pcap.unit, MaxNs),
		Length:    r.order.Uint32(header[12:]),
		Interface: 1,
	}
	return r.readData(r.order.Uint32(header[8:]))
}
