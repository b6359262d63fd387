package ja4plus

import "weir/internal/fingerprint"

// JA4S returns the fingerprint of how a TLS server answered: transport, version, number of extensions and protocol, the cipher
// suite that it chose, and the hash of the extensions in their order, as in t120400_c030_4e8089b08790.
func JA4S(hello *fingerprint.ServerHello, transport fingerprint.Transport) fingerprint.Fingerprint {
	var room [16]uint16 // a server answers with fewer
	extensions := room[:0]
	for code := range hello.Extensions.All() {
		extensions = append(extensions, code)
	}
	raw := append([]byte{byte(transport)}, fingerprint.VersionCode(hello.Version)...)
	raw = fingerprint.AppendCount(raw, len(extensions))
	raw = fingerprint.AppendALPN(raw, hello.ALPN)
	raw = fingerprint.AppendCodes(append(raw, '_'), []uint16{hello.Cipher})
	raw = append(raw, '_')
	start := len(raw)
	raw = fingerprint.AppendCodes(raw, extensions)
	return fingerprint.Fingerprint{
		Method: "ja4s",
		Value:  string(raw[:start]) + fingerprint.Hash(raw[start:]),
		Raw:    string(raw),
	}
}
