package e2e

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// total sums the series of a metric.
func (a *agent) total(t *testing.T, name, label string, values ...string) (n uint64) {
	t.Helper()
	for _, value := range values {
		n += uint64(a.metric(t, fmt.Sprintf("%s{%s=%q}", name, label, value)))
	}
	return n
}

func (a *agent) seen(t *testing.T) uint64 {
	t.Helper()
	return a.total(t, "weir_seen_packets_total", "hook", "xdp_ingress", "tc_ingress", "tc_egress")
}

// uncounted is how many packets or bytes were seen and not counted.
func (a *agent) uncounted(t *testing.T, unit string) uint64 {
	t.Helper()
	return a.total(t, "weir_uncounted_"+unit+"_total", "reason", "not_ip", "truncated", "malformed", "unsupported",
		"not_sampled", "duplicate", "no_memory", "expiring")
}

// waitAttached waits until both sides of so many interfaces are, by TCX.
func (a *agent) waitAttached(t *testing.T, interfaces int) {
	t.Helper()
	testnet.Eventually(t, fmt.Sprintf("%d interfaces are attached", interfaces), func() bool {
		return a.metric(t, `weir_attached_interfaces{hook="ingress",mode="tcx"}`) == float64(interfaces) &&
			a.metric(t, `weir_attached_interfaces{hook="egress",mode="tcx"}`) == float64(interfaces)
	})
}

// checkLedger waits until every flow has been handed over, and has the books balance.
func (a *agent) checkLedger(t *testing.T) {
	t.Helper()
	testnet.Eventually(t, "the map is empty", func() bool {
		return a.metric(t, "weir_exported_packets_total") == a.metric(t, "weir_counted_packets_total") &&
			a.metric(t, "weir_resident_flows") == 0
	})
	counted, uncounted := uint64(a.metric(t, "weir_counted_packets_total")), a.uncounted(t, "packets")
	if seen := a.seen(t); seen != counted+uncounted {
		t.Errorf("%d packets seen, %d counted and %d not", seen, counted, uncounted)
	}
	if n := a.metric(t, "weir_unaccounted_packets"); n != 0 {
		t.Errorf("%v packets unaccounted", n)
	}
}

// load sends datagrams out of whichever interface index says, again and again, until the function that it returns is called.
func load(t *testing.T, from *testnet.Namespace, index *atomic.Int64) (stop func()) {
	t.Helper()
	frame := testnet.UDP("10.0.0.1:7", "192.0.2.1:7", 10).Bytes()
	var fd int
	err := from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var stopped atomic.Bool
	var sending sync.WaitGroup
	sending.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			for range 10 { // an interface that is not there is an error, as it should be
				_ = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: int(index.Load())})
			}
			if stopped.Load() {
				return
			}
		}
	})
	return func() {
		stopped.Store(true)
		sending.Wait()
		unix.Close(fd)
	}
}

// TestRecreatedUnderLoad deletes an interface and makes it again while packets come. What is sent while it is attached is
// counted to the packet, and the ledger is even in the end.
func TestRecreatedUnderLoad(t *testing.T) {
	const flows, packets, rounds = 1 << 10, 20_000, 2
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	var index atomic.Int64
	create := func() *testnet.Link {
		out, _ := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
		index.Store(int64(out.Index))
		return out
	}
	create()
	sum := &tally{byFlow: map[string]int64{}, events: map[string]int{}}
	brain := brainIn(t, far, testbrain.Options{OnEvent: sum.add})
	a := start(t, far, "AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.2", "AGENT_UDP_IDLE_TIMEOUT=1s")
	for round := range rounds {
		before := a.seen(t)
		stop := load(t, near, &index)
		testnet.Eventually(t, "the load is seen", func() bool { return a.seen(t) > before })
		if err := near.Netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "out"}}); err != nil {
			t.Fatal(err)
		}
		out := create()
		testnet.Eventually(t, "the new one is attached", func() bool {
			return a.metric(t, "weir_interfaces_lost_total") == float64(round+1)
		})
		a.waitAttached(t, 1)
		stop()
		before = a.seen(t)
		// Other flows each time: for a second, those of the old interface would pass for duplicates.
		src := netip.AddrFrom4([4]byte{10, byte(round + 1), 0, 1})
		testnet.NewGenerator(t, out, testnet.Flows{Number: flows, Src: src}).Send(t, packets)
		testnet.Eventually(t, "what was sent is seen", func() bool { return a.seen(t) >= before+packets })
		if seen := a.seen(t) - before; seen != packets {
			t.Errorf("%d packets seen, %d sent while attached", seen, packets)
		}
	}
	a.checkLedger(t)
	a.terminate(t)
	sent := sum.packets - sum.byFlow["10.0.0.1:7-192.0.2.1:7-UDP"]
	if len(sum.byFlow) != rounds*flows+1 || sent != rounds*packets {
		t.Errorf("events of %d flows and %d packets, want %d and %d", len(sum.byFlow)-1, sent, rounds*flows, rounds*packets)
	}
}

