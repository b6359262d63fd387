package datapath

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"weir/internal/flow"
	"weir/internal/testnet"
)

const ms = uint64(time.Millisecond)

// moment is a segment that comes at a time of the capture.
type moment struct {
	ms       uint64
	server   bool
	sequence uint32
	flags    uint8
	options  []byte
}

// options are so many bytes, each another one.
func options(size int) []byte {
	b := make([]byte, 0, size)
	for i := range size {
		b = append(b, byte(i+1))
	}
	return b
}

// frame is the segment, with a VLAN tag if it is the server's.
func (m moment) frame(ends [2]string) []byte {
	s := testnet.Segment{Sequence: m.sequence, Flags: m.flags, Window: uint16(1000 + len(m.options)), Options: m.options}
	if m.server {
		return s.Packet(ends[1], ends[0]).VLAN(5).Bytes()
	}
	return s.Packet(ends[0], ends[1]).Bytes()
}

// opening is what a moment says as a SYN or SYN-ACK.
func (m moment) opening() flow.Opening {
	o := flow.Opening{TimeNs: m.ms * ms, Window: uint16(1000 + len(m.options)), TTL: 64}
	if len(m.options) > 0 {
		o.Options = m.options
	}
	return o
}

type handshakeRow struct {
	moments []moment
	want    *flow.Handshake
}

func handshakeRows() map[string]handshakeRow {
	const syn, ack, rst = testnet.SYN, testnet.ACK, testnet.RST
	a := moment{1, false, 100, syn, options(40)}
	b := moment{3, true, 900, syn | ack, options(20)}
	c := moment{7, false, 101, ack, options(12)}
	at := func(m moment, ms uint64) moment { m.ms = ms; return m }
	var many []moment
	var delays []time.Duration
	for i := range 11 {
		many = append(many, at(b, uint64(3+1000*i)))
	}
	for range 9 {
		delays = append(delays, time.Second)
	}
	resent := &flow.Handshake{SYN: a.opening(), SYNACK: b.opening(), ACKNs: 11000 * ms, Resent: delays}
	whole := &flow.Handshake{SYN: a.opening(), SYNACK: b.opening(), ACKNs: 7 * ms}
	again := moment{20, false, 5000, syn, options(8)}
	return map[string]handshakeRow{
		"whole":                   {[]moment{a, b, c, at(c, 9), {10, true, 901, ack, nil}}, whole},
		"the SYN came twice":      {[]moment{a, at(a, 2), b, c}, whole},
		"ECN":                     {[]moment{{1, false, 1, syn | testnet.ECE | testnet.CWR, nil}}, &flow.Handshake{SYN: moment{ms: 1}.opening()}},
		"without options":         {[]moment{{1, false, 1, syn, nil}}, &flow.Handshake{SYN: moment{ms: 1}.opening()}},
		"not answered":            {[]moment{a, at(a, 1001)}, &flow.Handshake{SYN: a.opening()}},
		"refused":                 {[]moment{a, {3, true, 0, rst | ack, nil}}, &flow.Handshake{SYN: a.opening()}},
		"the server's half":       {[]moment{b, {9, true, 901, ack, nil}}, &flow.Handshake{SYNACK: b.opening()}},
		"the client's half":       {[]moment{a, c}, &flow.Handshake{SYN: a.opening()}},
		"SYN-ACK again and again": {append([]moment{a}, append(many, at(c, 11000))...), resent},
		"the server gives up": {
			[]moment{a, b, at(b, 1003), {7003, true, 901, rst, nil}, {8000, true, 901, rst, nil}},
			&flow.Handshake{
				SYN: a.opening(), SYNACK: b.opening(), Resent: []time.Duration{time.Second}, Reset: 6 * time.Second,
			},
		},
		"it gives up at once": {
			[]moment{a, b, {3, true, 901, rst, nil}}, &flow.Handshake{SYN: a.opening(), SYNACK: b.opening(), Reset: time.Millisecond},
		},
		"the client gives up":  {[]moment{a, b, {9, false, 101, rst, nil}}, &flow.Handshake{SYN: a.opening(), SYNACK: b.opening()}},
		"reset later":          {[]moment{a, b, c, {9, true, 901, rst, nil}}, whole},
		"the same ports again": {[]moment{a, b, {5, true, 901, rst, nil}, again}, &flow.Handshake{SYN: again.opening()}},
		"open already":         {[]moment{c, {8, true, 901, ack, nil}}, nil},
	}
}

