package datapath

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// Verdicts: XDP_PASS, and TC_ACT_UNSPEC, which lets the next program decide.
const (
	xdpPass = 2
	tcNext  = 0xffffffff
)

// skb is struct __sk_buff (linux/bpf.h) up to its end; what a test may set is named.
type skb struct {
	_       [160]byte
	WireLen uint32
	GSOSegs uint32
	_       [8]byte
	GSOSize uint32
	_       [12]byte
}

// kernel is a loaded datapath that tests feed frames.
type kernel struct {
	*Datapath
}

func newKernel(t testing.TB, maxFlows uint32) kernel {
	t.Helper()
	return newKernelWith(t, Config{MaxFlows: maxFlows, Sampling: 1})
}

func newKernelWith(t testing.TB, cfg Config) kernel {
	t.Helper()
	testnet.NeedRoot(t)
	d, err := Load(cfg)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		testnet.Unavailable(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return kernel{d}
}

// veth returns the ends of a veth pair, each in a namespace of its own.
func veth(t testing.TB) (out, in *testnet.Link) {
	t.Helper()
	return testnet.Veth(t,
		testnet.End{Namespace: testnet.NewNamespace(t), Name: "out"},
		testnet.End{Namespace: testnet.NewNamespace(t), Name: "in"})
}

// attach attaches the ingress side to a link until the test ends.
func (k kernel) attach(t testing.TB, l *testnet.Link, hook IngressHook) *Attachment {
	t.Helper()
	return k.attachWith(t, l, func() (*Attachment, error) { return k.AttachIngress(netInterface(l), hook) })
}

// attachWith attaches in a link's namespace, until the test ends.
func (k kernel) attachWith(t testing.TB, l *testnet.Link, attach func() (*Attachment, error)) *Attachment {
	t.Helper()
	var at *Attachment
	err := l.Namespace.Do(func() (err error) {
		at, err = attach()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Namespace.Do(at.Close); err != nil {
			t.Error(err)
		}
	})
	return at
}

func netInterface(l *testnet.Link) net.Interface { return net.Interface{Index: l.Index, Name: l.Name} }

// run passes a frame through the program of a hook, and fails the test unless the verdict is to pass it on, unchanged.
func (k kernel) run(t testing.TB, hook string, frame []byte, meta *skb) {
	t.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
	if meta != nil {
		opts.Context = meta
	}
	verdict, err := k.coll.Programs[hook].Run(&opts)
	if err != nil {
		t.Fatalf("run %s: %v", hook, err)
	}
	want := uint32(tcNext)
	if hook == kernelProgXdpIngress {
		want = xdpPass
	}
	if verdict != want {
		t.Errorf("%s: verdict %d, want %d", hook, int32(verdict), int32(want))
	}
	if string(opts.DataOut) != string(frame) {
		t.Errorf("%s changed the frame to %x", hook, opts.DataOut)
	}
}

func (k kernel) ledger(t testing.TB) flow.Ledger {
	t.Helper()
	l, err := k.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// records sweeps and returns everything that was handed over.
func (k kernel) records(t testing.TB, walk func() (flow.Resident, bool, error)) ([]flow.Record, flow.Resident) {
	t.Helper()
	var all []flow.Record
	for {
		resident, whole, err := walk()
		if err != nil {
			t.Fatal(err)
		}
		read, err := k.ReadRecords(func(r *flow.Record) { all = append(all, *r) })
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			return all, resident
		}
		if read == 0 {
			t.Fatal("the ring of records is full and empty")
		}
	}
}

func (k kernel) closed(t testing.TB) []flow.Closing {
	t.Helper()
	var all []flow.Closing
	if err := k.ReadClosed(func(c flow.Closing) { all = append(all, c) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// since returns what a ledger gained, in what hooks saw, in fates and in inserts.
func since(now, before flow.Ledger) flow.Ledger {
	less := func(a, b flow.Counter) flow.Counter {
		return flow.Counter{Packets: a.Packets - b.Packets, Bytes: a.Bytes - b.Bytes}
	}
	now.Seen, now.Uncounted = maps.Clone(now.Seen), maps.Clone(now.Uncounted)
	for hook, c := range now.Seen {
		now.Seen[hook] = less(c, before.Seen[hook])
	}
	for reason, c := range now.Uncounted {
		now.Uncounted[reason] = less(c, before.Uncounted[reason])
	}
	now.Counted = less(now.Counted, before.Counted)
	now.Inserts -= before.Inserts
	return now
}

// checkLedger compares every counter of the ledger, but for those that say how full the rings were.
func checkLedger(t testing.TB, got flow.Ledger, hook string, seen flow.Counter, fates map[string]flow.Counter) {
	t.Helper()
	for name, c := range got.Seen {
		want := flow.Counter{}
		if name == hook {
			want = seen
		}
		if c != want {
			t.Errorf("seen by %s: %+v, want %+v", name, c, want)
		}
	}
	for reason, c := range got.Uncounted {
		if c != fates[reason] {
			t.Errorf("uncounted for %s: %+v, want %+v", reason, c, fates[reason])
		}
	}
	if got.Counted != fates["counted"] {
		t.Errorf("counted: %+v, want %+v", got.Counted, fates["counted"])
	}
}

func now() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// key returns the canonical key of a connection and which of its ends src is.
func key(src, dst string, protocol uint8) (flow.Key, int) {
	a, b := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	from := 0
	if a.Addr().As16() != b.Addr().As16() {
		if b.Addr().Less(a.Addr()) {
			from = 1
		}
	} else if b.Port() < a.Port() {
		from = 1
	}
	ends := [2]netip.AddrPort{a, b}
	if from == 1 {
		ends = [2]netip.AddrPort{b, a}
	}
	return flow.Key{Ends: ends, Protocol: protocol}, from
}
