package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// attached returns how many programs are on an interface.
func attached(t testing.TB, l *testnet.Link) int {
	t.Helper()
	n := 0
	err := l.Namespace.Do(func() error {
		info, err := netlink.LinkByIndex(l.Index)
		if err != nil {
			return err
		}
		if xdp := info.Attrs().Xdp; xdp != nil && xdp.Attached {
			n++
		}
		for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			programs, err := link.QueryPrograms(link.QueryOptions{Target: l.Index, Attach: side})
			if err != nil {
				return err
			}
			n += len(programs.Programs)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// occupy takes an address in the server's namespace.
func (p pair) occupy(t *testing.T, addr string) {
	t.Helper()
	p.listen(t, addr, func(conn *net.TCPConn) { conn.Close() })
}

// TestBadStart ends within two seconds, with one line that says why, and nothing attached.
func TestBadStart(t *testing.T) {
	for _, row := range []struct {
		name     string
		settings []string
		code     int
		says     []string
	}{
		{"missing interface", []string{"AGENT_INTERFACE=server,nonesuch"}, 1, []string{`"nonesuch"`, "there are"}},
		{"no default route", nil, 1, []string{"interface auto", "default route"}},
		{"bad setting", []string{"AGENT_MAX_FLOWS=many"}, 2, []string{`AGENT_MAX_FLOWS="many"`, "1024"}},
		{"unknown setting", []string{"AGENT_BATCHSIZE=5"}, 2, []string{"AGENT_BATCHSIZE", "AGENT_BATCH_SIZE"}},
		{"metrics address in use", []string{"AGENT_INTERFACE=server", "AGENT_LISTEN=127.0.0.1:9"}, 1, []string{"127.0.0.1:9", "in use"}},
		{"no native XDP", []string{"AGENT_INTERFACE=lo", "AGENT_INGRESS_HOOK=xdp"}, 1, []string{`"lo" ingress`, "xdp"}},
		{"unwritable file", []string{"AGENT_INTERFACE=server", "AGENT_ENDPOINT_URL=file:/nonesuch/events"}, 1, []string{"/nonesuch/events"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPair(t)
			p.occupy(t, "127.0.0.1:9")
			begin := time.Now()
			a := launch(t, p.server, row.settings...)
			a.wait(t, 20*time.Second)
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("it took %s, want at most 2s", took)
			}
			checkFailure(t, a, row.code, row.says)
			if n := attached(t, p.serverLink); n != 0 {
				t.Errorf("%d programs stay attached", n)
			}
		})
	}
}

func checkFailure(t *testing.T, a *agent, code int, says []string) {
	t.Helper()
	if a.exitCode() != code {
		t.Errorf("exit code %d, want %d", a.exitCode(), code)
	}
	var plain []string // what is not a log message
	for line := range strings.Lines(a.stderr.String()) {
		if !strings.HasPrefix(line, "{") {
			plain = append(plain, line)
		}
	}
	if len(plain) != 1 {
		t.Fatalf("printed %q, want one line", plain)
	}
	for _, want := range says {
		if !strings.Contains(plain[0], want) {
			t.Errorf("printed %q, want it to say %q", plain[0], want)
		}
	}
}

// TestNotPermitted says which capabilities are missing.
func TestNotPermitted(t *testing.T) {
	p := newPair(t)
	cmd := exec.Command(binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}}
	a := launchBy(t, p.server, cmd, "AGENT_INTERFACE=server")
	a.wait(t, 20*time.Second)
	checkFailure(t, a, 1, []string{"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"})
}

// TestStopLeavesNothing detaches everything, whatever weir was attached by.
func TestStopLeavesNothing(t *testing.T) {
	for _, hook := range []string{"xdp", "xdp-generic", "tc"} {
		p := newPair(t)
		a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_INGRESS_HOOK="+hook)
		if n := attached(t, p.serverLink); n != 2 {
			t.Errorf("%s: %d programs attached, want 2", hook, n)
		}
		a.terminate(t)
		if n := attached(t, p.serverLink); n != 0 {
			t.Errorf("%s: %d programs stay attached", hook, n)
		}
	}
}

// TestLostInterface goes on with the others when an interface goes away.
func TestLostInterface(t *testing.T) {
	r := newRoad(t)
	a := start(t, r.middle, "AGENT_INTERFACE=entry,exit")
	if err := r.middle.Netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: r.exit.Index}}); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, "the loss is counted", func() bool { return a.metric(t, "weir_interfaces_lost_total") == 1 })
	if n := a.metric(t, `weir_attached_interfaces{hook="ingress",mode="tcx"}`); n != 1 {
		t.Errorf("%.0f interfaces attached, want 1", n)
	}
	r.nearLink.Send(t, testnet.UDP("10.1.0.1:1000", "10.1.0.2:9", 1).MACs(r.nearLink.MAC, r.entry.MAC).Bytes())
	testnet.Eventually(t, "the other interface counts", func() bool {
		return a.metric(t, `weir_seen_packets_total{hook="tc_ingress"}`) == 1
	})
	if !strings.Contains(a.stderr.String(), "an interface went away") {
		t.Errorf("the log does not say so: %s", a.stderr.String())
	}
	a.terminate(t)
}

