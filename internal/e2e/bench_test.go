package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/testnet"
)

// BenchmarkHandOver prints what it costs the agent to make events of 1,048,576 flows that are idle at once, and to deliver them
// in gzip'ed arrays to a Brain that takes them: its processor time for each, with the sweeps that hand them over and without,
// and the most memory that it has resident.
func BenchmarkHandOver(b *testing.B) {
	const flows = 1 << 20
	for range b.N {
		p := newCourse(b, "in")
		brain := newCounter(b, p.far)
		a := start(b, p.far, "AGENT_INTERFACE=in", "AGENT_INGRESS_HOOK=xdp", "AGENT_ENDPOINT_URL="+brain.url,
			"AGENT_COMPRESSION=gzip", "AGENT_MAX_FLOWS="+fmt.Sprint(2*flows), "AGENT_UDP_IDLE_TIMEOUT=3s")
		g := testnet.NewGenerator(b, p.out, testnet.Flows{Number: flows})
		before := a.processorTime(b)
		g.Send(b, flows)
		testnet.Eventually(b, "everything is delivered", func() bool { return brain.received() == flows })
		took := a.processorTime(b) - before
		b.ReportMetric(float64(took.Microseconds())/flows, "µs/event")
		b.ReportMetric(float64((took-a.sweeping(b)).Microseconds())/flows, "µs/event-but-sweeps")
		b.ReportMetric(a.peakMemory(b), "peak-MB")
		b.ReportMetric(0, "ns/op")
		a.terminate(b)
	}
}

// BenchmarkResident prints what share of one CPU the agent takes while a million packets a second come of 131,072 flows, none
// of which is due.
func BenchmarkResident(b *testing.B) {
	const flows, rate, lasts = 1 << 17, 1_000_000, 10 * time.Second
	for range b.N {
		p := newCourse(b, "in")
		brain := newCounter(b, p.far)
		a := start(b, p.far, "AGENT_INTERFACE=in", "AGENT_INGRESS_HOOK=xdp", "AGENT_ENDPOINT_URL="+brain.url,
			"AGENT_UDP_IDLE_TIMEOUT=10m", "AGENT_ACTIVE_TIMEOUT=10m")
		g := testnet.NewGenerator(b, p.out, testnet.Flows{Number: flows, Shuffled: true})
		begin, before := time.Now(), a.processorTime(b)
		sendAt(b, g, rate, after(lasts))
		took := time.Since(begin)
		b.ReportMetric(100*float64(a.processorTime(b)-before)/float64(took), "%-of-a-CPU")
		sent, _ := g.Sent()
		b.ReportMetric(float64(sent)/took.Seconds()/1e6, "Mpps")
		b.ReportMetric(0, "ns/op")
		a.terminate(b)
	}
}

