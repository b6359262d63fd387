package datapath

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestRecordsStayUntilReleased has three processes, one after the other, on one folder of pins. What the first read and did not
// release, the second reads again, under the same IDs.
func TestRecordsStayUntilReleased(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	read := func(k kernel) (ids []flow.EventID) {
		t.Helper()
		if _, err := k.ReadRecords(func(r *flow.Record) { ids = append(ids, r.ID) }); err != nil {
			t.Fatal(err)
		}
		return ids
	}
	first, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel{first}
	for port := range 5 {
		k.run(t, kernelProgTcIngress, testnet.UDP(fmt.Sprint("10.0.0.1:", 1000+port), "10.0.0.2:53", 30).Bytes(), nil)
	}
	if _, whole, err := k.SweepOut(); err != nil || !whole {
		t.Fatal(whole, err)
	}
	all := read(k)
	if len(all) != 5 || len(read(k)) != 0 || !slices.IsSortedFunc(all, func(a, b flow.EventID) int { return int(a.Sequence) - int(b.Sequence) }) {
		t.Fatalf("read %v, want five in order, once", all)
	}
	k.Release(flow.EventID{Instance: all[1].Instance, Sequence: all[1].Sequence + 1}) // the last event of the second record
	k.Release(all[0])                                                                 // late, and of no effect
	k.Release(flow.EventID{Instance: 1, Sequence: 1 << 40})                           // of another ring
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k = kernel{second}
	if got := read(k); !slices.Equal(got, all[2:]) {
		t.Errorf("the second process read %v, want %v", got, all[2:])
	}
	k.Release(all[3]) // the first of two events: its record is not done
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(newKernelWith(t, cfg)); !slices.Equal(got, all[3:]) {
		t.Errorf("the third process read %v, want %v", got, all[3:])
	}
}

// TestRingGoesRound reads more than a ring holds, in portions.
func TestRingGoesRound(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 65536, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")})
	out, in := veth(t)
	k.attach(t, in, IngressXDP)
	const flows, rounds = 32768, 3 // the ring holds 58,000
	g := testnet.NewGenerator(t, out, testnet.Flows{Number: flows})
	total := 0
	for range rounds {
		g.Send(t, flows)
		_, whole, err := k.SweepOut()
		if err != nil || !whole {
			t.Fatal(whole, err)
		}
		var last flow.EventID
		n, err := k.ReadRecords(func(r *flow.Record) { last = r.ID })
		if err != nil {
			t.Fatal(err)
		}
		total += n
		last.Sequence++
		k.Release(last)
	}
	if total != flows*rounds {
		t.Errorf("read %d records, want %d", total, flows*rounds)
	}
}

// TestNothingToTell has more entries go idle than the ring holds, right after all that they counted was handed over. Their records
// are thrown away, and must not fill the ring for good.
func TestNothingToTell(t *testing.T) {
	for name, dir := range map[string]string{"pinned": filepath.Join(testnet.BPFFS(t), "weir"), "not pinned": ""} {
		t.Run(name, func(t *testing.T) {
			const flows = 1 << 17
			k := newKernelWith(t, Config{MaxFlows: 2 * flows, Sampling: 1, PinDir: dir})
			out, in := veth(t)
			k.attach(t, in, IngressXDP)
			testnet.NewGenerator(t, out, testnet.Flows{Number: flows}).Send(t, flows)
			var last flow.EventID
			for total, whole := 0, false; !whole; {
				last.Sequence |= 1
				k.Release(last)
				var err error
				if _, whole, err = k.Sweep(now(), flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Hour, Active: 1}); err != nil {
					t.Fatal(err)
				}
				n, err := k.ReadRecords(func(r *flow.Record) { last = r.ID })
				if total += n; err != nil || n == 0 || whole && total != flows {
					t.Fatalf("%d records, %d in all, %v", n, total, err)
				}
			}
			// The last ones are not released yet: those that are thrown away come behind them.
			if _, whole, err := k.SweepOut(); whole || err != nil {
				t.Fatal(whole, err)
			}
			if _, err := k.ReadRecords(func(*flow.Record) { t.Error("a record") }); err != nil {
				t.Fatal(err)
			}
			last.Sequence |= 1
			k.Release(last)
			if records, left := k.records(t, k.SweepOut); len(records) != 0 || left.Flows != 0 {
				t.Errorf("%d records, %d flows left, want none", len(records), left.Flows)
			}
		})
	}
}

