package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// wireTime is a time.Time that encoding/json writes with six digits of a second.
type wireTime struct{ time.Time }

func (t wireTime) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000000Z07:00"`)), nil
}

// wireEvent is the reference: the FlowEvent as encoding/json writes it, and as a strict receiver with the types that
// the Brain declares reads it.
type wireEvent struct {
	FlowID        string   `json:"flow_id"`
	Timestamp     wireTime `json:"timestamp"`
	Interface     string   `json:"interface"`
	Hostname      string   `json:"hostname"`
	Direction     string   `json:"direction"`
	SrcIP         string   `json:"src_ip"`
	SrcPort       string   `json:"src_port"`
	DstIP         string   `json:"dst_ip"`
	DstPort       string   `json:"dst_port"`
	Protocol      string   `json:"protocol"`
	FlowDuration  float64  `json:"flow_duration"`
	PacketCount   uint64   `json:"packet_count"`
	ByteCount     uint64   `json:"byte_count"`
	AvgPacketSize float64  `json:"avg_packet_size"`

	EventID      string   `json:"event_id"`
	StartTime    wireTime `json:"start_time"`
	EndReason    string   `json:"end_reason"`
	TCPFlags     uint16   `json:"tcp_flags"`
	Initiator    *bool    `json:"initiator,omitempty"`
	CommunityID  string   `json:"community_id"`
	SamplingRate uint32   `json:"sampling_rate"`
	VLAN         uint16   `json:"vlan,omitempty"`

	Encapsulation   string  `json:"encapsulation,omitempty"`
	EncapsulationID *uint32 `json:"encapsulation_id,omitempty"`
	OuterSrcIP      string  `json:"outer_src_ip,omitempty"`
	OuterDstIP      string  `json:"outer_dst_ip,omitempty"`
	Netns           string  `json:"netns,omitempty"`

	wireIdentity

	ReversePacketCount *uint64 `json:"reverse_packet_count,omitempty"`
	ReverseByteCount   *uint64 `json:"reverse_byte_count,omitempty"`
	ReverseTCPFlags    *uint16 `json:"reverse_tcp_flags,omitempty"`
}

// newWireEvent says in plain Go what AppendJSON must write.
func newWireEvent(e *Event) wireEvent {
	srcIP, dstIP := e.Src.Addr().Unmap().String(), e.Dst.Addr().Unmap().String()
	start, end := e.Start.Truncate(time.Microsecond), e.End.Truncate(time.Microsecond)
	w := wireEvent{
		FlowID: fmt.Sprintf("%s:%d-%s:%d-%s",
			srcIP, e.Src.Port(), dstIP, e.Dst.Port(), ProtocolName(e.Protocol)),
		Timestamp:    wireTime{end},
		Interface:    e.Interface,
		Hostname:     e.Hostname,
		Direction:    e.Direction.String(),
		SrcIP:        srcIP,
		SrcPort:      fmt.Sprint(e.Src.Port()),
		DstIP:        dstIP,
		DstPort:      fmt.Sprint(e.Dst.Port()),
		Protocol:     ProtocolName(e.Protocol),
		PacketCount:  e.Packets,
		ByteCount:    e.Bytes,
		EventID:      fmt.Sprintf("%016x-%016x", e.ID.Instance, e.ID.Sequence),
		StartTime:    wireTime{start},
		EndReason:    e.EndReason.String(),
		TCPFlags:     e.TCPFlags,
		CommunityID:  string(AppendCommunityID(nil, e.Src, e.Dst, e.Protocol)),
		SamplingRate: e.SamplingRate,
		VLAN:         e.VLAN,
		Netns:        e.Netns,
	}
	if end.After(start) {
		w.FlowDuration = float64(end.UnixMicro()-start.UnixMicro()) / 1_000_000
	}
	if e.Packets > 0 {
		w.AvgPacketSize = float64(e.Bytes) / float64(e.Packets)
	}
	if e.Initiator != OpenedUnknown {
		opened := e.Initiator == OpenedBySrc
		w.Initiator = &opened
	}
	if e.TunnelKind != TunnelNone {
		w.Encapsulation, w.EncapsulationID = e.TunnelKind.String(), &e.TunnelID
		w.OuterSrcIP, w.OuterDstIP = e.OuterSrc.Unmap().String(), e.OuterDst.Unmap().String()
	}
	if e.Identity != nil {
		w.wireIdentity = newWireIdentity(e.Identity)
	}
	if r := e.Reverse; r != nil {
		w.ReversePacketCount, w.ReverseByteCount, w.ReverseTCPFlags = &r.Packets, &r.Bytes, &r.TCPFlags
	}
	return w
}

