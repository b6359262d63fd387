// Package identify makes of what was sampled of a connection who is talking: fingerprints, and what the connection says of itself in
// plain text.
package identify

import (
	"fmt"
	"slices"

	"weir/internal/fingerprint"
	"weir/internal/fingerprint/ja4plus"
	"weir/internal/flow"
)

// Methods are those that are on, by the names that their fingerprints have.
type Methods map[string]bool

// Found is a fingerprint, and when what it was made of was complete.
type Found struct {
	fingerprint.Fingerprint
	TimeNs uint64 // CLOCK_MONOTONIC, nanoseconds
}

// Conversation is one connection. It holds what it needs of either end until it has read it, about 20 KB at most, and nothing of that
// afterwards.
type Conversation struct {
	methods   Methods
	facts     Facts
	initiator flow.Initiator // the client, by speaksAs if it was not seen who opened the connection
	streams   [2]stream      // of TCP, by end
	quic      quic
	told      []string // methods that tell of how the connection was opened, which is told once
}

// NewConversation returns a connection of which nothing is known.
func NewConversation(methods Methods) *Conversation {
	return &Conversation{methods: methods}
}

// Replaced says whether a sample is of another connection, which was opened between the same ports: its end began anew.
func (c *Conversation) Replaced(s *flow.Sample) bool {
	if s.Kind == flow.SampleDatagram {
		return c.quic.replaced(s)
	}
	d := &c.streams[s.End]
	return d.begun && d.origin != s.Origin
}

// Facts returns what is known by now.
func (c *Conversation) Facts() Facts {
	return c.facts
}

// Held returns how many bytes of memory wait for more.
func (c *Conversation) Held() (size int) {
	for i := range c.streams {
		if pieces := c.streams[i].pieces; pieces != nil {
			size += pieces.Size()
		}
	}
	if c.quic.initials != nil {
		size += c.quic.initials.Size()
	}
	return size
}

// GiveUp lets go of what waits for more. What is known stays.
func (c *Conversation) GiveUp() {
	for i := range c.streams {
		if d := &c.streams[i]; d.pieces != nil {
			d.over, d.pieces = true, nil
		}
	}
	c.quic.initials = nil
}

// Sample takes a sample of either end, and returns the fingerprints that it completes, in order. An error tells what of the sample
// does not parse; it may come beside fingerprints, and what comes later is read all the same.
func (c *Conversation) Sample(s *flow.Sample) ([]Found, error) {
	c.openedBy(s.Opener)
	switch {
	case s.Kind == flow.SampleStream:
		return c.piece(s)
	case fingerprint.IsQUIC(s.Data):
		return c.initial(s)
	}
	return c.dhcp(s), nil
}

// Lengths takes a window of an SSH connection, and returns its fingerprint.
func (c *Conversation) Lengths(l *flow.Lengths) []Found {
	c.facts.CarriesSSH = true
	if !c.methods["ja4ssh"] {
		return nil
	}
	c.openedBy(l.Opener)
	return found(nil, ja4plus.JA4SSH(*l, c.client(l.Key)), l.TimeNs)
}

// openedBy notes who opened the connection, which does not change any more.
func (c *Conversation) openedBy(end flow.Initiator) {
	if c.initiator == flow.InitiatorUnknown {
		c.initiator = end
	}
}

// speaksAs says whether an end is the client, or the server, that it speaks as. Nothing keeps an end from sending what only the other
// should, to be taken for it: so the client is who opened the connection or, if that was not seen, who first speaks as one.
func (c *Conversation) speaksAs(side fingerprint.Side, end uint8) error {
	client := flow.InitiatorEnd0 + flow.Initiator(end)
	if side == fingerprint.Server {
		client = flow.InitiatorEnd1 - flow.Initiator(end)
	}
	if c.openedBy(client); c.initiator != client {
		return fmt.Errorf("what only the other end should send: %w", fingerprint.ErrMalformed)
	}
	return nil
}

// client returns which end is the client: the one that opened the connection, or if that is not known, the one with the higher port.
func (c *Conversation) client(key flow.Key) int {
	switch c.initiator {
	case flow.InitiatorEnd0:
		return 0
	case flow.InitiatorEnd1:
		return 1
	}
	if key.Ends[1].Port() > key.Ends[0].Port() {
		return 1
	}
	return 0
}

// Handshake takes how the connection was opened and by whom, and returns the fingerprints of that, the first time that there are any.
func (c *Conversation) Handshake(h *flow.Handshake, by flow.Initiator) []Found {
	c.openedBy(by)
	list := c.once(nil, "ja4t", func() fingerprint.Fingerprint { return ja4plus.JA4T(h.SYN) }, h.SYN.TimeNs)
	list = c.once(list, "ja4ts", func() fingerprint.Fingerprint { return ja4plus.JA4TS(*h) }, h.SYNACK.TimeNs)
	list = c.once(list, "ja4ls", func() fingerprint.Fingerprint { return ja4plus.JA4LS(*h) }, h.ACKNs)
	return c.once(list, "ja4l", func() fingerprint.Fingerprint { return ja4plus.JA4L(*h) }, h.ACKNs)
}

// once appends the fingerprint of a method that is on, unless it was told before.
func (c *Conversation) once(list []Found, method string, of func() fingerprint.Fingerprint, timeNs uint64) []Found {
	if !c.methods[method] || slices.Contains(c.told, method) {
		return list
	}
	extended := found(list, of(), timeNs)
	if len(extended) > len(list) {
		c.told = append(c.told, method)
	}
	return extended
}

// found appends a fingerprint, if there is one.
func found(list []Found, f fingerprint.Fingerprint, timeNs uint64) []Found {
	if f.Value == "" {
		return list
	}
	return append(list, Found{f, timeNs})
}
