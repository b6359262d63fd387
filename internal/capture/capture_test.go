package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"weir/internal/testnet"
)

// byteOrder reads and appends.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

var byteOrders = []byteOrder{binary.LittleEndian, binary.BigEndian}

// record is a packet as a test writes it.
type record struct {
	link   LinkType
	data   []byte
	length uint32
	time   uint64 // in the file's units
}

func numbers32(order byteOrder, numbers ...uint32) (b []byte) {
	for _, n := range numbers {
		b = order.AppendUint32(b, n)
	}
	return b
}

// pcapFile writes a pcap file of the first record's link type, with times in microseconds or nanoseconds.
func pcapFile(order byteOrder, nano bool, records ...record) []byte {
	magic, second := uint32(magicMicroseconds), uint64(1e6)
	if nano {
		magic, second = magicNanoseconds, 1e9
	}
	b := numbers32(order, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, numbers32(order, 0, 0, 65535, uint32(records[0].link))...)
	for _, r := range records {
		b = append(b, numbers32(order, uint32(r.time/second), uint32(r.time%second), uint32(len(r.data)), r.length)...)
		b = append(b, r.data...)
	}
	return b
}

func block(order byteOrder, kind uint32, body []byte) []byte {
	padded := append(slices.Clone(body), make([]byte, -len(body)&3)...)
	length := uint32(len(padded) + 12)
	return slices.Concat(numbers32(order, kind, length), padded, numbers32(order, length))
}

func section(order byteOrder) []byte {
	body := order.AppendUint16(order.AppendUint16(numbers32(order, byteOrderMagic), 1), 0)
	return block(order, blockSection, append(body, bytes.Repeat([]byte{0xff}, 8)...))
}

func option(order byteOrder, code uint16, value []byte) []byte {
	b := order.AppendUint16(order.AppendUint16(nil, code), uint16(len(value)))
	return append(append(b, value...), make([]byte, -len(value)&3)...)
}

func description(order byteOrder, link LinkType, options ...[]byte) []byte {
	body := append(order.AppendUint16(nil, uint16(link)), 0, 0, 0, 0, 0, 0)
	return block(order, blockInterface, append(body, slices.Concat(options...)...))
}

func enhanced(order byteOrder, index uint32, r record) []byte {
	body := numbers32(order, index, uint32(r.time>>32), uint32(r.time), uint32(len(r.data)), r.length)
	return block(order, blockEnhanced, append(body, r.data...))
}

// readAll returns the packets of a file, with frames of their own, and the error that ended them, nil at the end of the file.
func readAll(file []byte) (packets []Packet, names []string, err error) {
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, nil, err
	}
	for {
		p, err := r.Next()
		if err == io.EOF {
			return packets, names, r.Unread()
		}
		if err != nil {
			return packets, names, err
		}
		kept := *p
		kept.Frame = slices.Clone(p.Frame)
		packets, names = append(packets, kept), append(names, r.InterfaceName(p.Interface))
	}
}

// ipPart is what follows the Ethernet header.
func ipPart(p testnet.Packet) []byte { return p.Bytes()[ethernetHeader:] }

