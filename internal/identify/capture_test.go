package identify

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weir/internal/fingerprint/ja4plus"
	"weir/internal/flow"
	"weir/internal/testja4"
)

// sampler does with a capture what the kernel side does with packets, but samples everything.
type sampler struct {
	t           testing.TB
	methods     Methods
	values      testja4.Values
	connections map[flow.Key]*connection
}

// connection is what a sampler keeps of one.
type connection struct {
	*Conversation
	initiator flow.Initiator
	first     [2]uint32 // sequence number of the first byte, by end
	begun     [2]bool
	handshake flow.Handshake
	lastNs    uint64 // of the last SYN-ACK
	lengths   flow.Lengths
}

// sampled returns the distinct fingerprints that Conversations make of a capture.
func sampled(t testing.TB, capture string, methods Methods) testja4.Values {
	t.Helper()
	s := sampler{t, methods, testja4.Values{}, map[flow.Key]*connection{}}
	for packet, timeNs := range testja4.Packets(t, capture) {
		s.packet(packet, timeNs)
	}
	for _, c := range s.connections {
		s.add(c.Handshake(&c.handshake, c.initiator))
	}
	return s.values
}

func (s *sampler) add(list []Found) {
	for _, f := range list {
		s.values.Add(f.Method, f.Value)
		if f.Raw != "" {
			s.values.Add(f.Method+"_r", f.Raw)
		}
	}
}

// packet takes the transport layers of a packet, each with the network layer around it.
func (s *sampler) packet(packet gopacket.Packet, timeNs uint64) {
	var from, to netip.Addr
	sample := flow.Sample{TimeNs: timeNs}
	for _, layer := range packet.Layers() {
		switch l := layer.(type) {
		case *layers.IPv4:
			from, to, sample.TTL = address(l.SrcIP), address(l.DstIP), l.TTL
		case *layers.IPv6:
			from, to, sample.TTL = address(l.SrcIP), address(l.DstIP), l.HopLimit
		case *layers.TCP:
			sample.Kind, sample.Data = flow.SampleStream, l.Payload
			sample.Key, sample.End = key(netip.AddrPortFrom(from, uint16(l.SrcPort)), netip.AddrPortFrom(to, uint16(l.DstPort)), 6)
			s.segment(sample, l)
		case *layers.UDP:
			sample.Kind, sample.Data = flow.SampleDatagram, l.Payload
			sample.Key, sample.End = key(netip.AddrPortFrom(from, uint16(l.SrcPort)), netip.AddrPortFrom(to, uint16(l.DstPort)), 17)
			s.sample(s.connection(sample.Key), sample)
		}
	}
}

func address(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrFrom16(a.As16())
}

// key returns the key of a connection, and which end sends.
func key(from, to netip.AddrPort, protocol uint8) (flow.Key, uint8) {
	if from.Compare(to) > 0 {
		return flow.Key{Ends: [2]netip.AddrPort{to, from}, Protocol: protocol}, 1
	}
	return flow.Key{Ends: [2]netip.AddrPort{from, to}, Protocol: protocol}, 0
}

func (s *sampler) connection(k flow.Key) *connection {
	c := s.connections[k]
	if c == nil {
		c = &connection{Conversation: NewConversation(s.methods), lengths: flow.Lengths{Key: k}}
		s.connections[k] = c
	}
	return c
}

// sample gives a sample to its connection, which must not keep what belongs to who hands it over.
func (s *sampler) sample(c *connection, sample flow.Sample) {
	sample.Data = bytes.Clone(sample.Data)
	list, err := c.Sample(&sample)
	if err != nil {
		s.t.Error(err)
	}
	s.add(list)
	clear(sample.Data)
}

func (s *sampler) segment(sample flow.Sample, l *layers.TCP) {
	if l.SYN && !l.ACK { // the ports may have served before
		if c := s.connections[sample.Key]; c != nil {
			s.add(c.Handshake(&c.handshake, c.initiator))
			delete(s.connections, sample.Key)
		}
	}
	c := s.connection(sample.Key)
	c.opening(sample, l)
	if !c.begun[sample.End] {
		c.first[sample.End], c.begun[sample.End] = l.Seq, true
		if l.SYN {
			c.first[sample.End]++
		}
	}
	isSSH := c.Facts().CarriesSSH || bytes.HasPrefix(l.Payload, []byte("SSH-"))
	s.lengths(c, sample, l, isSSH)
	if sample.Offset = l.Seq - c.first[sample.End]; len(l.Payload) > 0 {
		s.sample(c, sample)
	}
}

// opening gathers the handshake.
func (c *connection) opening(sample flow.Sample, l *layers.TCP) {
	const header = 20
	opening := flow.Opening{TimeNs: sample.TimeNs, Window: l.Window, TTL: sample.TTL, Options: bytes.Clone(l.Contents[header:])}
	h := &c.handshake
	opener := c.initiator == flow.InitiatorEnd0 && sample.End == 0 || c.initiator == flow.InitiatorEnd1 && sample.End == 1
	switch {
	case l.SYN && !l.ACK:
		h.SYN, c.initiator = opening, flow.InitiatorEnd0+flow.Initiator(sample.End)
	case l.SYN && h.SYNACK.TimeNs == 0:
		h.SYNACK, c.lastNs = opening, sample.TimeNs
	case l.SYN:
		h.Resent, c.lastNs = append(h.Resent, time.Duration(sample.TimeNs-c.lastNs)), sample.TimeNs
	case l.ACK && opener && h.SYNACK.TimeNs > 0 && h.ACKNs == 0:
		h.ACKNs = sample.TimeNs
	}
}

// lengths gathers windows of SSH.
func (s *sampler) lengths(c *connection, sample flow.Sample, l *layers.TCP, isSSH bool) {
	const flags, onlyACK = 13, 0x10
	switch {
	case len(l.Payload) > 0 && isSSH:
		c.lengths.Payloads[sample.End] = append(c.lengths.Payloads[sample.End], uint16(len(l.Payload)))
	case l.Contents[flags] == onlyACK:
		c.lengths.Acks[sample.End]++
	}
	if len(c.lengths.Payloads[0])+len(c.lengths.Payloads[1]) == ja4plus.SSHWindow {
		c.lengths.TimeNs = sample.TimeNs
		s.add(c.Lengths(&c.lengths))
		c.lengths = flow.Lengths{Key: sample.Key}
	}
}
