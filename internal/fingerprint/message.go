package fingerprint

import (
	"fmt"
	"io"
)

// Types of the handshake messages that are looked into (RFC 8446, appendix B.3).
const (
	MessageClientHello = 1
	MessageServerHello = 2
	MessageCertificate = 11
)

// Message is a handshake message.
type Message struct {
	Type uint8
	Body []byte
}

// ParseMessage returns the first handshake message of bytes that have no records around them, as in QUIC.
func ParseMessage(plain []byte) (Message, error) {
	r := reader{rest: plain}
	message := Message{Type: uint8(r.number(1)), Body: r.vector(3)}
	if r.bad {
		return Message{}, ErrIncomplete
	}
	return message, nil
}

// Content types of records (RFC 8446, section 5.1).
const (
	contentChangeCipherSpec = 20
	contentAlert            = 21
	contentHandshake        = 22
	contentApplicationData  = 23
)

const (
	recordHeader  = 5
	messageHeader = 4
	maxRecord     = 1 << 14 // plain text
)

// IsTLS says whether a stream begins like a TLS handshake. Three bytes tell.
func IsTLS(stream []byte) bool {
	return len(stream) >= 3 && stream[0] == contentHandshake && stream[1] == 3 && stream[2] <= 4
}

// Messages finds the handshake messages in a stream of TLS records, as far as they are in plain text. A record can hold several, and
// a message can span records. The zero value is at the beginning.
type Messages struct {
	next position
	more bool // a change of cipher spec comes between two messages in plain text (RFC 8446, appendix D.4)
}

// position is a place in a stream of records.
type position struct {
	record int // where the record begins
	used   int // how many bytes of its contents lie before
}

// Next returns the next message of a stream, of which the caller has more at each call; the message may lie in it. It says
// ErrIncomplete if the message is not yet there, and io.EOF where the plain text ends.
func (m *Messages) Next(stream []byte) (Message, error) {
	at := m.next
	if err := m.passOver(stream, &at); err != nil {
		return Message{}, err
	}
	header, err := contents(stream, &at, messageHeader)
	if err != nil {
		return Message{}, err
	}
	r := reader{rest: header}
	message := Message{Type: uint8(r.number(1))}
	if message.Body, err = contents(stream, &at, r.number(3)); err != nil {
		return Message{}, err
	}
	m.next, m.more = at, againInPlain(message)
	return message, nil
}

// againInPlain says whether a change of cipher spec behind a message need not mean that all that follows is encrypted.
func againInPlain(message Message) bool {
	const random = 2 // offset
	return message.Type == MessageClientHello || message.Type == MessageServerHello &&
		len(message.Body) >= random+randomBytes && string(message.Body[random:][:randomBytes]) == helloRetry
}

// passOver moves to the next record of the handshake, over those that can lie between two messages.
func (m *Messages) passOver(stream []byte, at *position) error {
	for {
		kind, length, err := record(stream, at.record)
		if err != nil {
			return err
		}
		switch {
		case at.used < length && kind == contentHandshake:
			return nil
		case kind == contentApplicationData, kind == contentChangeCipherSpec && !m.more:
			return io.EOF
		}
		*at = position{record: at.record + recordHeader + length} // used up, or an alert, which need not be the end
	}
}

// contents returns the next n bytes of handshake, joined if they span records.
func contents(stream []byte, at *position, n int) ([]byte, error) {
	if n > len(stream)-at.record { // so a length that is only stated is not allocated
		return nil, ErrIncomplete
	}
	var joined []byte
	for {
		fragment, err := rest(stream, at, n-len(joined))
		if err != nil {
			return nil, err
		}
		if joined == nil && len(fragment) == n {
			return fragment, nil
		}
		if joined == nil {
			joined = make([]byte, 0, n)
		}
		if joined = append(joined, fragment...); len(joined) == n {
			return joined, nil
		}
	}
}

// rest returns what the record has left of contents, at most n bytes, or the beginning of the next record if it has nothing left.
func rest(stream []byte, at *position, n int) ([]byte, error) {
	kind, length, err := record(stream, at.record)
	if err != nil {
		return nil, err
	}
	if at.used == length && n > 0 {
		*at = position{record: at.record + recordHeader + length}
		if kind, length, err = record(stream, at.record); err != nil {
			return nil, err
		}
	}
	if kind != contentHandshake {
		return nil, fmt.Errorf("TLS record of type %d within a handshake message: %w", kind, ErrMalformed)
	}
	start := at.record + recordHeader + at.used
	n = min(n, length-at.used)
	if start+n > len(stream) {
		return nil, ErrIncomplete
	}
	at.used += n
	return stream[start:][:n:n], nil
}

// record parses the header of a record.
func record(stream []byte, at int) (kind, length int, err error) {
	r := reader{rest: stream[min(at, len(stream)):]}
	kind = r.number(1)
	major := r.number(1)
	r.number(1)
	length = r.number(2)
	switch {
	case r.bad:
		return 0, 0, ErrIncomplete
	case kind < contentChangeCipherSpec || kind > contentApplicationData || major != 3:
		return 0, 0, fmt.Errorf("TLS record of type %d and version %d: %w", kind, major, ErrMalformed)
	case length > maxRecord && kind == contentHandshake, length == 0 && kind != contentApplicationData:
		return 0, 0, fmt.Errorf("TLS record of %d bytes: %w", length, ErrMalformed)
	}
	return kind, length, nil
}