// TestAdopt goes on where another process ended: entries, ledger and zones.
func TestAdopt(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir"), Decap: allTunnels()}
	frame := vxlan("10.0.0.1:1", "10.0.0.2:4789", innerTCP).Bytes()
	for range 3 {
		d, err := Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		kernel{d}.run(t, kernelProgTcIngress, frame, nil)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	k := newKernelWith(t, cfg)
	if !k.Resumed() {
		t.Error("the fourth process does not say that it goes on with the maps")
	}
	sent := flow.Counter{Packets: 3, Bytes: uint64(3 * len(frame))}
	checkLedger(t, k.ledger(t), kernelProgTcIngress, sent, map[string]flow.Counter{"counted": sent})
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1 || records[0].Tunnel == nil || records[0].Halves[0].Packets+records[0].Halves[1].Packets != 3 {
		t.Errorf("records %+v, want one of three packets, in its tunnel", records)
	}
}

// TestZonesRecovered frees the zones that a process was about to free when it was killed.
func TestZonesRecovered(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: allTunnels()})
	var lost uint32
	if err := k.zones.free.LookupAndDelete(nil, &lost); err != nil {
		t.Fatal(err)
	}
	k.run(t, kernelProgTcIngress, vxlan("10.0.0.1:1", "10.0.0.2:4789", innerTCP).Bytes(), nil)
	z, err := newZones(k.zones.tunnels, k.zones.free, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(z.leaving)); !slices.Equal(got, []uint16{uint16(lost)}) {
		t.Errorf("zones %v are leaving, want %d", got, lost)
	}
	if len(z.known) != 2 {
		t.Errorf("zones %v are known, want the lost one and the tunnel's", z.known)
	}
}

// TestPinsHaveOneOwner until it ends, however it ends.
func TestPinsHaveOneOwner(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	first, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cfg); !errors.Is(err, ErrPinned) {
		t.Errorf("a second process got %v, want %v", err, ErrPinned)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	newKernelWith(t, cfg)
}

func TestNoBPFFileSystem(t *testing.T) {
	testnet.NeedRoot(t)
	if d, err := Load(Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(t.TempDir(), "weir")}); err == nil {
		t.Errorf("loaded %v, want an error", d)
	}
}

