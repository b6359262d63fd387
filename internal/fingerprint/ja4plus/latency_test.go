package ja4plus

import (
	"testing"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

const us = 1000 // nanoseconds

func TestJA4L(t *testing.T) {
	whole := flow.Handshake{
		SYN:    flow.Opening{TimeNs: 1000 * us, TTL: 128},
		SYNACK: flow.Opening{TimeNs: 4519 * us, TTL: 42},
		ACKNs:  4542 * us,
	}
	expect(t, JA4L(whole), fingerprint.Fingerprint{Method: "ja4l", Value: "11_128"})
	expect(t, JA4LS(whole), fingerprint.Fingerprint{Method: "ja4ls", Value: "1759_42"})

	precise := whole
	precise.SYN.TimeNs, precise.SYNACK.TimeNs = 1999, 5001 // 1 and 5 as whole microseconds
	expect(t, JA4LS(precise), fingerprint.Fingerprint{Method: "ja4ls", Value: "2_42"})

	for name, part := range map[string]func(h *flow.Handshake){
		"no SYN":               func(h *flow.Handshake) { h.SYN = flow.Opening{} },
		"no SYN-ACK":           func(h *flow.Handshake) { h.SYNACK = flow.Opening{} },
		"no acknowledgement":   func(h *flow.Handshake) { h.ACKNs = 0 },
		"SYN after SYN-ACK":    func(h *flow.Handshake) { h.SYN.TimeNs = h.SYNACK.TimeNs + 1 },
		"acknowledged earlier": func(h *flow.Handshake) { h.ACKNs = h.SYNACK.TimeNs - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			h := whole
			part(&h)
			expect(t, JA4L(h), fingerprint.Fingerprint{})
			expect(t, JA4LS(h), fingerprint.Fingerprint{})
		})
	}
}