// TestLinks reads packets of every link type as the same frame, but for what is made up of it, in files of both kinds and
// both byte orders.
func TestLinks(t *testing.T) {
	four := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 20)
	six := testnet.TCP("[fd00::1]:1000", "[fd00::2]:53", testnet.SYN, 0)
	cooked := func(etherType uint16, ip []byte) []byte {
		return append(binary.BigEndian.AppendUint16(make([]byte, 14), etherType), ip...)
	}
	cooked2 := func(etherType uint16, ip []byte) []byte {
		return slices.Concat(binary.BigEndian.AppendUint16(nil, etherType), make([]byte, 18), ip)
	}
	for name, row := range map[string]struct {
		link LinkType
		data []byte
		want []byte // behind the MAC addresses
	}{
		"Ethernet":                {LinkEthernet, four.Bytes(), four.Bytes()[12:]},
		"Ethernet, a header only": {LinkEthernet, four.Bytes()[:14], []byte{8, 0, 0}},
		"Ethernet, cut in it":     {LinkEthernet, six.Bytes()[:13], []byte{8, 0, 0}},
		"Ethernet, nothing":       {LinkEthernet, nil, []byte{8, 0, 0}},
		"Ethernet, long":          {LinkEthernet, testnet.Ethernet(0x88b5, make([]byte, 9000)).Bytes(), append([]byte{0x88, 0xb5}, make([]byte, FrameBytes-14)...)},
		"raw, IPv4":               {LinkRaw, ipPart(four), four.Bytes()[12:]},
		"raw, IPv6":               {LinkRaw, ipPart(six), six.Bytes()[12:]},
		"raw, nothing":            {LinkRaw, nil, []byte{8, 0, 0}},
		"raw, Linux's number":     {LinkRawOld, ipPart(four), four.Bytes()[12:]},
		"raw, OpenBSD's number":   {LinkRawBSD, ipPart(six), six.Bytes()[12:]},
		"IPv4":                    {LinkIPv4, ipPart(four), four.Bytes()[12:]},
		"IPv6":                    {LinkIPv6, ipPart(six), six.Bytes()[12:]},
		"cooked":                  {LinkCooked, cooked(0x0800, ipPart(four)), four.Bytes()[12:]},
		"cooked, VLAN":            {LinkCooked, cooked(0x8100, four.VLAN(7).Bytes()[14:]), four.VLAN(7).Bytes()[12:]},
		"cooked, cut in it":       {LinkCooked, cooked(0x86dd, nil)[:15], []byte{8, 0, 0}},
		"cooked 2":                {LinkCooked2, cooked2(0x86dd, ipPart(six)), six.Bytes()[12:]},
		"cooked 2, cut in it":     {LinkCooked2, cooked2(0x86dd, nil)[:19], []byte{8, 0, 0}},
		"loopback, IPv4, little":  {LinkNull, append([]byte{2, 0, 0, 0}, ipPart(four)...), four.Bytes()[12:]},
		"loopback, IPv6, big":     {LinkNull, append([]byte{0, 0, 0, 30}, ipPart(six)...), six.Bytes()[12:]},
		"loopback, not IP":        {LinkNull, []byte{7, 0, 0, 0, 1}, []byte{0, 0, 1}},
		"OpenBSD loopback":        {LinkLoop, append([]byte{0, 0, 0, 2}, ipPart(four)...), four.Bytes()[12:]},
	} {
		t.Run(name, func(t *testing.T) {
			for _, order := range byteOrders {
				// A longer packet before it leaves nothing behind.
				records := []record{{row.link, bytes.Repeat([]byte{0x66}, 600), 600, 0}, {row.link, row.data, 9999, 5e6}}
				ng := slices.Concat(section(order), description(order, row.link), enhanced(order, 0, records[0]), enhanced(order, 0, records[1]))
				for kind, file := range map[string][]byte{"pcap": pcapFile(order, false, records...), "pcapng": ng} {
					packets, _, err := readAll(file)
					if err != nil || len(packets) != 2 {
						t.Fatalf("%s, %s: %d packets, error %v", kind, order, len(packets), err)
					}
					got := packets[1]
					if got.AtNs != 5e9 || got.Length != 9999 || got.Interface != 1 || !bytes.Equal(got.Frame[12:], row.want) {
						t.Errorf("%s, %s: %+v, want %x", kind, order, got, row.want)
					}
				}
			}
		})
	}
}