// TestInherit takes over what is in maps of another size: entries, and records that nobody made events of.
func TestInherit(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir"), Decap: allTunnels()}
	old, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel{old}
	k.run(t, kernelProgTcIngress, udp4.Bytes(), nil)
	if _, _, err := k.SweepOut(); err != nil {
		t.Fatal(err)
	}
	k.run(t, kernelProgTcIngress, udp6.Bytes(), nil)
	k.run(t, kernelProgTcIngress, testnet.TCP("10.0.0.1:1000", "10.0.0.2:80", testnet.SYN, 0).Bytes(), nil)
	k.run(t, kernelProgTcIngress, testnet.TCP("10.0.0.1:1000", "10.0.0.2:80", testnet.RST, 0).Bytes(), nil)
	k.run(t, kernelProgTcIngress, vxlan("10.0.0.1:1", "10.0.0.2:4789", innerUDP6).Bytes(), nil)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}

	cfg.MaxFlows = 2048
	k = newKernelWith(t, cfg)
	k.run(t, kernelProgTcIngress, udp6.Bytes(), nil) // of ours
	inherited := func() (all []string) {
		t.Helper()
		k.inherit(t, func(r *flow.Record) {
			tunnel := flow.TunnelNone
			if r.Tunnel != nil {
				tunnel = r.Tunnel.Kind
			}
			all = append(all, fmt.Sprintf("%d %s %d %s %s %x", r.Key.Protocol, r.Key.Ends, r.Halves[0].Packets+r.Halves[1].Packets, r.EndReason, tunnel, r.ID))
		})
		slices.Sort(all)
		return all
	}
	first := inherited()
	if again := inherited(); !slices.Equal(first, again) {
		t.Errorf("inherited %q, and then %q", first, again)
	}
	want := []string{
		"17 [10.0.0.1:1000 10.0.0.2:53] 1 shutdown none", "17 [[fd00::1]:1000 [fd00::2]:53] 1 active none",
		"17 [[fd00::1]:1000 [fd00::2]:53] 1 active vxlan", "6 [10.0.0.1:1000 10.0.0.2:80] 2 rst none",
	}
	for i := range first {
		first[i] = first[i][:min(len(first[i]), len(want[min(i, len(want)-1)]))]
	}
	if !slices.Equal(first, want) {
		t.Errorf("inherited %q, want %q", first, want)
	}
	k.dropFormer(t)
	if left := inherited(); len(left) != 0 {
		t.Errorf("%q are still there", left)
	}
	k.checkPins(t)
}

// inherit passes on what all folders of other generations hold.
func (k kernel) inherit(t testing.TB, fn func(*flow.Record)) {
	t.Helper()
	for _, folder := range k.former(t) {
		if err := k.Inherit(t.Context(), folder, fn); err != nil {
			t.Fatal(err)
		}
	}
}

func (k kernel) dropFormer(t testing.TB) {
	t.Helper()
	for _, folder := range k.former(t) {
		if err := k.DropFormer(folder); err != nil {
			t.Fatal(err)
		}
	}
}

func (k kernel) former(t testing.TB) []string {
	t.Helper()
	folders, err := k.Former()
	if err != nil {
		t.Fatal(err)
	}
	return folders
}

