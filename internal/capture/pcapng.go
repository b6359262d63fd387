package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
)

// Block types, and options of an interface's description (draft-ietf-opsawg-pcapng, sections 4.1 to 4.4 and A).
const (
	blockSection   = 0x0a0d0d0a // the same in both byte orders
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6

	byteOrderMagic = 0x1a2b3c4d

	optionName       = 2
	optionResolution = 9
	optionOffset     = 14
)

const (
	maxInterfaces = 4096 // of a file
	maxName       = 255  // bytes; what is behind is passed over
)

// pcapng is what is known of the section that is being read.
type pcapng struct {
	interfaces []interfaceDescription
	numbers    map[string]uint32 // of the interfaces of all sections, by name or, without one, by index
	names      []string          // by number - 1
	left       int64             // bytes of the block's body that were not read yet
	lastNs     uint64
}

type interfaceDescription struct {
	number     uint32 // in the file: an interface that comes again in a later section is the same by its name
	link       LinkType
	snapLen    uint32 // 0: unlimited
	resolution uint8  // of times: 10^-n seconds, or 2^-n with the first bit set
	offset     int64  // seconds
}

var errBlock = errors.New("a block contradicts itself")

// nextBlock reads a block of a pcapng file, whatever is in it.
func (r *Reader) nextBlock() error {
	if r.atEnd() {
		return io.EOF
	}
	kind, length, err := r.readBlockHeader()
	if err != nil {
		return err
	}
	if err := r.readBlock(kind); err != nil {
		return err
	}
	if err := r.passBody(r.pcapng.left); err != nil {
		return err
	}
	var trailer [4]byte
	if err := r.fill(trailer[:]); err != nil {
		return err
	}
	if again := r.order.Uint32(trailer[:]); again != length {
		return fmt.Errorf("%w: %d bytes long at its beginning, %d at its end", errBlock, length, again)
	}
	return nil
}

// readBlockHeader reads a block's type and length and, of a section, the magic by which its byte order is known.
func (r *Reader) readBlockHeader() (kind, length uint32, err error) {
	var header [12]byte
	read := 8
	if err := r.fill(header[:read]); err != nil {
		return 0, 0, err
	}
	if binary.BigEndian.Uint32(header[:]) == blockSection {
		if err := r.fill(header[read:]); err != nil {
			return 0, 0, err
		}
		read = len(header)
		switch uint32(byteOrderMagic) {
		case binary.LittleEndian.Uint32(header[8:]):
			r.order = binary.LittleEndian
		case binary.BigEndian.Uint32(header[8:]):
			r.order = binary.BigEndian
		default:
			return 0, 0, fmt.Errorf("the byte-order magic of a section is %x", header[8:])
		}
	}
	kind, length = r.order.Uint32(header[:]), r.order.Uint32(header[4:])
	r.pcapng.left = int64(length) - int64(read) - 4
	if length%4 != 0 || r.pcapng.left < 0 {
		return 0, 0, fmt.Errorf("%w: %d bytes long", errBlock, length)
	}
	return kind, length, nil
}

func (r *Reader) readBlock(kind uint32) error {
	switch kind {
	case blockSection:
		return r.readSection()
	case blockInterface:
		return r.readInterface()
	case blockEnhanced:
		return r.readEnhanced(4)
	case blockPacket:
		return r.readEnhanced(2)
	case blockSimple:
		return r.readSimple()
	}
	return nil
}

// body reads len(b) bytes of the block's body.
func (r *Reader) body(b []byte) error {
	if int64(len(b)) > r.pcapng.left {
		return fmt.Errorf("%w: too short for what is in it", errBlock)
	}
	r.pcapng.left -= int64(len(b))
	return r.fill(b)
}

// passBody passes over n bytes of the block's body.
func (r *Reader) passBody(n int64) error {
	if n > r.pcapng.left {
		return fmt.Errorf("%w: too short for what is in it", errBlock)
	}
	r.pcapng.left -= n
	return r.skip(n)
}

func (r *Reader) readSection() error {
	var version [4]byte
	if err := r.body(version[:]); err != nil {
		return err
	}
	if major := r.order.Uint16(version[:]); major != 1 {
		return fmt.Errorf("pcapng version %d.%d: only 1 is read", major, r.order.Uint16(version[2:]))
	}
	r.pcapng.interfaces = r.pcapng.interfaces[:0]
	return nil
}

func (r *Reader) readInterface() error {
	var fixed [8]byte
	if err := r.body(fixed[:]); err != nil {
		return err
	}
	if len(r.pcapng.interfaces) == maxInterfaces {
		return fmt.Errorf("more than %d interfaces", maxInterfaces)
	}
	description := interfaceDescription{
		link: LinkType(r.order.Uint16(fixed[:])), snapLen: r.order.Uint32(fixed[4:]), resolution: 6,
	}
	name, err := r.readOptions(&description)
	if err != nil {
		return err
	}
	if description.number, err = r.pcapng.number(name); err != nil {
		return err
	}
	r.pcapng.interfaces = append(r.pcapng.interfaces, description)
	return nil
}

