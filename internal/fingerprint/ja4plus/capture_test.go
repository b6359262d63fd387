package ja4plus

import (
	"bytes"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weir/internal/fingerprint"
	"weir/internal/flow"
	"weir/internal/testja4"
)

// fingerprints returns what the package makes of a capture. It follows each connection in the simplest way that does.
func fingerprints(t *testing.T, file string) testja4.Values {
	t.Helper()
	seen := observer{found: testja4.Values{}, connections: map[ends]*connection{}}
	for packet, timeNs := range testja4.Packets(t, file) {
		seen.packet(packet, timeNs)
	}
	return seen.found
}

// ends are those of a connection, sender first.
type ends struct{ network, transport gopacket.Flow }

func (e ends) reverse() ends { return ends{e.network.Reverse(), e.transport.Reverse()} }

type observer struct {
	found       testja4.Values
	connections map[ends]*connection // by both directions
}

// connection is what is remembered of one. Its first end is the client's, as far as that can be told.
type connection struct {
	client    ends
	handshake flow.Handshake
	lastNs    uint64 // of the last SYN-ACK
	tls       [2]*stream
	head      []byte // of an HTTP request, while it is not complete
	ssh       bool
	lengths   flow.Lengths
	quic      QUICHandshake
	initials  fingerprint.Initials
}

// stream is one direction of TLS, from the first segment that looks like it.
type stream struct {
	first    uint32 // sequence number
	bytes    *fingerprint.Stream
	messages fingerprint.Messages
}

func (o *observer) add(f fingerprint.Fingerprint) {
	if f.Value != "" {
		o.found.Add(f.Method, f.Value)
	}
	if f.Raw != "" {
		o.found.Add(f.Method+"_r", f.Raw)
	}
}

func (o *observer) connection(from ends) (*connection, int) {
	c := o.connections[from]
	if c == nil {
		c = &connection{client: from}
		o.connections[from], o.connections[from.reverse()] = c, c
	}
	if c.client == from {
		return c, 0
	}
	return c, 1
}

// packet takes the innermost network and transport layers.
func (o *observer) packet(p gopacket.Packet, timeNs uint64) {
	var network gopacket.Flow
	var ttl uint8
	for _, layer := range p.Layers() {
		switch l := layer.(type) {
		case *layers.IPv4:
			network, ttl = l.NetworkFlow(), l.TTL
		case *layers.IPv6:
			network, ttl = l.NetworkFlow(), l.HopLimit
		case *layers.TCP:
			o.tcp(ends{network, l.TransportFlow()}, l, ttl, timeNs)
		case *layers.UDP:
			o.udp(ends{network, l.TransportFlow()}, l, ttl, timeNs)
		}
	}
}

func (o *observer) udp(from ends, u *layers.UDP, ttl uint8, timeNs uint64) {
	switch {
	case u.SrcPort == 67 || u.DstPort == 67:
		o.add(JA4D(u.Payload))
	case u.SrcPort == 443 || u.DstPort == 443:
		c, end := o.connection(from)
		o.quic(c, fingerprint.Side(end), u.Payload, ttl, timeNs)
	}
}

func (o *observer) quic(c *connection, from fingerprint.Side, datagram []byte, ttl uint8, timeNs uint64) {
	c.quic.Observe(from, datagram, ttl, timeNs)
	o.add(c.quic.JA4L())
	o.add(c.quic.JA4LS())
	_ = c.initials.Add(from, datagram)
	message, err := c.initials.Message(fingerprint.Server)
	if err == nil && message.Type == fingerprint.MessageServerHello {
		if hello, err := fingerprint.ParseServerHello(message.Body); err == nil {
			o.add(JA4S(&hello, fingerprint.QUIC))
		}
	}
}

func (o *observer) tcp(from ends, s *layers.TCP, ttl uint8, timeNs uint64) {
	if s.SYN && !s.ACK {
		delete(o.connections, from) // the ports may have served before
		delete(o.connections, from.reverse())
	}
	c, end := o.connection(from)
	o.opening(c, end, s, flow.Opening{TimeNs: timeNs, Window: s.Window, TTL: ttl, Options: s.Contents[20:]})
	if len(s.Payload) > 0 {
		o.tls(c, end, s)
		o.http(c, s.Payload)
	}
	o.ssh(c, end, s)
}

// opening gathers the TCP handshake.
func (o *observer) opening(c *connection, end int, s *layers.TCP, opening flow.Opening) {
	h := &c.handshake
	switch {
	case s.SYN && !s.ACK:
		h.SYN = opening
		o.add(JA4T(h.SYN))
	case s.SYN:
		if h.SYNACK.TimeNs == 0 {
			h.SYNACK = opening
		} else {
			h.Resent = append(h.Resent, time.Duration(opening.TimeNs-c.lastNs))
		}
		c.lastNs = opening.TimeNs
		o.add(JA4TS(*h))
	case s.ACK && end == 0 && h.SYNACK.TimeNs > 0 && h.ACKNs == 0:
		h.ACKNs = opening.TimeNs
		o.add(JA4L(*h))
		o.add(JA4LS(*h))
	}
}

// tls reads the messages of a server.
func (o *observer) tls(c *connection, end int, s *layers.TCP) {
	in := c.tls[end]
	if in == nil {
		if !fingerprint.IsTLS(s.Payload) {
			return
		}
		in = &stream{first: s.Seq, bytes: fingerprint.NewStream(16 << 10)}
		c.tls[end] = in
	}
	in.bytes.Add(uint64(s.Seq-in.first), s.Payload)
	for {
		message, err := in.messages.Next(in.bytes.Bytes())
		if err != nil {
			return
		}
		switch message.Type {
		case fingerprint.MessageServerHello:
			if hello, err := fingerprint.ParseServerHello(message.Body); err == nil {
				o.add(JA4S(&hello, fingerprint.TCP))
			}
		case fingerprint.MessageCertificate:
			certificates, _ := fingerprint.ParseCertificates(message.Body)
			for _, certificate := range certificates {
				o.add(JA4X(certificate))
			}
		}
	}
}

// http reads each request, which begins a segment.
func (o *observer) http(c *connection, payload []byte) {
	if line, _, ok := cutLine(payload); ok {
		if _, ok := parseRequestLine(line); ok {
			c.head = []byte{}
		}
	}
	if c.head == nil {
		return
	}
	c.head = append(c.head, payload...)
	if f := JA4H(c.head); f.Value != "" || len(c.head) > MaxHead {
		o.add(f)
		c.head = nil
	}
}

// ssh cuts a connection into windows.
func (o *observer) ssh(c *connection, end int, s *layers.TCP) {
	c.ssh = c.ssh || bytes.HasPrefix(s.Payload, []byte("SSH-"))
	const flags = 13 // offset
	switch {
	case len(s.Payload) > 0 && c.ssh:
		c.lengths.Payloads[end] = append(c.lengths.Payloads[end], uint16(len(s.Payload)))
	case s.Contents[flags] == 0x10:
		c.lengths.Acks[end]++ // from the handshake on
	}
	if f := JA4SSH(c.lengths, 0); f.Value != "" {
		o.add(f)
		c.lengths = flow.Lengths{}
	}
}