func tcpEvent() Event {
	return Event{
		ID:           EventID{Instance: 0x0123456789abcdef, Sequence: 42},
		Src:          netip.MustParseAddrPort("10.0.0.5:51000"),
		Dst:          netip.MustParseAddrPort("93.184.216.34:443"),
		Protocol:     protocolTCP,
		Direction:    DirectionOutbound,
		Interface:    "eth0",
		Hostname:     "node-17.example.net",
		Start:        time.Date(2025, 6, 1, 12, 0, 0, 1_002_999, time.UTC),
		End:          time.Date(2025, 6, 1, 12, 0, 1, 501_002_000, time.UTC),
		Counts:       Counts{Packets: 12, Bytes: 6526, TCPFlags: 0x1b},
		EndReason:    EndFIN,
		Initiator:    OpenedBySrc,
		SamplingRate: 1,
	}
}

func icmpv6Event() Event {
	e := tcpEvent()
	e.Src = netip.MustParseAddrPort("[2001:db8:1:2:3:4:5:6]:0")
	e.Dst = netip.MustParseAddrPort("[2606:2800:220:1:248:1893:25c8:1946]:32768")
	e.Protocol = protocolICMPv6
	e.Direction = DirectionUnknown
	e.Start = e.End
	e.Counts = Counts{Packets: 1, Bytes: 118}
	e.EndReason = EndIdle
	e.Initiator = OpenedUnknown
	return e
}

// The golden objects, without their closing brace.
const (
	tcpJSON = `{"flow_id":"10.0.0.5:51000-93.184.216.34:443-TCP","timestamp":"2025-06-01T12:00:01.501002Z",` +
		`"interface":"eth0","hostname":"node-17.example.net","direction":"outbound",` +
		`"src_ip":"10.0.0.5","src_port":"51000","dst_ip":"93.184.216.34","dst_port":"443","protocol":"TCP",` +
		`"flow_duration":1.5,"packet_count":12,"byte_count":6526,"avg_packet_size":543.8333333333334,` +
		`"event_id":"0123456789abcdef-000000000000002a","start_time":"2025-06-01T12:00:00.001002Z",` +
		`"end_reason":"fin","tcp_flags":27,"initiator":true,"community_id":"1:0i7a6WkIy/akHxPTG644gyX/RKA=",` +
		`"sampling_rate":1`

	icmpv6JSON = `{"flow_id":"2001:db8:1:2:3:4:5:6:0-2606:2800:220:1:248:1893:25c8:1946:32768-ICMPv6",` +
		`"timestamp":"2025-06-01T12:00:01.501002Z","interface":"eth0","hostname":"node-17.example.net",` +
		`"direction":"unknown","src_ip":"2001:db8:1:2:3:4:5:6","src_port":"0",` +
		`"dst_ip":"2606:2800:220:1:248:1893:25c8:1946","dst_port":"32768","protocol":"ICMPv6",` +
		`"flow_duration":0,"packet_count":1,"byte_count":118,"avg_packet_size":118,` +
		`"event_id":"0123456789abcdef-000000000000002a","start_time":"2025-06-01T12:00:01.501002Z",` +
		`"end_reason":"idle","tcp_flags":0,"community_id":"1:7V/aO8DeVgyza8qTjFUaM/f3Oes=","sampling_rate":1`
)

