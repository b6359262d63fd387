package testnet

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// counter is the XDP program that counts what arrives.
type counter struct {
	Count   *ebpf.Program  `ebpf:"count"`
	PerFlow *ebpf.Map      `ebpf:"counted_flows"`
	Packets *ebpf.Variable `ebpf:"counted_packets"`
	Bytes   *ebpf.Variable `ebpf:"counted_bytes"`
}

func attachCounter(t testing.TB, g *Generator) *counter {
	t.Helper()
	spec, err := loadTestgen()
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables[testgenVarBaseAddress].Set(binary.BigEndian.Uint32(g.flows.Src.AsSlice())); err != nil {
		t.Fatal(err)
	}
	c := &counter{}
	if err := spec.LoadAndAssign(c, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Count.Close(); c.PerFlow.Close() })
	err = g.link.peer.Namespace.Do(func() error {
		l, err := link.AttachXDP(link.XDPOptions{Program: c.Count, Interface: g.link.peer.Index, Flags: link.XDPDriverMode})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *counter) read(t testing.TB) (packets, bytes uint64, perFlow []uint64) {
	t.Helper()
	if err := c.Packets.Get(&packets); err != nil {
		t.Fatal(err)
	}
	if err := c.Bytes.Get(&bytes); err != nil {
		t.Fatal(err)
	}
	for flow := range c.PerFlow.MaxEntries() {
		var n uint64
		if err := c.PerFlow.Lookup(flow, &n); err != nil {
			t.Fatal(err)
		}
		perFlow = append(perFlow, n)
	}
	return packets, bytes, perFlow
}

func pair(t testing.TB) (*Link, *Link) {
	return Veth(t, End{Namespace: NewNamespace(t), Name: "a0"}, End{Namespace: NewNamespace(t), Name: "b0"})
}

func TestGeneratorIsExact(t *testing.T) {
	for name, test := range map[string]struct {
		flows  Flows
		frames uint64
	}{
		"in turn":             {Flows{Number: 65536, Payload: 18}, 5_000_000},
		"shuffled":            {Flows{Number: 65536, Payload: 18, Shuffled: true}, 1_000_000},
		"one flow":            {Flows{Number: 1, Payload: 1400}, 100_001},
		"TCP":                 {Flows{Number: 1024, Shuffled: true, TCPFlags: SYN, Payload: 10}, 10_000},
		"beside steady flows": {Flows{Number: 1024, TCPFlags: SYN, Steady: 512}, 100_000},
		"every frame a new":   {Flows{Number: 1 << 30}, 50_000},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := pair(t)
			g := NewGenerator(t, a, test.flows)
			c := attachCounter(t, g)
			g.Send(t, test.frames-1)
			g.Send(t, 1)

			packets, bytes, perFlow := c.read(t)
			header := 42
			if test.flows.TCPFlags != 0 {
				header = 54
			}
			if packets != test.frames || bytes != test.frames*uint64(header+test.flows.Payload) {
				t.Errorf("sent %d frames, counted %d of %d bytes", test.frames, packets, bytes)
			}
			if frames, sentBytes := g.Sent(); frames != packets || sentBytes != bytes {
				t.Errorf("Sent() = %d, %d; counted %d, %d", frames, sentBytes, packets, bytes)
			}
			want := make([]uint64, len(perFlow))
			if test.flows.Number <= len(want) {
				copy(want, append(g.PerFlow(), g.PerSteady()...))
			} else {
				for f := range test.frames {
					want[f] = 1
				}
			}
			for f := range want {
				if perFlow[f] != want[f] {
					t.Fatalf("flow %d: sent %d frames, counted %d", f, want[f], perFlow[f])
				}
			}
		})
	}
}
