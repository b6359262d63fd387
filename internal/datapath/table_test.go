package datapath

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// eachSlot calls fn for every slot of the table, used or not.
func (k kernel) eachSlot(t testing.TB, fn func(index uint32, slot *kernelFlowSlot)) {
	t.Helper()
	flows := k.coll.Maps[kernelMapFlows]
	for index := range flows.MaxEntries() {
		var slot kernelFlowSlot
		if err := flows.Lookup(index, &slot); err != nil {
			t.Fatal(err)
		}
		fn(index, &slot)
	}
}

// slots returns what the table holds.
func (k kernel) slots(t testing.TB) (all []kernelFlowSlot) {
	t.Helper()
	k.eachSlot(t, func(_ uint32, slot *kernelFlowSlot) {
		if slot.Entry.Count[0]&live != 0 {
			all = append(all, *slot)
		}
	})
	return all
}

// tags returns the tags of every bucket.
func (k kernel) tags(t testing.TB) [][bucketSlots]uint8 {
	t.Helper()
	m := k.coll.Maps[kernelMapTags]
	all := make([][bucketSlots]uint8, m.MaxEntries())
	for number := range all {
		if err := m.Lookup(uint32(number), &all[number]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// from is a frame of a connection of its own for each port.
func from(port int) []byte {
	return testnet.UDP(fmt.Sprint("10.0.0.1:", 1000+port), "10.0.0.2:53", port).Bytes()
}

// TestTags finds each of as many connections as the table was made for, though many of a bucket have the same tag.
func TestTags(t *testing.T) {
	const flows, rounds = 1024, 3
	k := newKernel(t, flows)
	for range rounds {
		for port := range flows {
			k.run(t, kernelProgXdpIngress, from(port), nil)
		}
	}
	alike := 0
	for _, bucket := range k.tags(t) {
		seen := map[uint8]bool{0: true}
		for _, tag := range bucket {
			if tag != 0 && seen[tag] {
				alike++
			}
			seen[tag] = true
		}
	}
	if alike == 0 {
		t.Error("no two connections of a bucket have the same tag: the test shows nothing")
	}
	records, _ := k.records(t, k.SweepOut)
	if l := k.ledger(t); len(records) != flows || l.Evictions != 0 || l.Deletes != flows {
		t.Errorf("%d records, %d evictions, %d deletes, want %d, none and %[4]d", len(records), l.Evictions, l.Deletes, flows)
	}
	for _, r := range records {
		if got := r.Halves[0].Packets; got != rounds {
			t.Errorf("%v has %d packets, want %d", r.Key.Ends, got, rounds)
		}
	}
	for number, tags := range k.tags(t) {
		if tags != [bucketSlots]uint8{} {
			t.Errorf("bucket %d has the tags %x, and no connection", number, tags)
		}
	}
}

// TestVictims fills a table of one bucket, and then has one connection after the other make room: first those of a lone packet,
// then those that were quiet for longest.
func TestVictims(t *testing.T) {
	const slots = int(bucketSlots)
	k := newKernelWith(t, Config{MaxFlows: bucketSlots * 4 / 5, Sampling: 1, Replay: true})
	at := uint64(time.Hour)
	send := func(ports ...int) {
		t.Helper()
		for _, port := range ports {
			at += uint64(time.Second)
			frame := from(port)
			if err := k.Replay(&Frame{frame, uint32(len(frame)), at, 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	here := func() map[uint16]bool {
		ports := map[uint16]bool{}
		for _, s := range k.slots(t) {
			ports[swapPort(s.Key.Port[0])-1000] = true
		}
		return ports
	}
	for port := range slots {
		send(port)
		if port != 3 && port != 5 {
			send(port)
		}
	}
	send(0) // was quiet for longest, and is not now
	var evicted flow.Counter
	packets := map[int]uint64{3: 1, 5: 1}
	for i, victim := range []int{3, 5, 1, 2, 4, 6} {
		newcomer := slots + i
		send(newcomer)
		if ports := here(); ports[uint16(victim)] || len(ports) != slots {
			t.Fatalf("%d connections with %v, want all but that of %d", len(ports), ports, victim)
		}
		send(newcomer) // not a lone packet
		n := max(packets[victim], 2) - packets[victim]%2
		evicted.Packets += n
		evicted.Bytes += n * uint64(len(from(victim)))
		if l := k.ledger(t); l.Evicted != evicted || l.Evictions != uint64(i+1) {
			t.Errorf("evicted %d with %+v, want %d with %+v", l.Evictions, l.Evicted, i+1, evicted)
		}
	}
	l := k.ledger(t)
	records, _ := k.records(t, k.SweepOut)
	after := k.ledger(t)
	if len(records) != slots || after.Exported.Packets+l.Evicted.Packets != l.Counted.Packets {
		t.Errorf("%d records, %+v exported, %+v evicted of %+v", len(records), after.Exported, l.Evicted, l.Counted)
	}
}

// TestSameConnectionsOnTwoCPUs has two CPUs see the same new connections at the same time, where there is room for all, and where
// they push one another out. None has two entries, and no packet is counted twice or lost.
func TestSameConnectionsOnTwoCPUs(t *testing.T) {
	const flows, packets, rounds = 1 << 12, 1 << 16, 16
	for name, row := range map[string]struct {
		room  uint32
		evict bool
	}{"room": {2 * flows, false}, "crowded": {flows / 2, true}} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t, row.room)
			// Both CPUs take the next flow from one variable, without a lock: often the same at the same time.
			mixed := mixFlows(t, flows, k.coll.Programs[kernelProgTcIngress]).program
			for range rounds {
				var sending sync.WaitGroup
				for range 2 {
					sending.Go(func() { perPacket(t, mixed, mixedFrame(), packets) })
				}
				sending.Wait()
				k.checkUnique(t)
				k.records(t, k.SweepOut)
			}
			l := k.ledger(t)
			if (l.Evictions != 0) != row.evict || !row.evict && l.Inserts != rounds*flows {
				t.Errorf("%d entries made, %d evicted, want %d made and evictions: %t", l.Inserts, l.Evictions, rounds*flows, row.evict)
			}
			if gone := l.Exported.Packets + l.Evicted.Packets; gone != l.Counted.Packets || gone == 0 {
				t.Errorf("%d packets counted, %d exported or evicted", l.Counted.Packets, gone)
			}
			if fates := l.Counted.Packets + l.Uncounted["expiring"].Packets; fates != 2*rounds*packets {
				t.Errorf("%d packets have a fate, want %d", fates, 2*rounds*packets)
			}
			t.Logf("%d packets met an entry that came or went", l.Uncounted["expiring"].Packets)
		})
	}
}

// checkUnique finds connections that have two entries.
func (k kernel) checkUnique(t *testing.T) {
	t.Helper()
	slots, keys := k.slots(t), map[kernelFlowKey]bool{}
	for _, slot := range slots {
		keys[slot.Key] = true
	}
	if len(keys) != len(slots) || len(slots) == 0 {
		t.Errorf("%d entries of %d connections", len(slots), len(keys))
	}
}

// TestSpread has connections that differ in few bits fill the buckets evenly.
func TestSpread(t *testing.T) {
	const flows = 1 << 16
	k := newKernel(t, 4*flows)
	out, in := veth(t)
	k.attach(t, in, IngressXDP)
	testnet.NewGenerator(t, out, testnet.Flows{Number: flows}).Send(t, flows) // of two hosts, one port after the other
	tags := k.tags(t)
	mean := float64(flows) / float64(len(tags))
	var deviation float64
	for _, bucket := range tags {
		used := 0.0
		for _, tag := range bucket {
			if tag != 0 {
				used++
			}
		}
		deviation += (used - mean) * (used - mean) / mean
	}
	// Chi-square, of as many degrees of freedom as there are buckets, is within a tenth of their number at ten times its deviation.
	if got := deviation / float64(len(tags)); got < 0.9 || got > 1.1 {
		t.Errorf("buckets deviate by %.2f of what chance has them", got)
	}
}

// TestOneSecret has the programs of other places find the connections that those of the first made.
func TestOneSecret(t *testing.T) {
	k := newKernel(t, 1024)
	if _, err := k.setAt(place{bare: true}); err != nil {
		t.Fatal(err)
	}
	var first, second kernelSecret
	if err := k.coll.Variables[kernelVarSecret].Get(&first); err != nil {
		t.Fatal(err)
	}
	if err := k.sets.loaded[place{bare: true}].Maps[kernelSecrets].Lookup(uint32(0), &second); err != nil {
		t.Fatal(err)
	}
	if first != second || first.Words == [10]uint64{} {
		t.Errorf("secrets %x and %x, want the same", first, second)
	}
}