// TestInheritedOnce has a process go back to the maps that another one was taking over when it was killed.
func TestInheritedOnce(t *testing.T) {
	dir := filepath.Join(testnet.BPFFS(t), "weir")
	small, large := Config{MaxFlows: 1024, Sampling: 1, PinDir: dir}, Config{MaxFlows: 2048, Sampling: 1, PinDir: dir}
	inherited := func(k kernel) (ids []flow.EventID) {
		t.Helper()
		k.inherit(t, func(r *flow.Record) { ids = append(ids, r.ID) })
		return ids
	}
	var first []flow.EventID
	for _, cfg := range []Config{small, large} {
		d, err := Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		k := kernel{d}
		first = inherited(k)
		if cfg.MaxFlows == small.MaxFlows {
			k.run(t, kernelProgTcIngress, udp4.Bytes(), nil)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	k := newKernelWith(t, small)
	if records, _ := k.records(t, k.SweepOut); len(records) != 0 {
		t.Errorf("%d records of an entry that there are events of", len(records))
	}
	if again := inherited(k); len(first) != 1 || !slices.Equal(first, again) {
		t.Errorf("inherited %v, and then %v", first, again)
	}
	k.dropFormer(t)
	k.checkPins(t)
}

// TestInheritSampling: what was counted at another rate is not mixed with what is counted now, and carries its own.
func TestInheritSampling(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	old, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel{old}
	k.run(t, kernelProgTcIngress, udp4.Bytes(), nil)
	if records, _ := k.records(t, k.SweepOut); len(records) != 1 || records[0].SamplingRate != 1 {
		t.Errorf("records %+v, want one of the rate 1", records)
	}
	k.run(t, kernelProgTcIngress, udp6.Bytes(), nil)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Sampling = 100
	k = newKernelWith(t, cfg)
	if records, _ := k.records(t, k.SweepOut); len(records) != 0 {
		t.Errorf("records %+v of another rate", records)
	}
	var rates []uint32
	k.inherit(t, func(r *flow.Record) { rates = append(rates, r.SamplingRate) })
	if want := []uint32{1, 1}; !slices.Equal(rates, want) { // in the ring, and in the map
		t.Errorf("inherited records of the rates %d, want %d", rates, want)
	}
}

// TestInheritWhatCanBeRead tells maps of which half is gone, as a process left that was killed while it removed them, from those
// that can be read.
func TestInheritWhatCanBeRead(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	old, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	kernel{old}.run(t, kernelProgTcIngress, udp4.Bytes(), nil)
	generation := old.pins.generation
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	// A map that nothing is read from can be missing: not every version has the same.
	if err := os.Remove(filepath.Join(generation, pinName(kernelMapFragments))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"maps-0000000000000000", "maps-ffffffffffffffff"} {
		if err := os.Mkdir(filepath.Join(cfg.PinDir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cfg.MaxFlows = 2048
	k := newKernelWith(t, cfg)
	n, unreadable := 0, 0
	for _, folder := range k.former(t) {
		if err := k.Inherit(t.Context(), folder, func(*flow.Record) { n++ }); err != nil {
			unreadable++
		} else if err := k.DropFormer(folder); err != nil {
			t.Error(err)
		}
	}
	if n != 1 || unreadable != 2 {
		t.Errorf("inherited %d records, and nothing of %d folders, want 1 and 2", n, unreadable)
	}
	left, err := k.pins.setAside()
	if err != nil || len(left) != 2 {
		t.Errorf("%q are left (%v), want those that cannot be read", left, err)
	}
}

// checkPins wants the folder of pins to hold the links and the maps of this process, and nothing else.
func (k kernel) checkPins(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(k.pins.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{linksFolder, filepath.Base(k.pins.generation), signature}; !slices.Equal(names, want) {
		t.Errorf("folder of pins has %q, want %q", names, want)
	}
}

// TestUnfinishedPins of a process that was killed at its start are in nobody's way.
func TestUnfinishedPins(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	for _, name := range []string{signature, unfinished} {
		if err := os.MkdirAll(filepath.Join(cfg.PinDir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	newKernelWith(t, cfg).checkPins(t)
}

// TestLayout reads a record of another layout by its members' names.
func TestLayout(t *testing.T) {
	type inner struct {
		Gone uint32
		A    uint16
	}
	type theirs struct {
		B     [2]inner
		Name  [4]uint8
		Wider uint32
		C     uint64
	}
	type ourInner struct{ A uint16 }
	type ours struct {
		C     uint64
		New   uint32
		Wider uint64
		Name  [4]uint8
		B     [2]ourInner
	}
	from := theirs{B: [2]inner{{1, 2}, {3, 4}}, Name: [4]uint8{5, 6, 7, 8}, Wider: 9, C: 10}
	l, err := parseLayout(layoutOf(reflect.TypeFor[theirs]()).text())
	if err != nil {
		t.Fatal(err)
	}
	var to ours
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&from)), unsafe.Sizeof(from))
	convert(unsafe.Slice((*byte)(unsafe.Pointer(&to)), unsafe.Sizeof(to)), layoutOf(reflect.TypeFor[ours]()), raw, l)
	if want := (ours{C: 10, Name: [4]uint8{5, 6, 7, 8}, B: [2]ourInner{{2}, {4}}}); to != want {
		t.Errorf("got %+v, want %+v", to, want)
	}
	for _, bad := range []string{"a", "a 1", "a b c", "a -1 2", "\n"} {
		if l, err := parseLayout(bad); err == nil {
			t.Errorf("%q is %v, want an error", bad, l)
		}
	}
}