// TestManyInterfaces: twenty interfaces come, are counted, and go.
func TestManyInterfaces(t *testing.T) {
	const interfaces = 20
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	a := start(t, far, "AGENT_INTERFACE=in*", "AGENT_UDP_IDLE_TIMEOUT=1s")
	var links []*testnet.Link
	for i := range interfaces {
		out, _ := testnet.Veth(t,
			testnet.End{Namespace: near, Name: fmt.Sprint("out", i)}, testnet.End{Namespace: far, Name: fmt.Sprint("in", i)})
		links = append(links, out)
	}
	a.waitAttached(t, interfaces+1)
	for i, out := range links {
		out.Send(t, testnet.UDP(fmt.Sprintf("10.0.0.%d:1", i), "192.0.2.1:9", 10).Bytes())
	}
	testnet.Eventually(t, "each has counted a packet", func() bool { return a.seen(t) == interfaces })
	for _, out := range links {
		if err := near.Netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: out.Index}}); err != nil {
			t.Fatal(err)
		}
	}
	a.waitAttached(t, 1)
	if n := a.metric(t, "weir_interfaces_lost_total"); n != interfaces {
		t.Errorf("%v interfaces lost, want %d", n, interfaces)
	}
	a.checkLedger(t)
	a.terminate(t)
	for i := range interfaces {
		if name := fmt.Sprintf(`"interface":"in%d"`, i); strings.Count(a.stdout.String(), name) != 1 {
			t.Errorf("%d events have %s, want 1", strings.Count(a.stdout.String(), name), name)
		}
	}
}

// TestNetworkNamespaces keeps equal flows of three namespaces apart: weir's own, one named by its path, and one that appears
// under a glob and goes away.
func TestNetworkNamespaces(t *testing.T) {
	dir := t.TempDir()
	paths := []string{"", filepath.Join(dir, "blue"), filepath.Join(dir, "glob-green")}
	var outs []*testnet.Link
	var namespaces []*testnet.Namespace
	for range paths {
		n := testnet.NewNamespace(t)
		out, _ := testnet.Veth(t, testnet.End{Namespace: testnet.NewNamespace(t), Name: "out"}, testnet.End{Namespace: n, Name: "in"})
		outs, namespaces = append(outs, out), append(namespaces, n)
	}
	testnet.Veth(t, testnet.End{Namespace: namespaces[1], Name: "x", Addrs: []string{"10.0.0.2/24"}},
		testnet.End{Namespace: testnet.NewNamespace(t), Name: "x"})
	namespaces[1].Bind(t, paths[1])
	brain := brainIn(t, namespaces[0], testbrain.Options{})
	a := start(t, namespaces[0], "AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL="+brain.URL(),
		"AGENT_NETNS="+paths[1]+", "+filepath.Join(dir, "glob-*"))
	a.waitAttached(t, 2)
	namespaces[2].Bind(t, paths[2])
	a.waitAttached(t, 3)
	_, ready, err := a.get("/readyz")
	if want := fmt.Sprintf("attach %q ingress in %q", "in", paths[2]); err != nil || !strings.Contains(ready, want) {
		t.Errorf("/readyz says %s, %v, want it to have %s", ready, err, want)
	}
	frame := testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 10).Bytes()
	for i, out := range outs {
		for range i + 1 {
			out.Send(t, frame)
		}
	}
	testnet.Eventually(t, "all are seen", func() bool { return a.seen(t) == 1+2+3 })
	testnet.Unbind(t, paths[2])
	a.waitAttached(t, 2)
	testnet.Eventually(t, "one is watched beside weir's own", func() bool { return a.metric(t, "weir_watched_namespaces") == 1 })
	a.terminate(t)
	got := map[string]string{}
	for _, e := range brain.Events() {
		got[e.Netns] = fmt.Sprintf("%s %d %s %s", e.FlowID, e.PacketCount, e.Interface, e.Direction)
	}
	for i, path := range paths {
		direction := "unknown"
		if i == 1 {
			direction = "inbound"
		}
		if want := fmt.Sprintf("10.0.0.1:1-10.0.0.2:2-UDP %d in %s", i+1, direction); got[path] != want {
			t.Errorf("in namespace %q %q, want %q", path, got[path], want)
		}
	}
	if brain.Received() != len(paths) {
		t.Errorf("%d events, want %d", brain.Received(), len(paths))
	}
}

const nobodyID = 65534

// nobody runs a process as nobody, with the three capabilities that weir needs.
func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobodyID, Gid: nobodyID},
		AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON},
	}
}

