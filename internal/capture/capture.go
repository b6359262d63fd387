// Package capture reads packet captures, pcap and pcapng, as Ethernet frames. It takes nothing in a file on trust: memory is
// bounded whatever lengths it states, and an error says where the file stops making sense.
package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// FrameBytes is how much of a packet is kept, about what the kernel takes in a test run. The rest is passed over.
const FrameBytes = 3000 - ethernetHeader

// MaxNs is the latest time that a packet can have: in the year 2116.
const MaxNs = 1<<62 - 1

// Packet is a packet of a capture.
type Packet struct {
	// Frame is an Ethernet header, made up if the link has none, and at most the first FrameBytes of what was captured. A
	// packet that was cut in its link header is one of IP that was cut behind it. It is valid until the next call.
	Frame     []byte
	Length    uint32 // bytes on the wire as the capture has it, with its own link header
	AtNs      uint64 // Unix time, nanoseconds, at most MaxNs; that of the packet before it if the capture has none
	Interface uint32 // number of the interface, from 1
}

// Reader reads a capture.
type Reader struct {
	in      *bufio.Reader
	order   binary.ByteOrder
	next    func() error // reads a record into raw, and says io.EOF where one could begin
	pcap    pcap
	pcapng  pcapng
	offset  int64 // bytes read
	packets uint64

	raw     raw
	packet  Packet
	unknown map[LinkType]uint64 // packets of links that are not read
}

// raw is a packet as it is in the file. The data begins behind room for a made-up Ethernet header.
type raw struct {
	packet   Packet // without its frame
	link     LinkType
	isPacket bool // the record was one
	captured uint32
	data     [ethernetHeader + FrameBytes]byte
}

// errCut is what a file ends with that was not written to its end.
var errCut = errors.New("the file is cut short")

// NewReader reads the beginning of a capture. Its error says what the file is not.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<16), unknown: map[LinkType]uint64{}}
	magic, err := r.in.Peek(4)
	if len(magic) < 4 {
		if err == io.EOF {
			err = fmt.Errorf("not a pcap or pcapng file: it has %d bytes", len(magic))
		}
		return nil, err
	}
	switch start := binary.BigEndian.Uint32(magic); {
	case start == blockSection:
		r.next = r.nextBlock
	case r.pcap.recognise(magic, &r.order):
		r.next = r.nextRecord
		err = r.readFileHeader()
	default:
		err = fmt.Errorf("not a pcap or pcapng file: it begins with %x", magic)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Next returns the next packet of a link that is read, or io.EOF where a packet could begin. Any other error says which
// packet the file is damaged at; there is nothing to be read behind it.
func (r *Reader) Next() (*Packet, error) {
	for {
		start := r.offset
		r.raw.isPacket = false
		err := r.next()
		if err == io.EOF {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("behind packet %d, at byte %d: %w", r.packets, start, err)
		}
		if !r.raw.isPacket {
			continue
		}
		r.packets++
		r.packet = r.raw.packet
		r.packet.Length = max(r.packet.Length, r.raw.captured)
		var ok bool
		if r.packet.Frame, ok = r.raw.frame(); ok {
			return &r.packet, nil
		}
		r.unknown[r.raw.link]++
	}
}

// Packets returns how many packets were read, and Offset how many bytes.
func (r *Reader) Packets() uint64 { return r.packets }

// Offset returns how many bytes were read.
func (r *Reader) Offset() int64 { return r.offset }

// InterfaceName returns the name that the capture has for one of its interfaces, or "" if it has none.
func (r *Reader) InterfaceName(number uint32) string {
	if number == 0 || int(number) > len(r.pcapng.names) {
		return ""
	}
	return r.pcapng.names[number-1]
}

// Unread is an error that says how many packets were passed over because their link type is not read, or nil.
func (r *Reader) Unread() error {
	var parts []string
	for _, link := range slices.Sorted(maps.Keys(r.unknown)) {
		parts = append(parts, fmt.Sprintf("%d of link type %d", r.unknown[link], link))
	}
	if parts == nil {
		return nil
	}
	return fmt.Errorf("packets passed over: %s; Ethernet, raw IP, Linux cooked and BSD loopback are read", strings.Join(parts, ", "))
}

// fill reads len(b) bytes of something that has begun.
func (r *Reader) fill(b []byte) error {
	n, err := io.ReadFull(r.in, b)
	r.offset += int64(n)
	return cut(err)
}

// skip passes over n bytes of something that has begun.
func (r *Reader) skip(n int64) error {
	for n > 0 {
		done, err := r.in.Discard(int(min(n, 1<<30)))
		r.offset += int64(done)
		n -= int64(done)
		if err != nil {
			return cut(err)
		}
	}
	return nil
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

// atEnd says whether nothing follows. A read error is left to the next read.
func (r *Reader) atEnd() bool {
	_, err := r.in.Peek(1)
	return err == io.EOF
}

// readData reads a packet's captured bytes, as many as are kept.
func (r *Reader) readData(captured uint32) error {
	r.raw.isPacket, r.raw.captured = true, captured
	clear(r.raw.data[:]) // a packet without a header finds none of the one before
	kept := min(captured, FrameBytes)
	if err := r.fill(r.raw.data[ethernetHeader:][:kept]); err != nil {
		return err
	}
	return r.skip(int64(captured - kept))
}
