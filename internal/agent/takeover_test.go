package agent

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/collect"
	"weir/internal/datapath"
	"weir/internal/deliver"
	"weir/internal/testnet"
)

// TestTakeOverAfterSettling leaves maps alone where a program may still count.
func TestTakeOverAfterSettling(t *testing.T) {
	dir := filepath.Join(testnet.BPFFS(t), "weir")
	var kernel *datapath.Datapath
	for _, size := range []uint32{1024, 2048} {
		if kernel != nil {
			if err := kernel.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if kernel, err = datapath.Load(datapath.Config{MaxFlows: size, Sampling: 1, PinDir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	defer kernel.Close()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	notALink := filepath.Join(dir, "links", "1-1-ingress-tcx")
	if err := m.Pin(notALink); err != nil {
		t.Fatal(err)
	}

	a := &Agent{log: zap.NewNop(), kernel: kernel, sealed: newSealed()}
	if a.deliverer, err = deliver.New(deliver.Config{
		Stdout: io.Discard, BatchSize: 1, SendInterval: time.Second, Format: deliver.FormatAuto, Compression: deliver.CompressionNone,
		QueueMaxBytes: 1 << 20, Concurrency: 1, BacklogShare: 50, RequestTimeout: time.Second,
	}, a.log, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	if a.collector, err = collect.New(collect.Config{}, kernel, nil, collect.SystemClock, a.deliverer, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 1} {
		a.takeOver(t.Context())
		if left, err := filepath.Glob(filepath.Join(dir, "maps-*")); err != nil || len(left) != want {
			t.Errorf("maps %q (%v), want %d", left, err, want)
		}
		if want == 2 {
			if err := os.Remove(notALink); err != nil {
				t.Fatal(err)
			}
		}
	}
}
