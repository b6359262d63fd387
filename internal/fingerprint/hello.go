package fingerprint

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// Extension types that are looked into (IANA, TLS ExtensionType Values).
const (
	ExtensionServerName          = 0x0000
	ExtensionSignatureAlgorithms = 0x000d
	ExtensionALPN                = 0x0010
	ExtensionSupportedVersions   = 0x002b
)

// Versions of TLS and its forerunners as they are sent.
const (
	VersionSSL2  = 0x0002
	VersionSSL3  = 0x0300
	VersionTLS10 = 0x0301
	VersionTLS11 = 0x0302
	VersionTLS12 = 0x0303
	VersionTLS13 = 0x0304
)

// ClientHello is the first message of a TLS client (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2). Its slices lie in the
// message that it was parsed from.
type ClientHello struct {
	Version             uint16 // legacy_version
	Ciphers             Codes
	Extensions          Extensions
	ServerName          []byte // the host name of server_name (RFC 6066); nil if there is none
	ALPN                []byte // the first protocol (RFC 7301); nil if there is none
	Versions            Codes  // supported_versions
	SignatureAlgorithms Codes
}

// ServerHello is the answer to it, HelloRetryRequest included. Its slices lie in the message that it was parsed from.
type ServerHello struct {
	Version    uint16 // that was chosen: by supported_versions, else legacy_version
	Cipher     uint16
	Extensions Extensions
	ALPN       []byte // the protocol that was chosen; nil if it was not said here
}

// Extensions are those of a hello, as they were sent.
type Extensions []byte

// All gives type and contents of each extension, in order, as far as they are whole.
func (e Extensions) All() iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for rest := e; len(rest) >= extensionHeader; {
			end := extensionHeader + int(binary.BigEndian.Uint16(rest[2:]))
			if end > len(rest) || !yield(binary.BigEndian.Uint16(rest), rest[extensionHeader:end:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

const extensionHeader = 4

// each calls a function with each extension, and returns an error if they do not fill their place.
func (e Extensions) each(do func(uint16, []byte) error) error {
	filled := 0
	for code, contents := range e.All() {
		if err := do(code, contents); err != nil {
			return fmt.Errorf("extension %d: %w", code, err)
		}
		filled += extensionHeader + len(contents)
	}
	if filled != len(e) {
		return fmt.Errorf("extensions: %w", ErrMalformed)
	}
	return nil
}

// helloRetry is the random that makes a ServerHello a HelloRetryRequest (RFC 8446, section 4.1.3): the SHA-256 of that name.
const helloRetry = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91" +
	"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

const randomBytes = 32

// ParseClientHello parses the body of a ClientHello message.
func ParseClientHello(body []byte) (ClientHello, error) {
	r := reader{rest: body}
	hello := ClientHello{Version: uint16(r.number(2))}
	r.take(randomBytes)
	r.vector(1) // legacy_session_id
	hello.Ciphers = r.vector(2)
	r.vector(1)          // legacy_compression_methods
	if len(r.rest) > 0 { // before TLS 1.3 there need be none
		hello.Extensions = r.vector(2)
	}
	if !r.ended() || len(hello.Ciphers)%2 != 0 {
		return ClientHello{}, fmt.Errorf("ClientHello: %w", ErrMalformed)
	}
	if err := hello.Extensions.each(hello.extension); err != nil {
		return ClientHello{}, fmt.Errorf("ClientHello: %w", err)
	}
	return hello, nil
}

// extension keeps what one extension says.
func (h *ClientHello) extension(code uint16, contents []byte) error {
	r := reader{rest: contents}
	switch code {
	case ExtensionServerName:
		h.ServerName = hostName(&r)
	case ExtensionALPN:
		protocols := reader{rest: r.vector(2)}
		h.ALPN = protocols.vector(1)
	case ExtensionSupportedVersions:
		h.Versions = r.vector(1)
	case ExtensionSignatureAlgorithms:
		h.SignatureAlgorithms = r.vector(2)
	default:
		return nil
	}
	if !r.ended() {
		return ErrMalformed
	}
	return nil
}

// hostName returns the first host name of a server_name extension, which some clients send empty.
func hostName(r *reader) []byte {
	if len(r.rest) == 0 {
		return nil
	}
	names := reader{rest: r.vector(2)}
	for len(names.rest) > 0 {
		const host = 0
		if kind, name := names.number(1), names.vector(2); kind == host && !names.bad {
			return name
		}
	}
	return nil
}

// ParseServerHello parses the body of a ServerHello message.
func ParseServerHello(body []byte) (ServerHello, error) {
	r := reader{rest: body}
	hello := ServerHello{Version: uint16(r.number(2))}
	r.take(randomBytes)
	r.vector(1) // legacy_session_id_echo
	hello.Cipher = uint16(r.number(2))
	r.take(1) // legacy_compression_method
	if len(r.rest) > 0 {
		hello.Extensions = r.vector(2)
	}
	if !r.ended() {
		return ServerHello{}, fmt.Errorf("ServerHello: %w", ErrMalformed)
	}
	if err := hello.Extensions.each(hello.extension); err != nil {
		return ServerHello{}, fmt.Errorf("ServerHello: %w", err)
	}
	return hello, nil
}

// extension keeps what one extension says.
func (h *ServerHello) extension(code uint16, contents []byte) error {
	r := reader{rest: contents}
	switch code {
	case ExtensionALPN:
		protocols := reader{rest: r.vector(2)}
		h.ALPN = protocols.vector(1)
	case ExtensionSupportedVersions:
		h.Version = uint16(r.number(2))
	default:
		return nil
	}
	if !r.ended() {
		return ErrMalformed
	}
	return nil
}

// maxCertificates is how long a chain may be; those on the Internet have up to 10.
const maxCertificates = 32

// ParseCertificates parses the body of a Certificate message of TLS 1.2 or earlier (RFC 5246, section 7.4.2). It returns the
// certificates in DER, the server's own first; they lie in body.
func ParseCertificates(body []byte) ([][]byte, error) {
	r := reader{rest: body}
	list := reader{rest: r.vector(3)}
	var certificates [][]byte
	for len(list.rest) > 0 && len(certificates) < maxCertificates {
		certificates = append(certificates, list.vector(3))
	}
	if !r.ended() || !list.ended() {
		return nil, fmt.Errorf("TLS certificates: %w", ErrMalformed)
	}
	return certificates, nil
}
