package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/collect"
	"weir/internal/datapath"
	"weir/internal/deliver"
	"weir/internal/spool"
	"weir/internal/testnet"
)

// TestTakeOverAfterSettling leaves maps alone where a program may still count.
func TestTakeOverAfterSettling(t *testing.T) {
	dir := filepath.Join(testnet.BPFFS(t), "weir")
	a, _ := takingOver(t, dir, 1024, 2048)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	notALink := filepath.Join(dir, "links", "1-1-ingress-tcx")
	if err := m.Pin(notALink); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 1} {
		a.takeOver(t.Context())
		checkFolders(t, dir, want)
		if want == 2 {
			if err := os.Remove(notALink); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTakeOverStepByStep: a stop in the middle of it leaves less for the next start.
func TestTakeOverStepByStep(t *testing.T) {
	dir := filepath.Join(testnet.BPFFS(t), "weir")
	a, clock := takingOver(t, dir, 1024, 2048, 4096)
	core, logs := observer.New(zap.InfoLevel)
	a.log = zap.New(core)
	for want := 3; want > 1; want-- {
		checkFolders(t, dir, want)
		ctx, stop := context.WithCancel(t.Context())
		clock.asked = stop
		if err := a.inheritAll(ctx); want == 3 && !errors.Is(err, context.Canceled) || want == 2 && err != nil {
			t.Errorf("with %d folders: %v", want, err)
		}
		stop()
		if told := logs.TakeAll(); len(told) != 2 || told[0].ContextMap()["folders"] != int64(want-1) ||
			told[1].ContextMap()["events"] != uint64(0) {
			t.Errorf("with %d folders, told is %v, want how many are taken over, and that one was empty", want, told)
		}
	}
	checkFolders(t, dir, 1)
}

// askedClock is the collector's, who asks for the time when it begins with a folder.
type askedClock struct{ asked func() }

func (c *askedClock) read() (uint64, time.Time) {
	if c.asked != nil {
		c.asked()
	}
	return collect.SystemClock()
}

// takingOver returns an agent that others were before, each with maps of another size.
func takingOver(t *testing.T, dir string, sizes ...uint32) (*Agent, *askedClock) {
	t.Helper()
	var kernel *datapath.Datapath
	for i, size := range sizes {
		var err error
		if kernel, err = datapath.Load(datapath.Config{MaxFlows: size, Sampling: 1, PinDir: dir}); err != nil {
			t.Fatal(err)
		}
		if i == len(sizes)-1 {
			t.Cleanup(func() { kernel.Close() })
		} else if err := kernel.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a, clock := &Agent{log: zap.NewNop(), kernel: kernel, sealed: newSealed()}, new(askedClock)
	var err error
	if a.deliverer, err = deliver.New(deliver.Config{
		Stdout: io.Discard, BatchSize: 1, SendInterval: time.Second, Format: deliver.FormatAuto, Compression: deliver.CompressionNone,
		QueueMaxBytes: 1 << 20, Concurrency: 1, BacklogShare: 50, RequestTimeout: time.Second,
		Spool: &spool.Config{Dir: filepath.Join(t.TempDir(), "spool"), MaxBytes: 1 << 30, Sync: spool.Policy(time.Second)},
	}, a.log, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	if err := a.deliverer.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, end := context.WithCancel(context.Background())
		end()
		if err := a.deliverer.Run(ended); err != nil {
			t.Error(err)
		}
	})
	a.collector, err = collect.New(collect.Config{}, kernel, nil, nobody(t), clock.read, a.deliverer, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return a, clock
}

// checkFolders counts the folders of maps.
func checkFolders(t *testing.T, dir string, want int) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "[am]*-*"))
	if err != nil || len(left) != want {
		t.Errorf("maps %q (%v), want %d", left, err, want)
	}
}
