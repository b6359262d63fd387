package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"weir/internal/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fakeKernel struct {
	ledger flow.Ledger
	err    error
}

func (k *fakeKernel) Ledger() (flow.Ledger, error) { return k.ledger, k.err }
func (k *fakeKernel) Capacity() uint32             { return 4096 }

func TestKernelCollector(t *testing.T) {
	kernel := &fakeKernel{ledger: flow.Ledger{
		Seen:        map[string]flow.Counter{"xdp_ingress": {Packets: 10, Bytes: 1000}, "tc_egress": {}},
		Uncounted:   map[string]flow.Counter{"not_ip": {Packets: 1, Bytes: 60}},
		Counted:     flow.Counter{Packets: 9, Bytes: 940},
		Exported:    flow.Counter{Packets: 4, Bytes: 400},
		Evicted:     flow.Counter{Packets: 2, Bytes: 240},
		Inserts:     7,
		Deletes:     2,
		Evictions:   1,
		ClosedFull:  3,
		Unopened:    5,
		RecordsFull: 5,

		Samples: 11, SamplesFull: 12, SamplesLimited: 13, SamplesForgotten: 14,
	}}
	audit := func() flow.Audit {
		return flow.Audit{
			Resident: flow.Resident{Flows: 4, Packets: 3, Bytes: 300}, UnaccountedPackets: -6, UnaccountedBytes: 60,
		}
	}
	collector := NewKernelCollector(kernel, audit)
	if problems, err := testutil.CollectAndLint(collector); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector)
	want := `
weir_seen_packets_total{hook="tc_egress"} 0
weir_seen_packets_total{hook="xdp_ingress"} 10
weir_seen_bytes_total{hook="xdp_ingress"} 1000
weir_uncounted_packets_total{reason="not_ip"} 1
weir_uncounted_bytes_total{reason="not_ip"} 60
weir_counted_packets_total 9
weir_counted_bytes_total 940
weir_exported_packets_total 4
weir_exported_bytes_total 400
weir_evicted_packets_total 2
weir_evicted_bytes_total 240
weir_flow_inserts_total 7
weir_flow_evictions_total 1
weir_resident_flows 4
weir_resident_packets 3
weir_resident_bytes 300
weir_map_capacity_flows 4096
weir_unaccounted_packets -6
weir_unaccounted_bytes 60
weir_ring_drops_total{ring="closed"} 3
weir_ring_drops_total{ring="records"} 5
weir_not_unwrapped_packets_total 5
weir_samples_total 11
weir_samples_dropped_total{reason="ring_full"} 12
weir_samples_dropped_total{reason="rate"} 13
weir_samples_dropped_total{reason="forgotten"} 14
`
	text := scrape(t, reg)
	for line := range strings.Lines(strings.TrimSpace(want)) {
		if !strings.Contains(text, "\n"+strings.TrimSpace(line)+"\n") {
			t.Errorf("there is no %s in\n%s", line, text)
		}
	}
}

// TestUnreadableKernel fails the scrape rather than leave the ledger out of it.
func TestUnreadableKernel(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewKernelCollector(&fakeKernel{err: errors.New("gone")}, func() flow.Audit { return flow.Audit{} }))
	s := serve(t, Config{Gatherer: reg})
	if status, text := s.get(t, "/metrics"); status != http.StatusInternalServerError || !strings.Contains(text, "gone") {
		t.Errorf("status %d, %s", status, text)
	}
}

// scrape returns what /metrics shows of a registry.
func scrape(t *testing.T, gatherer prometheus.Gatherer) string {
	t.Helper()
	s := serve(t, Config{Gatherer: gatherer})
	_, text := s.get(t, "/metrics")
	return text
}

type served struct{ addr string }

// serve runs a server until the test ends.
func serve(t *testing.T, cfg Config) served {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	server, err := Listen(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return served{server.Addr().String()}
}

func (s served) get(t *testing.T, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestHealth(t *testing.T) {
	alive := true
	s := serve(t, Config{Live: func() (bool, string) { return alive, "the loop hangs" }})
	if status, body := s.get(t, "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("alive: %d %q", status, body)
	}
	alive = false
	if status, body := s.get(t, "/healthz"); status != http.StatusServiceUnavailable || body != "the loop hangs\n" {
		t.Errorf("hanging: %d %q", status, body)
	}
}

func TestReady(t *testing.T) {
	checks := []Check{{"attach eth0", true, "xdp"}, {"deliver", true, "delivering"}}
	s := serve(t, Config{Ready: func() []Check { return checks }})
	want := "attach eth0: ok: xdp\ndeliver: ok: delivering\n"
	if status, body := s.get(t, "/readyz"); status != http.StatusOK || body != want {
		t.Errorf("ready: %d %q", status, body)
	}
	checks = []Check{{"attach eth0", true, "xdp"}, {"deliver", false, "refused"}}
	want = "attach eth0: ok: xdp\ndeliver: not ready: refused\n"
	if status, body := s.get(t, "/readyz"); status != http.StatusServiceUnavailable || body != want {
		t.Errorf("not ready: %d %q", status, body)
	}
	if status, _ := s.get(t, "/nothing"); status != http.StatusNotFound {
		t.Errorf("an unknown path: %d", status)
	}
}

func TestAddressInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, err := Listen(Config{Listen: listener.Addr().String()}, zap.NewNop()); err == nil {
		t.Error("no error from an address that is in use")
	}
}

func TestBuildInfo(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewBuildCollector("v1", "c0ffee", "0bject"))
	want := `weir_build_info{commit="c0ffee",object="0bject",version="v1"} 1`
	if text := scrape(t, reg); !strings.Contains(text, want) {
		t.Errorf("there is no %s in\n%s", want, text)
	}
}