// readOptions reads the options of an interface's description, and returns its name.
func (r *Reader) readOptions(description *interfaceDescription) (name string, err error) {
	for r.pcapng.left >= 4 {
		var header [4]byte
		var buffer [maxName]byte
		if err := r.body(header[:]); err != nil {
			return "", err
		}
		code, length := r.order.Uint16(header[:]), int64(r.order.Uint16(header[2:]))
		if code == 0 {
			break
		}
		value := buffer[:min(length, maxName)]
		if err := r.body(value); err != nil {
			return "", err
		}
		switch {
		case code == optionName:
			name = string(value)
		case code == optionResolution && length == 1:
			description.resolution = value[0]
		case code == optionOffset && length == 8:
			description.offset = int64(r.order.Uint64(value))
		}
		padded := (length + 3) &^ 3
		if err := r.passBody(padded - int64(len(value))); err != nil {
			return "", err
		}
	}
	return name, nil
}

// number returns an interface's number in the file.
func (p *pcapng) number(name string) (uint32, error) {
	identity := "name " + name
	if name == "" {
		identity = "index " + strconv.Itoa(len(p.interfaces))
	}
	if number, ok := p.numbers[identity]; ok {
		return number, nil
	}
	if len(p.names) == maxInterfaces {
		return 0, fmt.Errorf("more than %d interfaces", maxInterfaces)
	}
	if p.numbers == nil {
		p.numbers = map[string]uint32{}
	}
	p.names = append(p.names, name)
	p.numbers[identity] = uint32(len(p.names))
	return uint32(len(p.names)), nil
}

// readEnhanced reads an enhanced packet block or its obsolete forerunner, whose interface is given in indexSize bytes, 4 or 2.
func (r *Reader) readEnhanced(indexSize int) error {
	var fixed [20]byte
	if err := r.body(fixed[:]); err != nil {
		return err
	}
	index := uint32(r.order.Uint16(fixed[:]))
	if indexSize == 4 {
		index = r.order.Uint32(fixed[:])
	}
	description, err := r.pcapng.describe(index)
	if err != nil {
		return err
	}
	units := uint64(r.order.Uint32(fixed[4:]))<<32 | uint64(r.order.Uint32(fixed[8:]))
	r.pcapng.lastNs = description.unixNs(units)
	return r.readBody(description, r.order.Uint32(fixed[12:]), r.order.Uint32(fixed[16:]))
}

// readSimple reads a simple packet block, which has no time, and no length but that on the wire.
func (r *Reader) readSimple() error {
	var fixed [4]byte
	if err := r.body(fixed[:]); err != nil {
		return err
	}
	description, err := r.pcapng.describe(0)
	if err != nil {
		return err
	}
	length := r.order.Uint32(fixed[:])
	captured := length
	if description.snapLen > 0 {
		captured = min(captured, description.snapLen)
	}
	return r.readBody(description, captured, length)
}

// readBody reads the captured bytes of a packet.
func (r *Reader) readBody(description *interfaceDescription, captured, length uint32) error {
	if int64(captured) > r.pcapng.left {
		return fmt.Errorf("%w: too short for a packet of %d bytes", errBlock, captured)
	}
	r.pcapng.left -= int64(captured)
	r.raw.link = description.link
	r.raw.packet = Packet{AtNs: r.pcapng.lastNs, Length: length, Interface: description.number}
	return r.readData(captured)
}

func (p *pcapng) describe(index uint32) (*interfaceDescription, error) {
	if int64(index) >= int64(len(p.interfaces)) {
		return nil, fmt.Errorf("a packet of interface %d, of %d that are described", index, len(p.interfaces))
	}
	return &p.interfaces[index], nil
}

// unixNs turns a time in the interface's units into nanoseconds since 1970, from 0 to MaxNs.
func (d *interfaceDescription) unixNs(units uint64) uint64 {
	numerator, denominator := uint64(1e9), uint64(1)
	n := d.resolution & 0x7f
	if d.resolution > 0x7f { // 2^-n
		if n > 63 {
			units, n = units>>min(n-63, 63), 63 // finer than any clock
		}
		denominator = 1 << n
	} else {
		for ; n > 0 && numerator > 1; n-- {
			numerator /= 10
		}
		for ; n > 0; n-- {
			units /= 10
		}
	}
	high, low := bits.Mul64(units, numerator)
	ns := uint64(MaxNs)
	if high < denominator {
		ns, _ = bits.Div64(high, low, denominator)
		ns = min(ns, MaxNs)
	}
	const second, maxOffset = 1_000_000_000, MaxNs / 1_000_000_000
	offset := min(max(d.offset, -maxOffset), maxOffset) * second
	return uint64(min(max(int64(ns)+offset, 0), MaxNs))
}
