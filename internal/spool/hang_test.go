package spool_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/stall"
	"weir/internal/testdisk"
)

// everything is what a disk can hang at.
var everything = []testdisk.Op{
	testdisk.Create, testdisk.Open, testdisk.Read, testdisk.Write, testdisk.Cut, testdisk.Sync, testdisk.SyncDir,
	testdisk.Remove, testdisk.Rename,
}

// TestDiskHangs: what is asked of a disk that hangs costs one patience, all of it together, and what is told of the spool
// costs no time, not even until the patience is over.
func TestDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 3 * time.Second
		disk, dir := testdisk.New(), t.TempDir()
		config := spool.Config{Dir: dir, MaxBytes: 1 << 20, Sync: spool.Never, Patience: patience, Log: zap.NewNop()}
		s := open(t, config, disk)
		first := mustAppend(t, s, "first")
		disk.Hang(everything...)
		start := time.Now()
		appended := make(chan error)
		go func() {
			_, _, err := s.Append([]byte("second"), 1)
			appended <- err
		}()
		synctest.Wait()
		if stats := s.Stats(); stats.Pending.Records != 1 || stats.Failing || testutil.CollectAndCount(s) == 0 {
			t.Errorf("at once: %+v", stats)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("to be told took %s", waited)
		}
		if err := <-appended; !errors.Is(err, stall.ErrStalled) || time.Since(start) != patience {
			t.Errorf("append: %v after %s", err, time.Since(start))
		}
		if stats := s.Stats(); !stats.Failing || !s.Stalled() {
			t.Errorf("when the patience is over: %+v, stalled %v", stats, s.Stalled())
		}
		if _, err := s.Read(first); !errors.Is(err, stall.ErrStalled) {
			t.Errorf("read: %v", err)
		}
		s.Ack(first)
		if err := s.Close(); !errors.Is(err, stall.ErrStalled) {
			t.Errorf("close: %v", err)
		}
		if waited := time.Since(start); waited != patience {
			t.Errorf("all of it took %s, want %s", waited, patience)
		}
		disk.Heal()
		synctest.Wait()
		if n := disk.OpenFiles(); n != 0 {
			t.Errorf("%d files stay open", n)
		}
		again := open(t, config, disk) // the lock was let go of
		if stats := again.Stats(); stats.Damaged.Records != 0 || stats.Pending.Records != 2 {
			t.Errorf("the next start: %+v, want what was written late, and what is not known to be acknowledged", stats)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestReadHangs: the record is there when the disk answers again.
func TestReadHangs(t *testing.T) {
	for _, op := range []testdisk.Op{testdisk.Open, testdisk.Read} {
		synctest.Test(t, func(t *testing.T) {
			disk := testdisk.New()
			s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}, disk)
			seq := mustAppend(t, s, "record")
			disk.Hang(op)
			for range 3 {
				if _, err := s.Read(seq); !errors.Is(err, stall.ErrStalled) {
					t.Errorf("read: %v", err)
				}
			}
			disk.Heal()
			synctest.Wait()
			if n := disk.OpenFiles(); n != 1 {
				t.Errorf("%d files are open, want that of the newest segment", n)
			}
			compare(t, s, map[spool.Seq]string{seq: "record"}, 0)
		})
	}
}