// TestBrainDown loses no packet to a Brain that is down for a while.
func TestBrainDown(t *testing.T) {
	const flows, packets = 1 << 12, 1 << 16
	r := newRig(t, testnet.Flows{Number: flows}, "AGENT_UDP_IDLE_TIMEOUT=1s", "AGENT_BATCH_FORMAT=array",
		"AGENT_INGRESS_HOOK=xdp")
	r.brain.Stop(t)
	r.generator.Send(t, packets)
	testnet.Eventually(t, "delivery fails", func() bool {
		return r.agent.metric(t, `weir_delivery_retries_total{reason="connection"}`) > 0
	})
	r.brain.Start(t)
	testnet.Eventually(t, "everything is delivered", func() bool { return r.brain.Received() == flows })
	r.agent.terminate(t)
	r.checkFlows(t, flows, "idle")
}

// TestKilledWithASpool loses nothing of what was spooled when weir is killed while the Brain is down; and a stop in that
// state takes no longer than another.
func TestKilledWithASpool(t *testing.T) {
	const flows = 1 << 10
	spool := "AGENT_SPOOL_DIR=" + t.TempDir()
	r := newRig(t, testnet.Flows{Number: flows}, spool, "AGENT_UDP_IDLE_TIMEOUT=0.5", "AGENT_SEND_INTERVAL=0.1",
		"AGENT_BATCH_FORMAT=array", "AGENT_INGRESS_HOOK=xdp")
	r.brain.Stop(t)
	r.generator.Send(t, flows)
	testnet.Eventually(t, "everything is spooled", func() bool { return r.agent.metric(t, "weir_spool_events") == flows })
	if err := r.agent.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.agent.wait(t, 10*time.Second)
	settings := []string{
		spool, "AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL=" + r.brain.URL(), "AGENT_BATCH_FORMAT=array", "AGENT_STOP_TIMEOUT=30s",
	}
	again := start(t, r.agent.namespace, settings...)
	if n := again.metric(t, "weir_recovered_events_total"); n != flows {
		t.Errorf("%.0f events recovered, want %d", n, flows)
	}
	begin := time.Now()
	again.terminate(t)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the stop took %s, want it at once", took)
	}
	r.brain.Start(t)
	again = start(t, r.agent.namespace, settings...)
	testnet.Eventually(t, "everything is delivered", func() bool { return r.brain.Received() == flows })
	again.terminate(t)
}