// TestTimes reads times of every resolution to the nanosecond, and bounds them.
func TestTimes(t *testing.T) {
	const at = 1_700_000_000_123_456_789
	order := binary.LittleEndian
	offset := func(seconds int64) []byte {
		return option(order, optionOffset, order.AppendUint64(nil, uint64(seconds)))
	}
	resolution := func(r uint8) []byte { return option(order, optionResolution, []byte{r}) }
	for name, row := range map[string]struct {
		options [][]byte
		time    uint64
		want    uint64
	}{
		"microseconds":              {nil, at / 1000, 1_700_000_000_123_456_000},
		"nanoseconds":               {[][]byte{resolution(9)}, at, at},
		"seconds":                   {[][]byte{resolution(0)}, 1_700_000_000, 1_700_000_000_000_000_000},
		"picoseconds":               {[][]byte{resolution(12)}, 17_000_000_123_456_789, 17_000_000_123_456},
		"10^-127 seconds":           {[][]byte{resolution(127)}, 1 << 63, 0},
		"2^-10 seconds":             {[][]byte{resolution(0x8a)}, 1_700_000_000<<10 | 1, 1_700_000_000_000_976_562},
		"2^-30 seconds":             {[][]byte{resolution(0x9e)}, 1_700_000_000<<30 | 1<<29, 1_700_000_000_500_000_000},
		"2^-64 seconds":             {[][]byte{resolution(0xc0)}, 1 << 63, 500_000_000},
		"2^-127 seconds":            {[][]byte{resolution(0xff)}, 1 << 63, 0},
		"an offset":                 {[][]byte{resolution(9), offset(1_700_000_000)}, 123, 1_700_000_000_000_000_123},
		"an offset back":            {[][]byte{resolution(9), offset(-5)}, 6_000_000_000, 1_000_000_000},
		"before 1970":               {[][]byte{offset(-1)}, 0, 0},
		"after 2116":                {nil, 1 << 63, MaxNs},
		"the greatest, and further": {[][]byte{resolution(0), offset(1<<63 - 1)}, 1<<64 - 1, MaxNs},
		"the least offset":          {[][]byte{offset(-1 << 63)}, at / 1000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			file := slices.Concat(section(order), description(order, LinkRaw, row.options...),
				enhanced(order, 0, record{data: []byte{0x45}, length: 1, time: row.time}))
			packets, _, err := readAll(file)
			if err != nil || len(packets) != 1 || packets[0].AtNs != row.want {
				t.Errorf("%+v, error %v, want one at %d", packets, err, row.want)
			}
		})
	}
	for _, order := range byteOrders {
		packets, _, err := readAll(pcapFile(order, true, record{LinkRaw, []byte{0x45}, 1, at}))
		if err != nil || len(packets) != 1 || packets[0].AtNs != at {
			t.Errorf("pcap, %s: %+v, error %v, want one at %d", order, packets, err, uint64(at))
		}
	}
}

// mixed is a pcapng file with two sections of different byte orders, several interfaces, and blocks of every kind.
func mixed() []byte {
	big, little := byteOrder(binary.BigEndian), byteOrder(binary.LittleEndian)
	name := func(order byteOrder, s string) []byte { return option(order, optionName, []byte(s)) }
	ip := ipPart(testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 3))
	frame := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 3).Bytes()
	obsolete := append(big.AppendUint16(big.AppendUint16(nil, 1), 7), numbers32(big, 0, 2e6, uint32(len(frame)), 1500)...)
	return slices.Concat(
		section(big),
		description(big, LinkRaw),
		description(big, LinkEthernet, option(big, 1, []byte("a comment")), name(big, "eth0"), option(big, 0, nil)),
		description(big, 127, name(big, strings.Repeat("long", 100))),
		enhanced(big, 1, record{data: frame, length: 1500, time: 1e6}),
		block(big, 5, make([]byte, 40)), // statistics
		enhanced(big, 2, record{data: make([]byte, 30), length: 30, time: 1e6}),
		block(big, blockPacket, append(obsolete, frame...)),
		block(big, blockSimple, append(numbers32(big, uint32(len(ip))), ip...)),
		section(little),
		description(little, LinkEthernet, name(little, "wlan0")),
		description(little, LinkEthernet, name(little, "eth0")),
		enhanced(little, 1, record{data: frame, length: 1500, time: 3e6}),
		enhanced(little, 0, record{data: frame, length: 1500, time: 4e6}),
	)
}

// TestMixed tells the interfaces of a file apart, and finds one again by its name.
func TestMixed(t *testing.T) {
	packets, names, err := readAll(mixed())
	if err == nil || !strings.Contains(err.Error(), "1 of link type 127") {
		t.Errorf("error %v, want that a packet was passed over", err)
	}
	want := []struct {
		name   string
		number uint32
		at     uint64
	}{{"eth0", 2, 1e9}, {"eth0", 2, 2e9}, {"", 1, 2e9}, {"eth0", 2, 3e9}, {"wlan0", 4, 4e9}}
	if len(packets) != len(want) {
		t.Fatalf("%d packets, want %d", len(packets), len(want))
	}
	for i, w := range want {
		if p := packets[i]; names[i] != w.name || p.Interface != w.number || p.AtNs != w.at {
			t.Errorf("packet %d: %q, %+v, want %+v", i, names[i], p, w)
		}
	}
}

