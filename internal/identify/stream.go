package identify

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"weir/internal/fingerprint"
	"weir/internal/fingerprint/ja4plus"
	"weir/internal/flow"
)

// content is what a part of a stream is, by how it begins.
type content uint8

const (
	nothing   content = iota // that is read
	undecided                // too short to tell
	tlsRecords
	sshBanner
	httpRequest
	httpResponse
)

var beginnings = []struct {
	bytes string
	content
}{
	{"\x16\x03", tlsRecords},
	{"SSH-", sshBanner}, // RFC 4253, section 4.2
	{"HTTP/1.", httpResponse},
	// RFC 9110, section 9; RFC 5789
	{"GET ", httpRequest},
	{"HEAD ", httpRequest},
	{"POST ", httpRequest},
	{"PUT ", httpRequest},
	{"DELETE ", httpRequest},
	{"CONNECT ", httpRequest},
	{"OPTIONS ", httpRequest},
	{"TRACE ", httpRequest},
	{"PATCH ", httpRequest},
}

// recognise says what begins with some bytes.
func recognise(start []byte) content {
	const longest = len("OPTIONS ")
	head := string(start[:min(len(start), longest)])
	for _, b := range beginnings {
		switch {
		case strings.HasPrefix(head, b.bytes):
			return b.content
		case strings.HasPrefix(b.bytes, head):
			return undecided
		}
	}
	return nothing
}

// maxStream is how much of one part of a stream is kept: a chain of certificates is the longest.
const maxStream = 16 << 10

// stream is what one end of a TCP connection sent. It is read in parts, each of which begins a segment: a request and then the next, or
// TLS behind what a proxy was told.
type stream struct {
	origin   uint32 // sequence number of the first byte, once it has begun
	begun    bool
	reading  content // the part that is being read
	base     uint64  // where it begins
	pieces   *fingerprint.Stream
	messages fingerprint.Messages
	next     uint64 // where the next part can begin
	over     bool   // no part follows: it is encrypted from here on
}

// piece takes a piece of a stream.
func (c *Conversation) piece(s *flow.Sample) ([]Found, error) {
	d, at := &c.streams[s.End], uint64(s.Offset)
	d.begun, d.origin = true, s.Origin
	if d.over || at < d.next || !d.begin(at, s.Data) {
		return nil, nil
	}
	part := s.Data // often all of it, so that nothing needs to be kept
	if at != d.base || d.pieces != nil {
		part = d.keep(at, s.Data)
	}
	if d.reading == undecided {
		d.reading = recognise(part)
	}
	list, err := c.read(d, part, s)
	switch {
	case d.over || d.reading == nothing:
		d.pieces, d.messages = nil, fingerprint.Messages{}
		d.next = d.base + uint64(len(part))
	case d.pieces == nil:
		d.keep(at, s.Data)
	case d.pieces.Full():
		d.over, d.pieces = true, nil
	}
	return list, err
}

// begin says whether a piece is to be read: it belongs to a part that is being read, or begins one. Before the first part it may
// have come too early.
func (d *stream) begin(at uint64, data []byte) bool {
	if d.reading != nothing {
		return true
	}
	d.base, d.reading = at, recognise(data)
	if d.reading == nothing && d.next == 0 && at > 0 {
		d.base, d.reading = 0, undecided
	}
	if d.reading == nothing {
		d.next = at + 1
	}
	return d.reading != nothing
}

// keep adds a piece to those of the part, and returns the part as far as it is whole.
func (d *stream) keep(at uint64, data []byte) []byte {
	if d.pieces == nil {
		d.pieces = fingerprint.NewStream(maxStream)
	}
	if at >= d.base {
		d.pieces.Add(at-d.base, data)
	}
	return d.pieces.Bytes()
}

