package fingerprint

import (
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"
)

// extension is one of a hello under construction.
type extension struct {
	code     uint16
	contents []byte
}

// vector puts a length of so many bytes in front of some bytes.
func vector(lengthBytes int, parts ...[]byte) []byte {
	var body []byte
	for _, part := range parts {
		body = append(body, part...)
	}
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(body)))
	return append(length[8-lengthBytes:], body...)
}

func codes(numbers ...uint16) []byte {
	var out []byte
	for _, n := range numbers {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	return out
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

func serverName(name string) extension {
	return extension{ExtensionServerName, vector(2, []byte{0}, vector(2, []byte(name)))}
}

func alpn(protocols ...string) extension {
	var list []byte
	for _, p := range protocols {
		list = append(list, vector(1, []byte(p))...)
	}
	return extension{ExtensionALPN, vector(2, list)}
}

func versions(numbers ...uint16) extension {
	return extension{ExtensionSupportedVersions, vector(1, codes(numbers...))}
}

func schemes(numbers ...uint16) extension {
	return extension{ExtensionSignatureAlgorithms, vector(2, codes(numbers...))}
}

func extensions(list ...extension) []byte {
	var out []byte
	for _, e := range list {
		out = append(append(out, codes(e.code)...), vector(2, e.contents)...)
	}
	return vector(2, out)
}

// clientHello is the body of a ClientHello.
func clientHello(version uint16, ciphers []uint16, list ...extension) []byte {
	return join(codes(version), make([]byte, randomBytes), vector(1, make([]byte, 32)), vector(2, codes(ciphers...)),
		vector(1, []byte{0}), extensions(list...))
}

// serverHello is the body of a ServerHello.
func serverHello(random string, cipher uint16, list ...extension) []byte {
	return join(codes(VersionTLS12), []byte(random), vector(1, make([]byte, 32)), codes(cipher), []byte{0}, extensions(list...))
}

// bigHello is as long as one with post-quantum keys: about 1.9 KB.
func bigHello() []byte {
	return clientHello(VersionTLS12, []uint16{0x1301, 0x1302}, serverName("big.example"), versions(VersionTLS13),
		extension{0x0033, vector(2, make([]byte, 1700))}, schemes(0x0403, 0x0804), alpn("h2"))
}

const bigHelloJA4_r = "t13d0205h2_1301,1302_000d,002b,0033_0403,0804"

func message(kind uint8, body []byte) []byte {
	return join([]byte{kind}, vector(3, body))
}

// records puts a payload into records of so many bytes at most.
func records(kind byte, payload []byte, size int) []byte {
	var out []byte
	for len(payload) > 0 {
		n := min(size, len(payload))
		out = append(append(out, kind, 3, 1), vector(2, payload[:n])...)
		payload = payload[n:]
	}
	return out
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// allocated returns how many bytes a call allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