var appendJSONCases = []struct {
	name   string
	base   Event
	change func(e *Event)
	want   string
}{
	{"TCP", tcpEvent(), func(e *Event) {}, tcpJSON + "}"},
	{"ICMPv6, no initiator", icmpv6Event(), func(e *Event) {}, icmpv6JSON + "}"},
	{
		"connection",
		tcpEvent(),
		func(e *Event) { e.Reverse = &Counts{Packets: 9, Bytes: 9000, TCPFlags: 0x13} },
		tcpJSON + `,"reverse_packet_count":9,"reverse_byte_count":9000,"reverse_tcp_flags":19}`,
	},
	{
		"connection in which the destination was silent",
		tcpEvent(),
		func(e *Event) { e.Reverse = &Counts{} },
		tcpJSON + `,"reverse_packet_count":0,"reverse_byte_count":0,"reverse_tcp_flags":0}`,
	},
	{
		"a network namespace, by its path",
		tcpEvent(),
		func(e *Event) { e.Netns = `/a"b` },
		tcpJSON + `,"netns":"/a\"b"` + "}",
	},
	{
		"a VLAN, sampled",
		tcpEvent(),
		func(e *Event) { e.VLAN, e.SamplingRate = 4094, 100 },
		strings.Replace(tcpJSON, `"sampling_rate":1`, `"sampling_rate":100,"vlan":4094`, 1) + "}",
	},
	{
		"in a tunnel",
		tcpEvent(),
		func(e *Event) {
			e.TunnelKind, e.TunnelID = TunnelGeneve, 0xffffff
			e.OuterSrc, e.OuterDst = netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		},
		tcpJSON + `,"encapsulation":"geneve","encapsulation_id":16777215,"outer_src_ip":"192.0.2.1","outer_dst_ip":"2001:db8::1"}`,
	},
	{
		"whose connection nothing is known of",
		tcpEvent(),
		func(e *Event) { e.Identity = &Identity{} },
		tcpJSON + "}",
	},
	{
		"opened by the destination",
		tcpEvent(),
		func(e *Event) { e.Initiator = OpenedByDst },
		strings.Replace(tcpJSON, `"initiator":true`, `"initiator":false`, 1) + "}",
	},
	{
		"IPv4-mapped",
		tcpEvent(),
		func(e *Event) {
			e.Src = netip.MustParseAddrPort("[::ffff:10.0.0.5]:51000")
			e.Dst = netip.MustParseAddrPort("[::ffff:93.184.216.34]:443")
		},
		tcpJSON + "}",
	},
	{
		"a zone that would break out of the string",
		icmpv6Event(),
		func(e *Event) { e.Src = netip.AddrPortFrom(e.Src.Addr().WithZone(`",`), 0) },
		icmpv6JSON + "}",
	},
	{
		"times of another zone",
		tcpEvent(),
		func(e *Event) { e.End = e.End.In(time.FixedZone("", -5*3600)) },
		tcpJSON + "}",
	},
	{
		"times that run backwards",
		tcpEvent(),
		func(e *Event) { e.Start = e.End.Add(time.Hour) },
		strings.NewReplacer(`"flow_duration":1.5`, `"flow_duration":0`, "12:00:00.001002", "13:00:01.501002").
			Replace(tcpJSON) + "}",
	},
	{
		"no packets",
		tcpEvent(),
		func(e *Event) { e.Counts = Counts{} },
		strings.NewReplacer(":12,", ":0,", ":6526,", ":0,", ":543.8333333333334,", ":0,", ":27,", ":0,").
			Replace(tcpJSON) + "}",
	},
}