// read reads a part as far as it has come. When it is done with it, it says that nothing is being read.
func (c *Conversation) read(d *stream, part []byte, s *flow.Sample) ([]Found, error) {
	switch d.reading {
	case tlsRecords:
		return c.tls(d, part, s)
	case httpRequest:
		return c.request(d, part, s)
	case httpResponse:
		c.facts.CarriesHTTP = true
		d.reading = nothing
	case sshBanner:
		c.facts.CarriesSSH = true
		d.over = true
	}
	return nil, nil
}

// request reads the head of a request of HTTP/1.
func (c *Conversation) request(d *stream, part []byte, s *flow.Sample) ([]Found, error) {
	if err := c.speaksAs(fingerprint.Client, s.End); err != nil {
		d.reading = nothing
		return nil, err
	}
	c.facts.CarriesHTTP = true
	if !c.methods["ja4h"] {
		d.reading = nothing
		return nil, nil
	}
	list := found(nil, ja4plus.JA4H(part), s.TimeNs)
	if len(list) > 0 || len(part) > ja4plus.MaxHead || bytes.Contains(part, []byte("\r\n\r\n")) {
		d.reading = nothing
	}
	return list, nil
}

// tls reads the first messages of one side: of a client its hello, of a server its hello and, if they are asked for, its certificates.
func (c *Conversation) tls(d *stream, part []byte, s *flow.Sample) ([]Found, error) {
	var list []Found
	for !d.over && d.reading == tlsRecords {
		message, err := d.messages.Next(part)
		switch {
		case errors.Is(err, fingerprint.ErrIncomplete):
			return list, nil
		case errors.Is(err, io.EOF):
			d.over = true
			return list, nil
		case err == nil:
			var more []Found
			more, err = c.message(d, message, s)
			list = append(list, more...)
		}
		if err != nil {
			d.over = true
			return list, err
		}
	}
	return list, nil
}

// message reads a handshake message, and says whether the stream is over after it.
func (c *Conversation) message(d *stream, message fingerprint.Message, s *flow.Sample) ([]Found, error) {
	switch message.Type {
	case fingerprint.MessageClientHello:
		return c.clientSpeaks(d, message.Body, s)
	case fingerprint.MessageServerHello:
		return c.serverSpeaks(d, message.Body, s)
	case fingerprint.MessageCertificate:
		d.over = true
		return c.certificates(message.Body, s.TimeNs)
	}
	return nil, nil
}

// clientSpeaks reads the hello of a client, whose certificates may follow in another flight. One more hello answers a
// HelloRetryRequest, and says nothing new.
func (c *Conversation) clientSpeaks(d *stream, hello []byte, s *flow.Sample) ([]Found, error) {
	d.over = true
	if err := c.speaksAs(fingerprint.Client, s.End); err != nil {
		return nil, err
	}
	if c.methods["ja4x"] {
		d.over, d.reading = false, nothing
	}
	if c.facts.SawClientHello {
		return nil, nil
	}
	return c.clientHello(hello, fingerprint.TCP, s.TimeNs)
}

// serverSpeaks reads the hello of a server, with certificates behind it, unless they are encrypted as from TLS 1.3 on.
func (c *Conversation) serverSpeaks(d *stream, hello []byte, s *flow.Sample) ([]Found, error) {
	d.over = true
	if err := c.speaksAs(fingerprint.Server, s.End); err != nil {
		return nil, err
	}
	list, err := c.serverHello(hello, fingerprint.TCP, s.TimeNs)
	d.over = !c.methods["ja4x"] || c.facts.TLSVersion == "1.3"
	return list, err
}

// certificates returns the fingerprint of each certificate of a chain.
func (c *Conversation) certificates(body []byte, timeNs uint64) ([]Found, error) {
	chain, err := fingerprint.ParseCertificates(body)
	if err != nil {
		return nil, err
	}
	var list []Found
	for _, certificate := range chain {
		list = found(list, ja4plus.JA4X(certificate), timeNs)
	}
	return list, nil
}
