package deliver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/spool"
	"weir/internal/stall"
	"weir/internal/testbrain"
	"weir/internal/testdisk"
)

// These run in real time: who waits for a lock is not idle, so synctest's clock would stand still.

// shortPatience is far more than a disk in memory needs on a busy machine.
const shortPatience = time.Second

// newHanging starts a delivery with a disk that takes so long to be taken for one that hangs.
func newHanging(t *testing.T, patience time.Duration, change func(*Config)) *rig {
	t.Helper()
	t.Parallel()
	return newRig(t, testbrain.Options{}, func(cfg *Config) {
		cfg.Spool.Patience, cfg.Spool.Sync = patience, spool.Policy(10*time.Millisecond)
		if change != nil {
			change(cfg)
		}
	})
}

// hang lets everything hang that the disk is asked for.
func (r *rig) hang() {
	r.disk.Hang(testdisk.Create, testdisk.Open, testdisk.Read, testdisk.Write, testdisk.Cut, testdisk.Sync, testdisk.SyncDir,
		testdisk.Remove, testdisk.Rename)
}

func (r *rig) wantSpool(t *testing.T, works bool, why string) {
	t.Helper()
	eventually(t, "the spool's status: "+why, func() bool {
		_, ok, reason := r.SpoolStatus()
		return ok == works && strings.Contains(reason, why)
	})
}

// What is told of the delivery does not wait for the disk, not even while it is not known to hang.
func TestHangingDiskDoesNotSilence(t *testing.T) {
	r := newHanging(t, time.Hour, nil)
	r.add(10)
	eventually(t, "the first batch", func() bool { return readBooks(r.Deliverer).delivered == 10 })
	r.hang()
	added := make(chan struct{})
	go func() {
		defer close(added)
		r.add(10)
	}()
	eventually(t, "the second batch", func() bool { return r.Left().Memory == 10 })
	if got := readBooks(r.Deliverer); got.held != 10 || got.delivered != 10 {
		t.Errorf("books: %+v", got)
	}
	if _, ok, reason := r.SpoolStatus(); !ok {
		t.Errorf("SpoolStatus: %s", reason)
	}
	if ok, reason := r.Status(); !ok {
		t.Errorf("Status: %s", reason)
	}
	if _, err := r.reg.(prometheus.Gatherer).Gather(); err != nil {
		t.Error(err)
	}
	r.disk.Heal()
	<-added
	r.finish(t)
	r.wantAll(t, 0)
}

// Events go on from memory to the Brain, and to the disk again when it answers.
func TestHangingDiskIsDoneWithout(t *testing.T) {
	r := newHanging(t, shortPatience, nil)
	r.hang()
	r.add(100)
	eventually(t, "events from memory", func() bool { return readBooks(r.Deliverer).delivered == 100 })
	r.wantSpool(t, false, stall.ErrStalled.Error())
	r.brain.Stop(t)
	r.add(100)
	if got := readBooks(r.Deliverer); got.events() != 200 || got.queueFull+got.spoolFull > 0 {
		t.Errorf("books: %+v", got)
	}
	r.disk.Heal()
	eventually(t, "the disk", func() bool { // tried with every batch
		r.add(10)
		unsaved, _ := r.queue.remaining()
		return !unsaved
	})
	r.wantSpool(t, true, "spooling")
	r.brain.Start(t)
	eventually(t, "the rest", func() bool { return r.brain.Received() == r.added })
	r.finish(t)
	r.wantAll(t, 0)
}

// What memory does not hold is dropped and counted, and so is what is there when the time to stop is over.
func TestHangingDiskEndsWithTheBrainDown(t *testing.T) {
	r := newHanging(t, shortPatience, func(cfg *Config) { cfg.QueueMaxBytes = 200 * eventBytes })
	r.brain.Stop(t)
	r.hang()
	r.add(1000)
	got := readBooks(r.Deliverer)
	if got.queueFull < 700 || got.held < 100 || got.events() != 1000 {
		t.Errorf("books: %+v", got)
	}
	if left := r.Left(); left.Memory != got.held || left.Spool != 0 {
		t.Errorf("left: %+v of %d events", left, got.held)
	}
	r.stop()
	if err := <-r.done; !errors.Is(err, stall.ErrStalled) {
		t.Errorf("Run: %v", err)
	}
	if after := readBooks(r.Deliverer); after.shutdown != got.held || after.held != 0 || after.events() != 1000 {
		t.Errorf("books: %+v, want %d dropped by the stop", after, got.held)
	}
	if entries := r.logs.FilterMessageSnippet("undelivered, dropped").All(); len(entries) != 1 || entries[0].ContextMap()["events"] != int64(got.held) {
		t.Errorf("logged: %v", entries)
	}
	r.disk.Heal()
	eventually(t, "what is done late", func() bool { return r.disk.OpenFiles() == 0 })
}

// The backlog of a disk that hangs waits, and live events do not wait for it.
func TestHangingDiskKeepsTheBacklog(t *testing.T) {
	r := newHanging(t, shortPatience, func(cfg *Config) { cfg.Concurrency, cfg.QueueMaxBytes = 2, 200*eventBytes })
	r.brain.Stop(t)
	r.add(1000) // most are on disk only
	if left := r.Left(); left != (Left{Spool: 1000}) {
		t.Errorf("left: %+v, want all in the spool", left)
	}
	r.disk.Hang(testdisk.Open, testdisk.Read)
	r.brain.Start(t)
	r.add(10)
	live := fmt.Sprintf("-%016x", r.added-1)
	eventually(t, "live events", func() bool {
		return slices.ContainsFunc(r.brain.Events(), func(e testbrain.Event) bool { return strings.HasSuffix(e.EventID, live) })
	})
	eventually(t, "the disk is known to hang", r.Deliverer.disk.spool.Stalled)
	r.queue.mu.Lock()
	if n := len(r.queue.tried); n > 10 {
		t.Errorf("%d batches were tried in vain", n)
	}
	r.queue.mu.Unlock()
	r.disk.Heal()
	eventually(t, "the backlog", func() bool { return r.brain.Received() == r.added })
	r.finish(t)
	r.wantAll(t, 0)
}