// TestCut reads of a file that was cut anywhere what is whole of it, and fails unless nothing is missing but further packets.
func TestCut(t *testing.T) {
	order := binary.LittleEndian
	frame := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 3).Bytes()
	records := []record{{LinkEthernet, frame, 45, 1}, {LinkEthernet, frame[:20], 45, 2}, {LinkEthernet, nil, 0, 3}}
	ng := slices.Concat(section(order), description(order, LinkEthernet))
	pcapEnds, ngEnds := []int{24}, []int{28, len(ng)} // where a packet could begin
	for _, r := range records {
		pcapEnds = append(pcapEnds, pcapEnds[len(pcapEnds)-1]+16+len(r.data))
		ng = append(ng, enhanced(order, 0, r)...)
		ngEnds = append(ngEnds, len(ng))
	}
	for name, row := range map[string]struct {
		file        []byte
		ends        []int
		withoutData int // of the ends
	}{"pcap": {pcapFile(order, false, records...), pcapEnds, 1}, "pcapng": {ng, ngEnds, 2}} {
		for size := range row.file {
			packets, _, err := readAll(row.file[:size])
			whole := 0
			for _, end := range row.ends {
				if end <= size {
					whole++
				}
			}
			if want := max(0, whole-row.withoutData); len(packets) != want {
				t.Errorf("%s, %d bytes: %d packets, want %d", name, size, len(packets), want)
			}
			if atEnd := slices.Contains(row.ends, size); atEnd != (err == nil) {
				t.Errorf("%s, %d bytes: error %v", name, size, err)
			}
		}
		if packets, _, err := readAll(row.file); err != nil || len(packets) != len(records) {
			t.Errorf("%s: %d packets, error %v", name, len(packets), err)
		}
	}
}

// TestDamaged names what is wrong and where.
func TestDamaged(t *testing.T) {
	order := byteOrder(binary.LittleEndian)
	start := slices.Concat(section(order), description(order, LinkRaw), enhanced(order, 0, record{data: []byte{0x45}, length: 1}))
	wrong := func(b []byte, at int, to byte) []byte {
		b = slices.Clone(b)
		b[at] = to
		return b
	}
	for name, row := range map[string]struct {
		file []byte
		want string
	}{
		"empty":                  {nil, "not a pcap or pcapng file: it has 0 bytes"},
		"foreign":                {[]byte("GIF89a"), "not a pcap or pcapng file: it begins with 47494638"},
		"pcap version":           {wrong(pcapFile(order, false, record{}), 6, 3), "pcap version 2.3: only 2.4 is read"},
		"pcapng version":         {wrong(start, 12, 2), "behind packet 0, at byte 0: pcapng version 2.0: only 1 is read"},
		"byte order":             {wrong(start, 8, 0), "behind packet 0, at byte 0: the byte-order magic of a section is 003c2b1a"},
		"odd length":             {append(start[:len(start):len(start)], 1, 0, 0, 0, 13, 0, 0, 0), "behind packet 1, at byte 84: a block contradicts itself: 13 bytes long"},
		"too short":              {append(start[:len(start):len(start)], 1, 0, 0, 0, 8, 0, 0, 0), "behind packet 1, at byte 84: a block contradicts itself: 8 bytes long"},
		"two lengths":            {wrong(start, len(start)-4, 8), "behind packet 0, at byte 48: a block contradicts itself: 36 bytes long at its beginning, 8 at its end"},
		"more data than block":   {wrong(start, 48+20, 9), "behind packet 0, at byte 48: a block contradicts itself: too short for a packet of 9 bytes"},
		"no such interface":      {wrong(start, 48+8, 1), "behind packet 0, at byte 48: a packet of interface 1, of 1 that are described"},
		"options without bounds": {slices.Concat(section(order), description(order, LinkRaw, []byte{2, 0, 9, 0})), "behind packet 0, at byte 28: a block contradicts itself: too short for what is in it"},
		"simple, no interface":   {slices.Concat(section(order), block(order, blockSimple, make([]byte, 4))), "behind packet 0, at byte 28: a packet of interface 0, of 0 that are described"},
		"many interfaces":        {slices.Concat(section(order), bytes.Repeat(description(order, LinkRaw), maxInterfaces+1)), "behind packet 0, at byte 81948: more than 4096 interfaces"},
		"other links":            {pcapFile(order, false, record{link: 105}, record{link: 105}), "packets passed over: 2 of link type 105; Ethernet, raw IP, Linux cooked and BSD loopback are read"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := readAll(row.file); err == nil || err.Error() != row.want {
				t.Errorf("error %v, want %s", err, row.want)
			}
		})
	}
}

