package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"weir/internal/testnet"
)

// lives are agents that run one after the other, on the same pins and the same spool, while packets come.
type lives struct {
	*counter
	far      *testnet.Namespace
	out, in  *testnet.Link
	pins     string
	settings []string
	current  *agent

	generators []*testnet.Generator  // the last one sends
	kernel     map[kernelObject]bool // what was seen to be loaded
}

func newLives(t *testing.T, settings ...string) *lives {
	t.Helper()
	l := &lives{far: testnet.NewNamespace(t), kernel: map[kernelObject]bool{}}
	l.out, l.in = testnet.Veth(t, testnet.End{Namespace: testnet.NewNamespace(t), Name: "out"}, testnet.End{Namespace: l.far, Name: "in"})
	l.counter = newCounter(t, l.far)
	dir, spool := testnet.BPFFS(t), t.TempDir()
	err := errors.Join(os.Chown(dir, nobodyID, nobodyID), os.Chown(spool, nobodyID, nobodyID), os.Chmod(filepath.Dir(dir), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	l.pins = filepath.Join(dir, "weir")
	l.settings = append([]string{
		"AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL=" + l.url, "AGENT_SEND_INTERVAL=0.2", "AGENT_PIN_DIR=" + l.pins,
		"AGENT_SPOOL_DIR=" + filepath.Join(spool, "spool"), "AGENT_UDP_IDLE_TIMEOUT=1s", "AGENT_ACTIVE_TIMEOUT=0.3s",
	}, settings...)
	return l
}

// begin starts an agent, as nobody with the three capabilities, and does not wait for anything.
func (l *lives) begin(t *testing.T, settings ...string) {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.SysProcAttr = nobody()
	l.current = launchBy(t, l.far, cmd, append(l.settings, settings...)...)
}

// ready waits until it is.
func (l *lives) ready(t *testing.T) {
	t.Helper()
	l.current.ready(t)
	l.note(t)
}

// kill ends the agent as nobody should.
func (l *lives) kill(t *testing.T) {
	t.Helper()
	if err := l.current.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	l.current.wait(t, 10*time.Second)
}

// flows has what is sent from now on be of new flows, so that the ones before end, and no packet meets the end of its own.
func (l *lives) flows(t *testing.T, number int) *testnet.Generator {
	t.Helper()
	n := len(l.generators)
	src := netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1})
	g := testnet.NewGenerator(t, l.out, testnet.Flows{Number: number, Src: src})
	l.generators = append(l.generators, g)
	return g
}

// sent returns how many packets and bytes were.
func (l *lives) sent() (packets, bytes uint64) {
	for _, g := range l.generators {
		p, b := g.Sent()
		packets, bytes = packets+p, bytes+b
	}
	return packets, bytes
}

// send sends so many packets a second until enough says that it is time.
func (l *lives) send(t *testing.T, rate uint64, enough func() bool) {
	t.Helper()
	sendAt(t, l.generators[len(l.generators)-1], rate, enough)
}

// after is true from then on.
func after(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().After(end) }
}

// finish waits until a last agent has handed over and delivered everything, ends it and removes what it leaves in the kernel.
// Nothing may be missing then.
func (l *lives) finish(t *testing.T) {
	t.Helper()
	l.begin(t)
	l.ready(t)
	a := l.current
	testnet.Eventually(t, "what others counted is taken over", func() bool {
		left, err := filepath.Glob(filepath.Join(l.pins, "aside-*"))
		return err == nil && len(left) == 0
	})
	a.checkLedger(t)
	testnet.Eventually(t, "everything is delivered", func() bool { return a.metric(t, "weir_delivery_queue_events") == 0 })
	for _, name := range []string{
		"weir_flow_evictions_total", "weir_unaccounted_bytes", "weir_spool_damaged_events_total",
		`weir_uncounted_packets_total{reason="expiring"}`, `weir_dropped_events_total{reason="spool_full"}`,
	} {
		if n := a.metric(t, name); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	a.terminate(t)
	l.unpin(t)
	packets, bytes := l.sent()
	l.check(t, packets, bytes)
}

// unpin runs `weir unpin`, which leaves nothing.
func (l *lives) unpin(t *testing.T) {
	t.Helper()
	cmd := exec.Command(binary, "unpin", "--pin-dir", l.pins)
	cmd.SysProcAttr = nobody()
	if err := l.far.Do(func() error {
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.pins); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of pins is still there (%v)", err)
	}
	if n := attached(t, l.in); n != 0 {
		t.Errorf("%d programs are still attached", n)
	}
	if len(l.kernel) == 0 {
		t.Error("nothing was ever loaded")
	}
	testnet.Eventually(t, "the kernel has freed everything", func() bool {
		for object := range l.kernel {
			if object.exists(t) {
				return false
			}
		}
		return true
	})
}

// kernelObject is a program or a map, by its number.
type kernelObject struct {
	kind string // as /proc/PID/fdinfo has it
	id   uint32
}

func (o kernelObject) exists(t *testing.T) bool {
	var err error
	switch o.kind {
	case "prog":
		var p *ebpf.Program
		if p, err = ebpf.NewProgramFromID(ebpf.ProgramID(o.id)); err == nil {
			p.Close()
		}
	case "map":
		var m *ebpf.Map
		if m, err = ebpf.NewMapFromID(ebpf.MapID(o.id)); err == nil {
			m.Close()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

var objectID = regexp.MustCompile(`(?m)^(prog|map)_id:\s*(\d+)$`)

// note remembers which programs and maps the agent has open.
func (l *lives) note(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", l.current.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range objectID.FindAllStringSubmatch(string(text), -1) {
			id, err := strconv.ParseUint(match[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			l.kernel[kernelObject{match[1], uint32(id)}] = true
		}
	}
}
