package identify

import (
	"weir/internal/fingerprint"
	"weir/internal/fingerprint/ja4plus"
	"weir/internal/flow"
)

// quic is a connection of QUIC.
type quic struct {
	initials *fingerprint.Initials // nil before the first packet of the client, and after both hellos
	latency  ja4plus.QUICHandshake
	begun    bool
	client   uint8    // end
	ids      [][]byte // by which the client calls the server, once both hellos were read
	failed   int      // datagrams from which it did not become clear who is the client
}

// maxFailed bounds what is spent on datagrams that only look like QUIC.
const maxFailed = 8

// initial takes a datagram of QUIC. Of those that do not begin with an Initial packet only the time and the type count, so that
// they may have been cut.
func (c *Conversation) initial(s *flow.Sample) ([]Found, error) {
	q := &c.quic
	var failed error
	switch {
	case fingerprint.QUICTypeOf(s.Data) != fingerprint.QUICInitial:
		if !q.begun {
			return nil, nil
		}
	case q.begun:
		if q.initials != nil {
			failed = q.initials.Add(q.side(s.End), s.Data)
		}
	case q.failed == maxFailed:
		return nil, nil
	default:
		if failed = q.begin(s); !q.begun {
			q.failed++
			return nil, failed
		}
		c.initiator = flow.InitiatorEnd0 + flow.Initiator(s.End)
	}
	list, err := c.hellos(s)
	if failed == nil {
		failed = err
	}
	q.latency.Observe(q.side(s.End), s.Data, s.TTL, s.TimeNs)
	list = c.once(list, "ja4ls", q.latency.JA4LS, s.TimeNs)
	return c.once(list, "ja4l", q.latency.JA4L, s.TimeNs), failed
}

// begin finds out whether a datagram is of a client: then its own keys open it.
func (q *quic) begin(s *flow.Sample) error {
	initials := new(fingerprint.Initials)
	err := initials.Add(fingerprint.Client, s.Data)
	if initials.Begun() {
		q.begun, q.client, q.initials = true, s.End, initials
	}
	return err
}

func (q *quic) side(end uint8) fingerprint.Side {
	if end == q.client {
		return fingerprint.Client
	}
	return fingerprint.Server
}

// hellos reads the hello that a datagram completes.
func (c *Conversation) hellos(s *flow.Sample) ([]Found, error) {
	q := &c.quic
	if q.initials == nil {
		return nil, nil
	}
	side := q.side(s.End)
	message, err := q.initials.Message(side)
	if err != nil { // it is not complete
		q.release(&c.facts)
		return nil, nil
	}
	q.initials.Done(side)
	var list []Found
	switch {
	case side == fingerprint.Client && message.Type == fingerprint.MessageClientHello:
		list, err = c.clientHello(message.Body, fingerprint.QUIC, s.TimeNs)
	case side == fingerprint.Server && message.Type == fingerprint.MessageServerHello:
		list, err = c.serverHello(message.Body, fingerprint.QUIC, s.TimeNs)
	}
	q.release(&c.facts)
	return list, err
}

// release lets go of both sides when no hello is to be expected any more.
func (q *quic) release(facts *Facts) {
	clientDone := facts.SawClientHello || q.initials.Spent(fingerprint.Client)
	if serverDone := facts.SawServerHello || q.initials.Spent(fingerprint.Server); clientDone && serverDone {
		if facts.SawServerHello {
			q.ids = q.initials.Destinations()
		}
		q.initials = nil
	}
}

// replaced says whether a datagram begins another connection. One without a ServerHello is not known from a Retry: its hello is read
// again.
func (q *quic) replaced(s *flow.Sample) bool {
	return q.ids != nil && s.End == q.client && fingerprint.Begins(s.Data, q.ids)
}

// Ports of DHCP: IANA has them for BOOTP (RFC 2131), PXE and DHCPv6 (RFC 8415).
const (
	portDHCPServer, portDHCPClient     = 67, 68
	portPXE                            = 4011
	portDHCPv6Client, portDHCPv6Server = 546, 547
)

// dhcp takes a datagram that may be of DHCP, and returns its fingerprint.
func (c *Conversation) dhcp(s *flow.Sample) []Found {
	for _, end := range s.Key.Ends {
		switch port := end.Port(); {
		case c.methods["ja4d"] && (port == portDHCPServer || port == portDHCPClient || port == portPXE):
			return found(nil, ja4plus.JA4D(s.Data), s.TimeNs)
		case c.methods["ja4d6"] && (port == portDHCPv6Client || port == portDHCPv6Server):
			return found(nil, ja4plus.JA4D6(s.Data), s.TimeNs)
		}
	}
	return nil
}
