package deliver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/stall"
)

func testQuarantine(t *testing.T) (*quarantine, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	kept := prometheus.NewCounter(prometheus.CounterOpts{Name: "kept"})
	return newQuarantine(&Config{QuarantinePath: filepath.Join(t.TempDir(), "quarantine")}, kept, zap.New(core)), logs
}

func TestQuarantineIsBounded(t *testing.T) {
	q, logs := testQuarantine(t)
	b := testBatch(2)
	q.keep(b)
	if err := os.Truncate(q.path, maxQuarantine-int64(len(b.Lines))+1); err != nil {
		t.Fatal(err)
	}
	q.keep(b)
	q.keep(b)
	if info, err := os.Stat(q.path); err != nil || info.Size() > maxQuarantine || info.Mode() != 0o600 {
		t.Errorf("%v (%v)", info, err)
	}
	if err := os.Rename(q.path, q.path+".old"); err != nil { // as the log asks for
		t.Fatal(err)
	}
	q.keep(b)
	content, err := os.ReadFile(q.path)
	if err != nil || string(content) != string(b.Lines) {
		t.Errorf("%d bytes (%v), want %d", len(content), err, len(b.Lines))
	}
	if n := testutil.ToFloat64(q.kept); n != 4 {
		t.Errorf("%v events counted as kept, want 4", n)
	}
	if entries := logs.All(); len(entries) != 1 || entries[0].ContextMap()["error"] != "it is full: move it away" {
		t.Errorf("logged: %v", entries)
	}
}

func TestQuarantineFollowsNoLink(t *testing.T) {
	q, logs := testQuarantine(t)
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, q.path); err != nil {
		t.Fatal(err)
	}
	q.keep(testBatch(1))
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("the link was followed: %v", err)
	}
	if n := logs.FilterMessageSnippet("cannot be put aside").Len(); n != 1 || testutil.ToFloat64(q.kept) != 0 {
		t.Errorf("%d entries, %v kept", n, testutil.ToFloat64(q.kept))
	}
}

// A sender waits for a disk that hangs once, and not for long.
func TestQuarantineHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, logs := testQuarantine(t)
		answer := make(chan struct{})
		q.sync = func(*os.File) error { <-answer; return nil }
		start := time.Now()
		for range 3 {
			q.keep(testBatch(1))
		}
		if waited := time.Since(start); waited != quarantinePatience || testutil.ToFloat64(q.kept) != 0 {
			t.Errorf("waited %s, %v kept", waited, testutil.ToFloat64(q.kept))
		}
		if entries := logs.All(); len(entries) != 1 || entries[0].ContextMap()["error"] != stall.ErrStalled.Error() {
			t.Errorf("logged: %v", entries)
		}
		close(answer)
		synctest.Wait()
		q.keep(testBatch(1))
		if n := testutil.ToFloat64(q.kept); n != 1 {
			t.Errorf("%v events kept when the disk answers again, want 1", n)
		}
	})
}

// A write that breaks off leaves no half of a line, which would spoil the next one.
func TestQuarantineLeavesNoTornLine(t *testing.T) {
	q, _ := testQuarantine(t)
	q.path = "/dev/full"
	if err := q.write(testBatch(1).Lines); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("write: %v", err)
	}
}