func TestAppendJSON(t *testing.T) {
	for _, tc := range appendJSONCases {
		t.Run(tc.name, func(t *testing.T) {
			e := tc.base
			tc.change(&e)
			if got := string(e.AppendJSON([]byte("<"))); got != "<"+tc.want {
				t.Errorf("AppendJSON gives\n%s, want\n%s", got, "<"+tc.want)
			}
		})
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                     `""`,
		"eth0":                 `"eth0"`,
		`a"b\c/d`:              `"a\"b\\c/d"`,
		"\b\f\n\r\t":           `"\b\f\n\r\t"`,
		"\x00\x1f\x7f":         `"\u0000\u001f` + "\x7f" + `"`,
		"<&>":                  `"<&>"`,
		"h\u00f6st \U0001f30a": "\"h\u00f6st \U0001f30a\"",
		"\xff\xc3x":            `"\ufffd\ufffdx"`,
		"\ufffd":               "\"\ufffd\"",
		"a\u2028b\u2029":       `"a\u2028b\u2029"`,
	} {
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("appendString(%q) = %s, want %s", in, got, want)
		}
	}
}

// checkAgainstEncodingJSON holds AppendJSON to encoding/json: byte for byte, and through a strict decoder.
func checkAgainstEncodingJSON(t *testing.T, e *Event) {
	t.Helper()
	got := e.AppendJSON(nil)

	var reference bytes.Buffer
	enc := json.NewEncoder(&reference)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(newWireEvent(e)); err != nil {
		t.Fatalf("encoding the reference: %v", err)
	}
	want := bytes.TrimSuffix(reference.Bytes(), []byte("\n"))

	// encoding/json writes an exponent below 1e-6. An average is that low only if there are more packets than bytes.
	if e.Bytes == 0 || e.Bytes >= e.Packets {
		if !bytes.Equal(got, want) {
			t.Fatalf("AppendJSON gives\n%s, encoding/json\n%s", got, want)
		}
	}
	if g, w := decodeStrictly(t, got), decodeStrictly(t, want); !reflect.DeepEqual(g, w) {
		t.Fatalf("AppendJSON decodes to\n%+v, encoding/json's to\n%+v", g, w)
	}
}

// decodeStrictly refuses other types, unknown fields and anything after the object.
func decodeStrictly(t *testing.T, object []byte) (w wireEvent) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		t.Fatalf("decoding %s: %v", object, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("%s: more than one value", object)
	}
	return w
}

func TestAppendJSONHasEveryBrainField(t *testing.T) {
	brain := []string{
		"flow_id", "timestamp", "interface", "hostname", "direction", "src_ip", "src_port", "dst_ip", "dst_port",
		"protocol", "flow_duration", "packet_count", "byte_count", "avg_packet_size",
	}
	for _, e := range []Event{{}, tcpEvent(), icmpv6Event()} {
		object := e.AppendJSON(nil)
		decodeStrictly(t, object)
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(object, &fields); err != nil {
			t.Fatalf("decoding %s: %v", object, err)
		}
		for _, name := range brain {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s: no %s", object, name)
			}
		}
	}
}

func TestAppendJSONAtItsLimits(t *testing.T) {
	longest := netip.MustParseAddrPort("[2001:1db8:1234:5678:9abc:def0:1234:5678]:65535")
	e := Event{
		ID:           EventID{Instance: math.MaxUint64, Sequence: math.MaxUint64},
		Src:          longest,
		Dst:          longest,
		Protocol:     143,
		Direction:    DirectionOutbound,
		Interface:    strings.Repeat("i", 15), // IFNAMSIZ less the final 0
		Hostname:     strings.Repeat("h", 64), // HOST_NAME_MAX
		Start:        time.Unix(0, 0),
		End:          time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		Counts:       Counts{Packets: 3, Bytes: math.MaxUint64, TCPFlags: math.MaxUint16},
		EndReason:    EndShutdown,
		Initiator:    OpenedByDst,
		SamplingRate: math.MaxUint32,
		Reverse:      &Counts{Packets: math.MaxUint64, Bytes: math.MaxUint64, TCPFlags: math.MaxUint16},
	}
	checkAgainstEncodingJSON(t, &e)
	if n := len(e.AppendJSON(nil)); n > 1024 {
		t.Errorf("the longest event has %d bytes, AppendJSON promises 1024 at most", n)
	}
}