// TestStopBehindASlowBrain ends in time, and in order, while the collector waits for a Brain that goes on accepting.
func TestStopBehindASlowBrain(t *testing.T) {
	const flows = 1 << 15
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	out, in := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	brain := brainIn(t, far, testbrain.Options{
		OnEvent: func(*testbrain.Event) {},
		Answer:  func(*testbrain.Request) *testbrain.Answer { return &testbrain.Answer{Delay: 300 * time.Millisecond} },
	})
	generator := testnet.NewGenerator(t, out, testnet.Flows{Number: flows})
	a := start(t, far, "AGENT_INTERFACE=in", "AGENT_INGRESS_HOOK=xdp", "AGENT_ENDPOINT_URL="+brain.URL(),
		"AGENT_UDP_IDLE_TIMEOUT=0.5", "AGENT_QUEUE_MAX_BYTES=1MiB", "AGENT_STOP_TIMEOUT=2s")
	generator.Send(t, flows)
	brain.WaitFor(t, 1, 20*time.Second) // the queue was full long before
	begin := time.Now()
	a.terminate(t)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the stop took %s, want about 2s", took)
	}
	for _, want := range []string{"stopped with events undelivered", `"msg":"stopped"`} {
		if !strings.Contains(a.stderr.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if n := attached(t, in); n != 0 {
		t.Errorf("%d programs stay attached", n)
	}
}

// TestSecondSignal ends a stop at once, and says what that costs, unless it comes with the first one.
func TestSecondSignal(t *testing.T) {
	const flows = 1 << 10
	silence := testbrain.Options{Answer: func(*testbrain.Request) *testbrain.Answer {
		return &testbrain.Answer{Delay: time.Hour}
	}}
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	out, in := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	generator := testnet.NewGenerator(t, out, testnet.Flows{Number: flows})
	a := start(t, far, "AGENT_INTERFACE=in", "AGENT_INGRESS_HOOK=xdp", "AGENT_ENDPOINT_URL="+brainIn(t, far, silence).URL(),
		"AGENT_UDP_IDLE_TIMEOUT=0.5", "AGENT_STOP_TIMEOUT=10m")
	generator.Send(t, flows)
	testnet.Eventually(t, "all events wait", func() bool { return a.metric(t, "weir_delivery_queue_events") == flows })
	begin := time.Now()
	for _, row := range []struct {
		signals int
		until   string
	}{{2, "delivering what is left"}, {1, "ended without delivering"}} {
		for range row.signals {
			if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		testnet.Eventually(t, row.until, func() bool { return strings.Contains(a.stderr.String(), row.until) })
		testnet.Eventually(t, "a second has passed", func() bool { return time.Since(begin) > time.Second })
	}
	a.wait(t, 10*time.Second)
	if want := fmt.Sprintf(`"events_lost":%d,"events_kept_in_spool":0,"flows_left":0,"flows_pinned":false`, flows); a.exitCode() != 1 ||
		!strings.Contains(a.stderr.String(), want) {
		t.Errorf("exit code %d, the log does not say %s", a.exitCode(), want)
	}
	if n := attached(t, in); n != 0 {
		t.Errorf("%d programs stay attached", n)
	}
}

// TestAutoFormat works with a Brain that takes one event at a time, and with one that takes arrays.
func TestAutoFormat(t *testing.T) {
	const flows = 64
	for _, single := range []bool{true, false} {
		near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
		out, _ := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
		generator := testnet.NewGenerator(t, out, testnet.Flows{Number: flows})
		brain := brainIn(t, far, testbrain.Options{Single: single})
		a := start(t, far, "AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_UDP_IDLE_TIMEOUT=0.5",
			"AGENT_INGRESS_HOOK=xdp")
		generator.Send(t, flows)
		a.terminate(t)
		if n := brain.Received(); n != flows {
			t.Errorf("single %t: %d events, want %d", single, n, flows)
		}
		requests := len(brain.Requests())
		if single && requests != flows+1 || !single && requests != 1 {
			t.Errorf("single %t: %d requests for %d events", single, requests, flows)
		}
		if n := brain.Connections(); n != 1 {
			t.Errorf("single %t: %d connections, want one that is kept alive", single, n)
		}
	}
}

// TestConnectionShape reports both directions in one event, to standard output.
func TestConnectionShape(t *testing.T) {
	p := newPair(t)
	a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_FLOW_SHAPE=connection")
	client, err := p.exchange(p.listen(t, "10.9.0.2:0", answerShorter), 1000)
	if err != nil {
		t.Fatal(err)
	}
	a.terminate(t)
	lines := strings.Split(strings.TrimSuffix(a.stdout.String(), "\n"), "\n")
	if len(lines) != 1 {
		t.Fatalf("printed %q, want one event", lines)
	}
	for _, want := range []string{`"flow_id":"` + client + "-", `"initiator":true`, `"reverse_packet_count":`, `"end_reason":"fin"`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("event %s, want it to have %s", lines[0], want)
		}
	}
}
