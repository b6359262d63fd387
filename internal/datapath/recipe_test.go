package datapath

import (
	"encoding/binary"
	"slices"

	"weir/internal/testnet"
)

// recipe is fuzzed bytes that say how to make frames which are well for the most part: random ones hardly ever get
// behind their EtherType. Bytes that are missing are 0.
type recipe []byte

// upTo takes a number from 0 to most.
func (r *recipe) upTo(most int) int {
	if len(*r) == 0 {
		return 0
	}
	b := (*r)[0]
	*r = (*r)[1:]
	return int(b) % (most + 1)
}

// cook makes frames: a packet, or the fragments of one in any order, behind the same tags and labels, with some bytes
// changed and some frames cut.
func (r *recipe) cook() [][]byte {
	if len(*r) == 0 {
		return nil
	}
	p := r.packet()
	frames := [][]byte{p.Bytes()}
	if size := r.upTo(10); size > 0 {
		frames = p.Fragments(8 * size)
		frames = frames[:min(len(frames), 4)]
		first := r.upTo(3) % len(frames)
		frames = append(frames[first:], frames[:first]...)
	}
	etherType, header := r.encapsulation()
	tags := r.tags()
	for i, frame := range frames {
		if etherType != 0 {
			frame = slices.Insert(frame, 14, header...)
			binary.BigEndian.PutUint16(frame[12:], etherType)
		}
		frames[i] = slices.Insert(frame, 12, tags...)
	}
	for len(*r) > 0 {
		r.spoil(frames)
	}
	return frames
}

// packet is one of any protocol over either IP version.
func (r *recipe) packet() testnet.Packet {
	ends := []string{"10.0.0.1", "10.0.0.2"}
	six := r.upTo(1) == 1
	if six {
		ends = []string{"fd00::1", "fd00::1:0:0:2"}
	}
	src, dst := ends[r.upTo(1)], ends[r.upTo(1)]
	protocols := []uint8{tcp, udp, icmp, icmpv6, 132, 136, 33, 47, 59, testnet.Mobility, 51}
	protocol := protocols[r.upTo(len(protocols)-1)]
	size := 1 + r.upTo(254)
	body := make([]byte, max(size, 20))
	copy(body, []byte{3, 232, 0, 53})                             // ports 1000 and 53
	body[12], body[13] = 0x50|byte(r.upTo(15)), byte(r.upTo(255)) // TCP's header length and flags
	body = body[:size]
	if !six {
		return testnet.IP(src, dst, protocol, body).IPOptions(4 * r.upTo(10))
	}
	if r.upTo(1) == 1 { // options that only a first fragment has
		body = slices.Concat([]byte{protocol, 0, 1, 4, 0, 0, 0, 0}, body)
		protocol = testnet.DestinationOptions
	}
	p := testnet.IP(src, dst, protocol, body)
	numbers := []uint8{
		testnet.HopByHop, testnet.Routing, testnet.Authentication, testnet.DestinationOptions, testnet.Mobility, 44,
	}
	for range r.upTo(9) {
		p = p.Extension(numbers[r.upTo(len(numbers)-1)], 8*(1+r.upTo(15)))
	}
	return p
}

// encapsulation is what may stand between the EtherType and IP, and its own EtherType: 0 if there is nothing.
func (r *recipe) encapsulation() (uint16, []byte) {
	switch n := r.upTo(9); n {
	case 1:
		return 0x8864, pppoe(0x0021)
	case 2:
		return 0x8864, pppoe(0x0057)
	case 3, 4, 5, 6, 7:
		return 0x8847, labels(n - 2)
	default:
		return 0, nil
	}
}

// tags are VLAN tags. Some have no id, but a priority.
func (r *recipe) tags() (tags []byte) {
	for range r.upTo(4) {
		tpid := []uint16{0x8100, 0x88a8}[r.upTo(1)]
		tags = binary.BigEndian.AppendUint16(tags, tpid)
		tags = append(tags, byte(16*r.upTo(15)), byte(r.upTo(2)))
	}
	return tags
}

// spoil changes a byte of one of the frames, or cuts the frame.
func (r *recipe) spoil(frames [][]byte) {
	i := r.upTo(2*len(frames) - 1)
	at, by := r.upTo(255), r.upTo(255)
	frame := &frames[i/2]
	switch {
	case at >= len(*frame):
	case i%2 == 0:
		(*frame)[at] ^= byte(by)
	default:
		*frame = (*frame)[:at]
	}
}