func TestAppendJSONDoesNotAllocate(t *testing.T) {
	e := icmpv6Event()
	e.Reverse = &Counts{Packets: 3, Bytes: 1000}
	e.Hostname = "quote\" and \xff"
	e.Identity = fullIdentity()
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() { buf = e.AppendJSON(buf[:0]) }); n != 0 {
		t.Errorf("AppendJSON allocates %v times, want 0", n)
	}
}

func FuzzAppendJSON(f *testing.F) {
	f.Add([]byte{10, 0, 0, 5}, []byte{93, 184, 216, 34}, uint16(51000), uint16(443), uint8(6), "eth0", "node-17",
		int64(1_748_779_200_001_002_999), int64(1_500_000_000), uint64(12), uint64(6526), uint16(0x1b), uint64(42), uint8(0x52))
	f.Add([]byte("0123456789abcdef"), []byte("fedcba9876543210"), uint16(0), uint16(32768), uint8(58), "a\"\\\x01", "\xff\u2028",
		int64(-1), int64(-1), uint64(math.MaxUint64), uint64(1), uint16(0), uint64(math.MaxUint64), uint8(0xff))
	f.Add([]byte{}, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x05"), uint16(1), uint16(2), uint8(132), "", "",
		int64(0), int64(999), uint64(0), uint64(0), uint16(1), uint64(0), uint8(0x80))
	f.Fuzz(func(t *testing.T, src, dst []byte, sport, dport uint16, protocol uint8, iface, host string,
		startNs, lastsNs int64, packets, bytes uint64, flags uint16, id uint64, kinds uint8,
	) {
		from, okFrom := netip.AddrFromSlice(src)
		to, okTo := netip.AddrFromSlice(dst)
		if !okFrom || !okTo {
			return
		}
		start := time.Unix(0, startNs)
		e := Event{
			ID:           EventID{Instance: id, Sequence: ^id},
			VLAN:         uint16(id),
			TunnelKind:   TunnelKind(id >> 16 % uint64(tunnelKinds)),
			TunnelID:     uint32(id >> 16),
			OuterSrc:     to,
			OuterDst:     from,
			Netns:        host,
			Src:          netip.AddrPortFrom(from, sport),
			Dst:          netip.AddrPortFrom(to, dport),
			Protocol:     protocol,
			Direction:    Direction(kinds & 7),
			Interface:    iface,
			Hostname:     host,
			Start:        start,
			End:          start.Add(time.Duration(lastsNs)),
			Counts:       Counts{Packets: packets, Bytes: bytes, TCPFlags: flags},
			EndReason:    EndReason(kinds >> 3 & 7),
			Initiator:    Opened(id % 3),
			SamplingRate: uint32(id),
		}
		if kinds&0x40 != 0 {
			e.Identity = fullIdentity()
			e.Identity.ServerName, e.Identity.App, e.Identity.ALPN = iface, host, string(src)
			e.Identity.HandshakeRTT = time.Duration(id % 1e12 / 1e6 * 1e6)
			e.Identity.Fingerprints[packets%uint64(methods)] = []string{host, iface}
		}
		if kinds&0x80 != 0 {
			e.Reverse = &Counts{Packets: bytes, Bytes: packets, TCPFlags: ^flags}
		}
		checkAgainstEncodingJSON(t, &e)
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	v4, v6, connection, identified := tcpEvent(), icmpv6Event(), tcpEvent(), tcpEvent()
	identified.Identity = &Identity{ServerName: "www.example", ALPN: "h2", TLSVersion: "1.3", MSS: 1460, HandshakeRTT: time.Millisecond}
	identified.Identity.Fingerprints[JA4] = []string{"t13d1516h2_8daaf6152771_e5627efa2ab1"}
	v6.Protocol, v6.Counts = protocolTCP, v4.Counts
	connection.Reverse = &Counts{Packets: 9, Bytes: 9000, TCPFlags: 0x13}
	for _, bc := range []struct {
		name string
		e    Event
	}{
		{"IPv4", v4},
		{"IPv6", v6},
		{"connection", connection},
		{"identity", identified},
	} {
		b.Run(bc.name, func(b *testing.B) {
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				buf = bc.e.AppendJSON(buf[:0])
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
