package tracker_test

import (
	"net/netip"
	"strconv"
	"testing"

	"weir/internal/flow"
	"weir/internal/tracker"
)

func BenchmarkUpdate(b *testing.B) {
	tr := tracker.NewTracker(10)
	b.ReportAllocs()
	for b.Loop() {
		tr.Update(client, clientPort, server, serverPort, "tcp", start, 100)
	}
}

// BenchmarkUpdateFlow updates existing connections in turn: of one the key is in the cache, of many it is not.
func BenchmarkUpdateFlow(b *testing.B) {
	for _, n := range []int{1, 65_536} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			tr := tracker.NewTracker(n)
			keys := make([]flow.Key, n)
			for i := range keys {
				keys[i] = flowKey(0, 0)
				keys[i].Ends[0] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)
				tr.UpdateFlow(keys[i], flow.InitiatorEnd0, start, 1, 100)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				tr.UpdateFlow(keys[i%n], flow.InitiatorEnd0, start, 1, 100)
				i++
			}
		})
	}
}

// BenchmarkNewConnection makes connections and evicts the oldest for each.
func BenchmarkNewConnection(b *testing.B) {
	tr := tracker.NewTracker(0)
	k := flowKey(0, 0)
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		i++
		k.Ends[0] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		tr.UpdateFlow(k, flow.InitiatorEnd0, start, 1, 100)
	}
}

// BenchmarkAddFingerprint adds to a history that is full.
func BenchmarkAddFingerprint(b *testing.B) {
	c := newConnection()
	values := []string{
		"ge11nn05enus_9ed1ff1f7b03_cd8dafe26982_000000000000",
		"ge11nn05enus_9ed1ff1f7b03_cd8dafe26982_111111111111",
	}
	for i := range 1000 {
		c.AddFingerprint("ja4h", values[i%2], start, 1)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.AddFingerprint("ja4h", values[i%2], start, 1)
		i++
	}
}