// BenchmarkFullRate sends frames of 1,048,576 flows on two CPUs, as fast as they go, and prints how fast that was, and what
// was not accounted for or evicted.
func BenchmarkFullRate(b *testing.B) {
	const flows, packets = 1 << 20, 20_000_000
	for range b.N {
		first := newCourse(b, "in0")
		second := first.another(b, "in1")
		brain := newCounter(b, first.far)
		a := start(b, first.far, "AGENT_INTERFACE=in*", "AGENT_INGRESS_HOOK=xdp", "AGENT_ENDPOINT_URL="+brain.url,
			"AGENT_MAX_FLOWS="+fmt.Sprint(2*flows), "AGENT_UDP_IDLE_TIMEOUT=10m")
		generators := [2]*testnet.Generator{
			testnet.NewGenerator(b, first.out, testnet.Flows{Number: flows / 2, Shuffled: true}),
			testnet.NewGenerator(b, second, testnet.Flows{
				Number: flows / 2, Shuffled: true, CPU: 1, Src: netip.MustParseAddr("10.1.0.1"),
			}),
		}
		begin := time.Now()
		var sending sync.WaitGroup
		for _, g := range generators {
			sending.Go(func() { g.Send(b, packets/2) })
		}
		sending.Wait()
		b.ReportMetric(packets/time.Since(begin).Seconds()/1e6, "Mpps")
		a.terminate(b) // which delivers everything
		brain.check(b, packets, packets*frameLen(generators[0]))
		b.ReportMetric(packets-float64(brain.packets), "packets-missing")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkPingPong prints how long one datagram takes over a veth pair and its answer back, without an agent and with one: half
// of them no longer than p50, of a hundred 99 no longer than p99.
func BenchmarkPingPong(b *testing.B) {
	settings := []string{"AGENT_INTERFACE=in", "AGENT_UDP_IDLE_TIMEOUT=10m", "AGENT_MAX_FLOWS=2097152"}
	b.Run("without", func(b *testing.B) { newCourse(b, "in").pingPong(b) })
	b.Run("tc", func(b *testing.B) {
		p := newCourse(b, "in")
		start(b, p.far, append(settings, "AGENT_INGRESS_HOOK=tc")...)
		p.pingPong(b)
	})
	b.Run("tc with 1048576 flows", func(b *testing.B) {
		p := newCourse(b, "in")
		a := start(b, p.far, append(settings, "AGENT_INGRESS_HOOK=tc")...)
		testnet.NewGenerator(b, p.out, testnet.Flows{Number: 1 << 20}).Send(b, 1<<20)
		testnet.Eventually(b, "a sweep has found them", func() bool {
			return a.metric(b, "weir_resident_flows") == 1<<20
		})
		p.pingPong(b)
	})
}

// course is a veth pair between two namespaces, with an agent in the far one.
type course struct {
	near, far *testnet.Namespace
	out       *testnet.Link
}

func newCourse(b *testing.B, in string) *course {
	b.Helper()
	p := &course{near: testnet.NewNamespace(b), far: testnet.NewNamespace(b)}
	p.out, _ = testnet.Veth(b,
		testnet.End{Namespace: p.near, Name: "out", Addrs: []string{"198.18.0.1/30"}},
		testnet.End{Namespace: p.far, Name: in, Addrs: []string{"198.18.0.2/30"}})
	return p
}

// another adds a second veth pair, and returns the near end.
func (p *course) another(b *testing.B, in string) *testnet.Link {
	b.Helper()
	out, _ := testnet.Veth(b, testnet.End{Namespace: p.near, Name: "out2"}, testnet.End{Namespace: p.far, Name: in})
	return out
}

func (p *course) pingPong(b *testing.B) {
	const rounds = 50_000
	listen := func(n *testnet.Namespace, addr string) (conn net.PacketConn) {
		err := n.Do(func() (err error) {
			conn, err = net.ListenPacket("udp", addr)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		return conn
	}
	answering, asking := listen(p.far, "198.18.0.2:7"), listen(p.near, "198.18.0.1:0")
	go func() {
		var datagram [64]byte
		for {
			n, from, err := answering.ReadFrom(datagram[:])
			if err != nil {
				return
			}
			_, _ = answering.WriteTo(datagram[:n], from)
		}
	}()
	took := make([]time.Duration, rounds)
	var datagram [64]byte
	for i := range took {
		begin := time.Now()
		if _, err := asking.WriteTo(datagram[:], answering.LocalAddr()); err != nil {
			b.Fatal(err)
		}
		if _, _, err := asking.ReadFrom(datagram[:]); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[rounds/2])/1e3, "p50-µs")
	b.ReportMetric(float64(took[rounds*99/100])/1e3, "p99-µs")
	b.ReportMetric(float64(took[rounds-1])/1e3, "longest-µs")
	b.ReportMetric(0, "ns/op")
}

// sender sends packets, or what it makes of them.
type sender interface{ Send(t testing.TB, n uint64) }

// sendAt sends so many a second until enough says that it is time. If the machine is too busy, there are fewer: no more than
// those of a second come at once.
func sendAt(t testing.TB, g sender, rate uint64, enough func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin, sent := time.Now(), uint64(0)
	for !enough() {
		now := <-tick.C
		if now.Sub(begin) > 2*time.Minute {
			t.Fatalf("sent for %s, and it was not enough", now.Sub(begin))
		}
		if due := rate * uint64(now.Sub(begin)) / uint64(time.Second); due > sent {
			g.Send(t, min(due-sent, rate))
			sent = due
		}
	}
}

// frameLen returns the bytes of each of a generator's frames.
func frameLen(g *testnet.Generator) uint64 {
	frames, bytes := g.Sent()
	return bytes / frames
}

// processorTime returns what the agent has used, in the kernel and outside: proc_pid_stat(5), good to a hundredth of a second.
func (a *agent) processorTime(t testing.TB) time.Duration {
	t.Helper()
	stat := a.proc(t, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // from the third on
	var ticks uint64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// sweeping returns how long the agent has been in the kernel to walk the map.
func (a *agent) sweeping(t testing.TB) time.Duration {
	t.Helper()
	_, text, err := a.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var seconds float64
	_, after, _ := strings.Cut(text, "\nweir_sweep_duration_seconds_sum ")
	if _, err := fmt.Fscan(strings.NewReader(after), &seconds); err != nil {
		t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// peakMemory returns the most that the agent has had resident, in megabytes: VmHWM in proc_pid_status(5).
func (a *agent) peakMemory(t testing.TB) float64 {
	t.Helper()
	_, after, _ := strings.Cut(a.proc(t, "status"), "VmHWM:")
	var kib float64
	if _, err := fmt.Fscan(strings.NewReader(after), &kib); err != nil {
		t.Fatal(err)
	}
	return kib * 1024 / 1e6
}

// proc reads a file of the agent's folder in /proc.
func (a *agent) proc(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", a.cmd.Process.Pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
