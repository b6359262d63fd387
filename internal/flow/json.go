package flow

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the event to dst as one JSON object, without a newline after it: the fields that the Brain
// declares, then weir's own. It does not allocate if dst has room; 1 KiB holds any event without an Identity, with a hostname
// of at most 64 bytes (HOST_NAME_MAX), as short a namespace's name, and nothing to escape.
//
// Both times are RFC 3339 in UTC with exactly six digits of a second, cut off, not rounded (a fixed width is faster to
// write than a trimmed one, and sorts as text); their years must lie in 0 to 9999. flow_duration is the difference of
// the two times as written, in seconds, and 0 if they run backwards. It spans the whole connection where Reverse is
// set, while avg_packet_size is always of what Src sent, as packet_count and byte_count are. initiator is left out when
// it is unknown. The names of the reverse counts follow RFC 5103.
//
// Addresses are written without brackets and zones, IPv4-mapped ones as IPv4. The bytes are those that encoding/json
// gives with SetEscapeHTML(false).
func (e *Event) AppendJSON(dst []byte) []byte {
	dst = e.appendBrainFields(dst)
	dst = e.appendOwnFields(dst)
	if e.Reverse != nil {
		dst = append(dst, `,"reverse_packet_count":`...)
		dst = strconv.AppendUint(dst, e.Reverse.Packets, 10)
		dst = append(dst, `,"reverse_byte_count":`...)
		dst = strconv.AppendUint(dst, e.Reverse.Bytes, 10)
		dst = append(dst, `,"reverse_tcp_flags":`...)
		dst = strconv.AppendUint(dst, uint64(e.Reverse.TCPFlags), 10)
	}
	return append(dst, '}')
}

// appendBrainFields opens the object.
func (e *Event) appendBrainFields(dst []byte) []byte {
	protocol := ProtocolName(e.Protocol)

	dst = append(dst, `{"flow_id":"`...)
	at := len(dst)
	dst = appendAddr(dst, e.Src.Addr())
	srcIP := dst[at:] // copying is cheaper than writing an address again
	dst = append(dst, ':')
	dst = strconv.AppendUint(dst, uint64(e.Src.Port()), 10)
	dst = append(dst, '-')
	at = len(dst)
	dst = appendAddr(dst, e.Dst.Addr())
	dstIP := dst[at:]
	dst = append(dst, ':')
	dst = strconv.AppendUint(dst, uint64(e.Dst.Port()), 10)
	dst = append(dst, '-')
	dst = append(dst, protocol...)
	dst = append(dst, `","timestamp":"`...)
	dst = appendTime(dst, e.End)
	dst = append(dst, `","interface":`...)
	dst = appendString(dst, e.Interface)
	dst = append(dst, `,"hostname":`...)
	dst = appendString(dst, e.Hostname)
	dst = append(dst, `,"direction":"`...)
	dst = append(dst, e.Direction.String()...)
	dst = append(dst, `","src_ip":"`...)
	dst = append(dst, srcIP...)
	dst = append(dst, `","src_port":"`...)
	dst = strconv.AppendUint(dst, uint64(e.Src.Port()), 10)
	dst = append(dst, `","dst_ip":"`...)
	dst = append(dst, dstIP...)
	dst = append(dst, `","dst_port":"`...)
	dst = strconv.AppendUint(dst, uint64(e.Dst.Port()), 10)
	dst = append(dst, `","protocol":"`...)
	dst = append(dst, protocol...)
	dst = append(dst, `","flow_duration":`...)
	dst = appendFloat(dst, e.seconds())
	dst = append(dst, `,"packet_count":`...)
	dst = strconv.AppendUint(dst, e.Packets, 10)
	dst = append(dst, `,"byte_count":`...)
	dst = strconv.AppendUint(dst, e.Bytes, 10)
	dst = append(dst, `,"avg_packet_size":`...)
	return appendFloat(dst, e.averageSize())
}

func (e *Event) appendOwnFields(dst []byte) []byte {
	dst = append(dst, `,"event_id":"`...)
	dst = appendEventID(dst, e.ID)
	dst = append(dst, `","start_time":"`...)
	dst = appendTime(dst, e.Start)
	dst = append(dst, `","end_reason":"`...)
	dst = append(dst, e.EndReason.String()...)
	dst = append(dst, `","tcp_flags":`...)
	dst = strconv.AppendUint(dst, uint64(e.TCPFlags), 10)
	switch e.Initiator {
	case OpenedBySrc:
		dst = append(dst, `,"initiator":true`...)
	case OpenedByDst:
		dst = append(dst, `,"initiator":false`...)
	}
	dst = append(dst, `,"community_id":"`...)
	dst = AppendCommunityID(dst, e.Src, e.Dst, e.Protocol)
	dst = append(dst, `","sampling_rate":`...)
	dst = strconv.AppendUint(dst, uint64(e.SamplingRate), 10)
	if e.VLAN != 0 {
		dst = append(dst, `,"vlan":`...)
		dst = strconv.AppendUint(dst, uint64(e.VLAN), 10)
	}
	if e.TunnelKind != TunnelNone {
		dst = e.appendTunnel(dst)
	}
	if e.Netns != "" {
		dst = append(dst, `,"netns":`...)
		dst = appendString(dst, e.Netns)
	}
	if e.Identity != nil {
		dst = e.Identity.appendJSON(dst)
	}
	return dst
}

// appendTunnel writes what was around the connection's packets.
func (e *Event) appendTunnel(dst []byte) []byte {
	dst = append(dst, `,"encapsulation":"`...)
	dst = append(dst, e.TunnelKind.String()...)
	dst = append(dst, `","encapsulation_id":`...)
	dst = strconv.AppendUint(dst, uint64(e.TunnelID), 10)
	dst = append(dst, `,"outer_src_ip":"`...)
	dst = appendAddr(dst, e.OuterSrc)
	dst = append(dst, `","outer_dst_ip":"`...)
	dst = appendAddr(dst, e.OuterDst)
	return append(dst, '"')
}

// seconds is counted in whole microseconds, so that it agrees with the times as they are written.
func (e *Event) seconds() float64 {
	return float64(max(0, e.End.UnixMicro()-e.Start.UnixMicro())) / 1e6
}

func (c *Counts) averageSize() float64 {
	if c.Packets == 0 {
		return 0
	}
	return float64(c.Bytes) / float64(c.Packets)
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	return plainAddr(a).AppendTo(dst)
}

// appendFloat never needs an exponent: what weir counts is neither above 2^64 nor below a microsecond or a byte.
func appendFloat(dst []byte, f float64) []byte {
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(dst, time.RFC3339)
	dst[len(dst)-1] = '.' // was Z
	micros := t.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+micros/unit%10))
	}
	return append(dst, 'Z')
}

func appendEventID(dst []byte, id EventID) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], id.Instance)
	dst = append(hex.AppendEncode(dst, b[:]), '-')
	binary.BigEndian.PutUint64(b[:], id.Sequence)
	return hex.AppendEncode(dst, b[:])
}

// appendString appends s as a JSON string (RFC 8259, section 7). Bytes that are not UTF-8 become \ufffd. The line
// separators U+2028 and U+2029 are escaped too: some readers of one object per line would break the line at them.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	plain := 0 // s[plain:i] needs no escape and is not yet appended
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				dst = appendEscape(append(dst, s[plain:i]...), rune(c))
				plain = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			dst = appendEscape(append(dst, s[plain:i]...), r)
			plain = i + size
		}
		i += size
	}
	dst = append(dst, s[plain:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
