package ja4plus

import (
	"encoding/binary"
	"fmt"
	"time"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

// The TCP options that the methods look into (IANA TCP Parameters, option kinds).
const (
	optionEnd         = 0
	optionNone        = 1
	optionMSS         = 2 // RFC 9293, section 3.7.1
	optionWindowScale = 3 // RFC 7323, section 2.2
)

// maxResent is how many retransmissions of a SYN-ACK JA4TS tells of.
const maxResent = 10

// JA4T returns the fingerprint of a TCP client by its SYN: window, kinds of the options in their order, maximum segment
// size and window scale, as in 64240_2-1-3-1-1-4_1460_8. What a SYN does not have is 00.
func JA4T(syn flow.Opening) fingerprint.Fingerprint {
	if syn.TimeNs == 0 {
		return fingerprint.Fingerprint{}
	}
	return fingerprint.Fingerprint{Method: "ja4t", Value: opening(syn)}
}

// JA4TS returns the fingerprint of how a TCP server answered: of its SYN-ACK as JA4T of a SYN, and, if that was sent again,
// the whole seconds between one and the next, and until a RST that ended it, as in 62727_2_8961_00_1-2-4-R6. It depends on the SYN
// that it answers.
func JA4TS(h flow.Handshake) fingerprint.Fingerprint {
	if h.SYNACK.TimeNs == 0 {
		return fingerprint.Fingerprint{}
	}
	value := opening(h.SYNACK)
	var delays []byte
	for _, delay := range h.Resent[:min(len(h.Resent), maxResent)] {
		delays = appendNumber(delays, uint64(delay.Round(time.Second)/time.Second))
	}
	if len(delays) > 0 && h.Reset > 0 {
		delays = fmt.Appendf(delays, "-R%d", h.Reset.Round(time.Second)/time.Second)
	}
	if len(delays) > 0 {
		value += "_" + string(delays)
	}
	return fingerprint.Fingerprint{Method: "ja4ts", Value: value}
}

func opening(o flow.Opening) string {
	parsed := parseOptions(o.Options)
	var kinds []byte
	for _, kind := range parsed.kinds {
		kinds = appendNumber(kinds, uint64(kind))
	}
	return fmt.Sprintf("%d_%s_%s_%s", o.Window, orNone(kinds), present(uint64(parsed.mss)), present(uint64(parsed.scale)))
}

// present returns a number as Wireshark's implementation writes it, which does not tell 0 from absent.
func present(number uint64) []byte {
	if number == 0 {
		return orNone(nil)
	}
	return appendNumber(nil, number)
}

type options struct {
	kinds []byte // in their order
	mss   uint16 // bytes; 0 if absent
	scale uint8  // shift count; 0 if absent
}

// parseOptions reads TCP options up to the first that its length does not fit. Behind the end of the list only more of the
// same are read, which some systems fill it up with and which tell them apart.
func parseOptions(raw []byte) options {
	var found options
	for i := 0; i < len(raw); {
		kind, length := raw[i], 1
		if kind != optionEnd && kind != optionNone {
			if i+1 >= len(raw) {
				break
			}
			if length = int(raw[i+1]); length < 2 || length > len(raw)-i {
				break
			}
		}
		if kind != optionEnd && i > 0 && found.kinds[len(found.kinds)-1] == optionEnd {
			break
		}
		found.kinds = append(found.kinds, kind)
		found.read(kind, raw[i:i+length])
		i += length
	}
	return found
}

// read takes the value of an option, which is the last of its kind that has the right length.
func (o *options) read(kind byte, option []byte) {
	switch {
	case kind == optionMSS && len(option) == 4:
		o.mss = binary.BigEndian.Uint16(option[2:])
	case kind == optionWindowScale && len(option) == 3:
		o.scale = option[2]
	}
}