// TestNamespaceFailures end the start with an error that says why.
func TestNamespaceFailures(t *testing.T) {
	p := newPair(t)
	a := launch(t, p.server, "AGENT_INTERFACE=server", "AGENT_NETNS=/run/netns/nonesuch")
	a.wait(t, 20*time.Second)
	checkFailure(t, a, 1, []string{`network namespace "/run/netns/nonesuch": no such file or directory`})

	cmd := exec.Command(binary)
	cmd.SysProcAttr = nobody()
	a = launchBy(t, p.server, cmd, "AGENT_INTERFACE=server", "AGENT_NETNS="+t.TempDir()+"/*")
	a.wait(t, 20*time.Second)
	checkFailure(t, a, 1, []string{"AGENT_NETNS", "not permitted, for lack of CAP_SYS_ADMIN"})

	cmd = exec.Command(binary)
	cmd.SysProcAttr = nobody()
	a = launchBy(t, p.server, cmd, "AGENT_INTERFACE=server", "AGENT_NETNS=/proc/1/ns/net")
	a.wait(t, 20*time.Second)
	checkFailure(t, a, 1, []string{`network namespace "/proc/1/ns/net": permission denied`, "CAP_SYS_PTRACE"})
}

// tools show what is attached in a namespace.
func tools(t *testing.T, namespace *testnet.Namespace) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{
		"bpftool net", "tc qdisc show", "tc filter show dev tc ingress", "tc filter show dev tc egress",
		"tc filter show dev plain ingress", "ip -d -o link show dev plain", "ip -o link show dev xdp",
	} {
		words := strings.Fields(command)
		cmd := exec.Command(words[0], words[1:]...)
		var out []byte
		err := namespace.Do(func() (err error) {
			out, err = cmd.CombinedOutput()
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		fmt.Fprintf(&all, "%s:\n%s", command, out)
	}
	return all.String()
}

// verdict returns a program that gives always the same.
func verdict(t *testing.T, kind ebpf.ProgramType, is int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, is), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// attachTheirs attaches to the links "tc", "tcx" and "xdp", by each of these ways, in the calling thread's namespace.
func attachTheirs(t *testing.T, links map[string]*testnet.Link) error {
	qdisc := netlink.QdiscAttrs{LinkIndex: links["tc"].Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: qdisc}); err != nil {
		return err
	}
	classifier := verdict(t, ebpf.SchedCLS, -1)
	err := netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: links["tc"].Index, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: 7,
		},
		Fd: classifier.FD(), Name: "theirs", DirectAction: true,
	})
	if err != nil {
		return err
	}
	theirs, err := link.AttachTCX(link.TCXOptions{
		Program: classifier, Interface: links["tcx"].Index, Attach: ebpf.AttachTCXIngress,
	})
	if err != nil {
		return err
	}
	t.Cleanup(func() { theirs.Close() })
	xdp := verdict(t, ebpf.XDP, 2)
	return netlink.LinkSetXdpFd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: links["xdp"].Index}}, xdp.FD())
}

// TestOthersStay: what others have attached is there while weir counts, works, and is the same when it has stopped.
func TestOthersStay(t *testing.T) {
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	links := map[string]*testnet.Link{}
	for _, name := range []string{"plain", "tc", "tcx", "xdp"} {
		_, links[name] = testnet.Veth(t, testnet.End{Namespace: near, Name: name}, testnet.End{Namespace: far, Name: name})
	}
	if err := far.Do(func() error { return attachTheirs(t, links) }); err != nil {
		t.Fatal(err)
	}
	before := tools(t, far)
	for _, want := range []string{"theirs", "clsact", "xdp"} {
		if !strings.Contains(before, want) {
			t.Fatalf("before the start, nothing shows %q:\n%s", want, before)
		}
	}
	a := start(t, far, "AGENT_INTERFACE=*")
	a.waitAttached(t, len(links)+1) // and lo
	if n := attached(t, links["tcx"]); n != 3 {
		t.Errorf("%d programs beside somebody else's, want 3", n)
	}
	a.terminate(t)
	if after := tools(t, far); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if n := attached(t, links["tcx"]); n != 1 {
		t.Errorf("%d programs left, want the one of somebody else", n)
	}
}

// TestXDPInsisted: where XDP was asked for and is not possible, weir does not start, and says why.
func TestXDPInsisted(t *testing.T) {
	n := testnet.NewNamespace(t)
	testnet.NewTun(t, n, "tun", "10.0.0.1/24")
	a := launch(t, n, "AGENT_INTERFACE=tun", "AGENT_INGRESS_HOOK=xdp")
	a.wait(t, 20*time.Second)
	checkFailure(t, a, 1, []string{`attach to "tun" ingress: xdp: not on an interface without Ethernet headers (the ingress hook auto takes what works)`})
}
