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
		synctest.Wait()
		config.FS = disk
		if _, err := spool.Open(config); !errors.Is(err, spool.ErrLocked) {
			t.Errorf("another start before what hangs is done: %v", err)
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

// TestSyncIsMadeUp: what a disk that hung was not asked for is forced to it when it answers again.
func TestSyncIsMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}, disk)
		seq := mustAppend(t, s, "record")
		disk.Hang(testdisk.Read)
		if _, err := s.Read(seq); !errors.Is(err, stall.ErrStalled) {
			t.Errorf("read: %v", err)
		}
		if err := s.Sync(); !errors.Is(err, stall.ErrStalled) {
			t.Errorf("sync: %v", err)
		}
		disk.Heal()
		synctest.Wait()
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
		after := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Log: zap.NewNop()}, disk.AfterPowerLoss())
		compare(t, after, map[spool.Seq]string{seq: "record"}, 0)
	})
}

// lateDisk makes a file too late, once, and answers from then on.
type lateDisk struct {
	*testdisk.Disk
	late bool
}

func (d *lateDisk) Open(name string, flag int) (spool.File, error) {
	file, err := d.Disk.Open(name, flag)
	if late := d.late; late && err == nil {
		d.late = false
		return nil, errors.Join(stall.ErrStalled, file.Close())
	}
	return file, err
}

// TestMadeTooLate: the file that is there now is not in the way of the next one.
func TestMadeTooLate(t *testing.T) {
	disk := &lateDisk{testdisk.New(), false}
	config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, FS: disk, Log: zap.NewNop()}
	s, err := spool.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	disk.late = true
	if _, _, err := s.Append([]byte("first"), 1); !errors.Is(err, stall.ErrStalled) {
		t.Errorf("append: %v", err)
	}
	second := mustAppend(t, s, "second")
	compare(t, s, map[spool.Seq]string{second: "second"}, 0)
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