// TestHandshake tells with the record how the connection was opened.
func TestHandshake(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Replay: true, Samples: SampleHandshakes})
	for name, row := range handshakeRows() {
		for version, ends := range map[string][2]string{
			"IPv4": {"10.0.0.1:40000", "10.0.0.2:443"}, "IPv6": {"[fd00::9]:40000", "[fd00::2]:443"},
		} {
			t.Run(name+"/"+version, func(t *testing.T) {
				for _, m := range row.moments {
					frame := m.frame(ends)
					if err := k.Replay(&Frame{frame, uint32(len(frame)), m.ms * ms, 1}); err != nil {
						t.Fatal(err)
					}
				}
				records, _ := k.records(t, k.SweepOut)
				if len(records) != 1 {
					t.Fatalf("%d records, want 1", len(records))
				}
				if got := records[0].Handshake; !reflect.DeepEqual(got, row.want) {
					t.Errorf("%+v, want %+v", got, row.want)
				}
			})
		}
	}
}

// TestHandshakeOptions keeps as many options as there are, and no byte of what follows.
func TestHandshakeOptions(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleHandshakes})
	for size := 0; size <= 40; size += 4 {
		syn := testnet.Segment{Flags: testnet.SYN, Options: options(size), Payload: bytes.Repeat([]byte{0xff}, 60)}
		k.run(t, kernelProgXdpIngress, syn.Packet(fmt.Sprint("10.0.0.1:", 1000+size), server).Bytes(), nil)
	}
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 11 {
		t.Fatalf("%d records, want 11", len(records))
	}
	for _, r := range records {
		if want := options(int(r.Key.Ends[0].Port()) - 1000); !bytes.Equal(r.Handshake.SYN.Options, want) {
			t.Errorf("options %x, want %x", r.Handshake.SYN.Options, want)
		}
	}
}

// TestEveryHandshake tells how every connection was opened that the map holds.
func TestEveryHandshake(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleHandshakes | SampleTLS})
	for port := range 1024 {
		frame := testnet.TCP(fmt.Sprint("10.0.0.1:", 1000+port), server, testnet.SYN, 0).Bytes()
		k.run(t, kernelProgXdpIngress, frame, nil)
	}
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1024 {
		t.Errorf("%d records, want 1024", len(records))
	}
	for _, r := range records {
		if r.Handshake == nil {
			t.Errorf("no handshake of %v", r.Key)
		}
	}
}

// TestSlotsOfOthers finds nothing of connections that have left in the slots that they had.
func TestSlotsOfOthers(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 64, Sampling: 1, Samples: SampleHandshakes | SampleTLS})
	hello := record(22, 1, 512)
	for port := range 500 { // most of them evicted
		syn := step{false, 0, testnet.SYN, hello}
		k.run(t, kernelProgXdpIngress, syn.frame(fmt.Sprint("10.0.0.1:", 1000+port), server), nil)
	}
	k.samples(t)
	for port := range 500 {
		src := fmt.Sprint("10.0.0.1:", 20000+port)
		k.run(t, kernelProgXdpIngress, says(false, 0, hello).frame(src, server), nil)
		got, _ := k.samples(t)
		checkSamples(t, got, []sampled{{false, 0, hello}}, src, server, flow.SampleStream)
	}
	if l := k.ledger(t); l.Evictions < 900 {
		t.Errorf("%d evictions, want nearly every connection to have the slot of another", l.Evictions)
	}
	records, _ := k.records(t, k.SweepOut)
	for _, r := range records {
		if r.Key.Ends[0].Port() >= 20000 && r.Handshake != nil {
			t.Errorf("%v has the handshake of another connection", r.Key)
		}
	}
}