// TestLengthsAreNotTrusted: a stated length takes neither memory nor, where nothing can be so long, the rest of the file.
func TestLengthsAreNotTrusted(t *testing.T) {
	order := binary.LittleEndian
	huge := append(pcapFile(order, false, record{link: LinkRaw})[:24], numbers32(order, 0, 0, 0xffffffff, 0xffffffff)...)
	ng := slices.Concat(section(order), description(order, LinkRaw), numbers32(order, blockEnhanced, 0xfffffffc, 0, 0, 0, 0xffffff00, 0))
	for name, file := range map[string][]byte{"pcap": huge, "pcapng": ng, "pcapng, other": append(section(order), numbers32(order, 99, 0xfffffffc)...)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := readAll(file)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, errCut) {
			t.Errorf("%s: error %v, want %v", name, err, errCut)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s: %d bytes allocated", name, took)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// TestReadError passes on what the file's reading ended with.
func TestReadError(t *testing.T) {
	file := pcapFile(binary.LittleEndian, false, record{link: LinkRaw})
	for _, size := range []int{0, 24, 30} {
		r, err := NewReader(io.MultiReader(bytes.NewReader(file[:size]), failing{}))
		if err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("%d bytes: error %v, want %v", size, err, io.ErrNoProgress)
		}
	}
}

// TestPcapgo reads what another implementation writes.
func TestPcapgo(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)
	frame := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 3).Bytes()
	var pcapNs, ng bytes.Buffer
	w := pcapgo.NewWriterNanos(&pcapNs)
	info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(frame), Length: 1500}
	if err := errors.Join(w.WriteFileHeader(65536, layers.LinkTypeEthernet), w.WritePacket(info, frame)); err != nil {
		t.Fatal(err)
	}
	n, err := pcapgo.NewNgWriterInterface(&ng, pcapgo.NgInterface{
		Name: "eth0", LinkType: layers.LinkTypeEthernet, TimestampResolution: 9, OS: "Linux",
	}, pcapgo.DefaultNgWriterOptions)
	if err := errors.Join(err, n.WritePacket(info, frame), n.Flush()); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"pcap": pcapNs.Bytes(), "pcapng": ng.Bytes()} {
		packets, _, err := readAll(file)
		if err != nil || len(packets) != 1 {
			t.Fatalf("%s: %d packets, error %v", name, len(packets), err)
		}
		if p := packets[0]; p.AtNs != uint64(at.UnixNano()) || p.Length != 1500 || !bytes.Equal(p.Frame, frame) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// FuzzReader: whatever is in a file, every packet of it can be handed to the kernel side, and the reading ends.
func FuzzReader(f *testing.F) {
	f.Add(mixed())
	for _, order := range byteOrders {
		f.Add(pcapFile(order, true, record{LinkCooked, make([]byte, 30), 30, 1}))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		packets, _, err := readAll(file)
		for _, p := range packets {
			if len(p.Frame) <= ethernetHeader || len(p.Frame) > ethernetHeader+FrameBytes || p.AtNs > MaxNs || p.Interface == 0 {
				t.Errorf("%+v", p)
			}
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("error %q", err)
		}
		if len(packets) > len(file)/16 {
			t.Errorf("%d packets of %d bytes", len(packets), len(file))
		}
	})
}

// BenchmarkRead prints what it costs to read a packet.
func BenchmarkRead(b *testing.B) {
	frame := testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 1000).Bytes()
	one := record{LinkEthernet, frame, uint32(len(frame)), 1}
	file := pcapFile(binary.LittleEndian, false, slices.Repeat([]record{one}, 1000)...)
	b.SetBytes(int64(len(file) / 1000))
	for n := 0; n < b.N; {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			b.Fatal(err)
		}
		for ; ; n++ {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}
