package fingerprint

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// messages returns what Messages finds in a stream that comes in steps of so many bytes, and the error it ends with.
func messages(t *testing.T, stream []byte, step int) (found []Message, last error) {
	t.Helper()
	var m Messages
	for n := 0; ; n = min(n+step, len(stream)) {
		for {
			message, err := m.Next(stream[:n:n])
			if err != nil {
				last = err
				break
			}
			message.Body = bytes.Clone(message.Body)
			found = append(found, message)
		}
		if n == len(stream) || !errors.Is(last, ErrIncomplete) {
			return found, last
		}
	}
}

func TestMessages(t *testing.T) {
	hello, server := message(MessageClientHello, bigHello()), message(MessageServerHello, serverHello(zeroRandom, 0x1301))
	retry := message(MessageServerHello, serverHello(helloRetry, 0x1301))
	certificate, done := message(MessageCertificate, make([]byte, 3000)), message(14, nil)
	handshake := func(payload []byte, size int) []byte { return records(contentHandshake, payload, size) }
	change, data := records(contentChangeCipherSpec, []byte{1}, 1), records(contentApplicationData, make([]byte, 50), 50)
	alert := records(contentAlert, []byte{1, 112}, 2)
	tests := []struct {
		name   string
		stream []byte
		want   []uint8
		last   error
	}{
		{"nothing", nil, nil, ErrIncomplete},
		{"one", handshake(hello, maxRecord), []uint8{1}, ErrIncomplete},
		{"one in many records", handshake(hello, 100), []uint8{1}, ErrIncomplete},
		{"its header in two records", handshake(hello, 3), []uint8{1}, ErrIncomplete},
		{"many in one record", handshake(join(server, certificate, done), maxRecord), []uint8{2, 11, 14}, ErrIncomplete},
		{"many across records", handshake(join(server, certificate, done), 1000), []uint8{2, 11, 14}, ErrIncomplete},
		{"an alert before", join(alert, handshake(server, maxRecord)), []uint8{2}, ErrIncomplete},
		{"an alert within", join(handshake(server[:50], 50), alert, data), nil, ErrMalformed},
		{"TLS 1.2 resumed", join(handshake(server, maxRecord), change, handshake(hello, maxRecord)), []uint8{2}, io.EOF},
		{"TLS 1.3", join(handshake(server, maxRecord), change, data), []uint8{2}, io.EOF},
		{"asked to try again", join(handshake(retry, 99), change, handshake(server, 99), data), []uint8{2, 2}, io.EOF},
		{"tried again", join(handshake(hello, 999), change, handshake(hello, 999), change, data), []uint8{1, 1}, io.EOF},
		{"cut", handshake(hello, maxRecord)[:1000], nil, ErrIncomplete},
		{"a type that there is not", []byte("HTTP/1.1 200 OK"), nil, ErrMalformed},
		{"an empty record", []byte{contentHandshake, 3, 3, 0, 0}, nil, ErrMalformed},
		{"a record too long", []byte{contentHandshake, 3, 3, 0x40, 1}, nil, ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, step := range []int{9, 100, 1400, len(test.stream) + 1} {
				found, last := messages(t, test.stream, step)
				var kinds []uint8
				for _, message := range found {
					kinds = append(kinds, message.Type)
				}
				if !bytes.Equal(kinds, test.want) || !errors.Is(last, test.last) {
					t.Errorf("in steps of %d: types %v and then %v, want %v and %v", step, kinds, last, test.want, test.last)
				}
			}
		})
	}
}

func TestMessageBodies(t *testing.T) {
	for _, size := range []int{1, 3, 4, 5, 700, maxRecord} {
		want := bigHello()
		stream := records(contentHandshake, join(message(14, nil), message(MessageClientHello, want), message(14, nil)), size)
		found, _ := messages(t, stream, 100)
		if len(found) != 3 || !bytes.Equal(found[1].Body, want) {
			t.Errorf("in records of %d bytes: %d messages, or a body that differs", size, len(found))
		}
	}
}

func TestStatedLengthsAreNotAllocated(t *testing.T) {
	stream := records(contentHandshake, []byte{MessageClientHello, 0xff, 0xff, 0xff, 1, 2, 3}, 4)
	var m Messages
	if _, err := m.Next(stream); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("error %v, want that it is incomplete", err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Next(stream) }); n > 1 {
		t.Errorf("%v allocations for a message of which only the length is there", n) // one, for its header of two records
	}
}

// FuzzTLS takes a stream apart as far as it goes.
func FuzzTLS(f *testing.F) {
	f.Add(records(contentHandshake, message(MessageClientHello, bigHello()), 700))
	f.Add(records(contentHandshake, join(message(MessageServerHello, serverHello(helloRetry, 0x1301, alpn("h2"))),
		message(MessageCertificate, vector(3, vector(3, []byte("one")), vector(3, []byte("two"))))), maxRecord))
	f.Fuzz(func(t *testing.T, stream []byte) {
		bound := uint64(16*len(stream) + 8192) // 8192 for the runtime's own and for errors
		if n := allocated(func() { takeApart(stream) }); n > bound {
			t.Errorf("%d bytes allocated for a stream of %d", n, len(stream))
		}
	})
}

func takeApart(stream []byte) {
	var m Messages
	for {
		message, err := m.Next(stream)
		if err != nil {
			return
		}
		switch message.Type {
		case MessageClientHello:
			if hello, err := ParseClientHello(message.Body); err == nil {
				JA4(&hello, TCP)
			}
		case MessageServerHello:
			_, _ = ParseServerHello(message.Body)
		case MessageCertificate:
			_, _ = ParseCertificates(message.Body)
		}
	}
}