// TestHandshakeOfAnother: what a packet leaves in a slot that has got another connection since it was looked up is not told of
// that one, which is followed as if nothing had been seen.
func TestHandshakeOfAnother(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleHandshakes})
	const late, next = "10.0.0.1:1000", "10.0.0.1:2000"
	for i, src := range []string{late, next} {
		syn := testnet.Segment{Sequence: uint32(i), Flags: testnet.SYN, Window: uint16(i)}
		k.run(t, kernelProgTcIngress, syn.Packet(src, server).Bytes(), nil)
	}
	handshakes := k.coll.Maps[kernelMapHandshakes]
	var index, slot uint32
	var value, left kernelHandshake
	for all := handshakes.Iterate(); all.Next(&index, &value); {
		switch {
		case value.Syn.Ns != 0 && value.Syn.Window == 0:
			left = value
		case value.Syn.Ns != 0:
			slot = index
		}
	}
	if err := handshakes.Update(slot, &left, ebpf.UpdateExist); err != nil {
		t.Fatal(err)
	}
	answer := testnet.Segment{Sequence: 7, Flags: testnet.SYN | testnet.ACK, Window: 7}
	k.run(t, kernelProgTcIngress, answer.Packet(server, next).Bytes(), nil)
	records, _ := k.records(t, k.SweepOut)
	got := map[string]string{}
	for _, r := range records {
		h := r.Handshake
		got[r.Key.Ends[0].String()] = fmt.Sprint(h != nil && h.SYN.TimeNs != 0, h != nil && h.SYNACK.TimeNs != 0)
	}
	if want := map[string]string{late: "true false", next: "false true"}; !maps.Equal(got, want) {
		t.Errorf("SYN and SYN-ACK by connection %v, want %v", got, want)
	}
}

// TestHandshakeOnce: of the records of a connection the first has its handshake.
func TestHandshakeOnce(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleHandshakes})
	k.run(t, kernelProgTcIngress, testnet.TCP(client, server, testnet.SYN, 0).Bytes(), nil)
	for period, want := range []bool{true, false, false} {
		k.run(t, kernelProgTcIngress, testnet.TCP(client, server, testnet.ACK, 0).Bytes(), nil)
		records, _ := k.records(t, func() (flow.Resident, bool, error) {
			return k.Sweep(now(), flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Hour})
		})
		if len(records) != 1 || (records[0].Handshake != nil) != want {
			t.Errorf("period %d: %+v", period, records)
		}
	}
}

// TestHandshakesStayUntilReleased keeps records with and without a handshake in the same ring for the next process.
func TestHandshakesStayUntilReleased(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: testnet.BPFFS(t) + "/weir", Samples: SampleHandshakes}
	first, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel{first}
	for port := range 3 {
		src := fmt.Sprint("10.0.0.1:", 1000+port)
		k.run(t, kernelProgTcIngress, testnet.TCP(src, server, testnet.SYN, 0).Bytes(), nil)
		k.run(t, kernelProgTcIngress, testnet.UDP(src, server, 10).Bytes(), nil)
	}
	all, _ := k.records(t, k.SweepOut)
	if len(all) != 6 {
		t.Fatalf("%d records, want 6", len(all))
	}
	for _, r := range all[:4] { // in order, and the last event of each
		k.Release(flow.EventID{Instance: r.ID.Instance, Sequence: r.ID.Sequence + 1})
	}
	k.Release(flow.EventID{Instance: all[0].ID.Instance, Sequence: all[0].ID.Sequence + 1}) // late, and of no effect
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var got []flow.Record
	if _, err := newKernelWith(t, cfg).ReadRecords(func(r *flow.Record) { got = append(got, *r) }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, all[4:]) {
		t.Errorf("the next process read %+v, want %+v", got, all[4:])
	}
}

// TestFloodOfSYNs leaves nothing in the ring of samples.
func TestFloodOfSYNs(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 4096, Sampling: 1, Samples: allSamples})
	const flood = 500
	for i := range flood {
		k.run(t, kernelProgXdpIngress, testnet.TCP(fmt.Sprint("10.0.0.1:", 1000+i), server, testnet.SYN, 0).Bytes(), nil)
	}
	got, lengths := k.samples(t)
	if l := k.ledger(t); len(got)+len(lengths) != 0 || l.Samples != 0 || l.Counted.Packets != flood {
		t.Errorf("%d samples, %d packets counted, want 0 and %d", l.Samples, l.Counted.Packets, flood)
	}
}
