package spool_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/testdisk"
)

// diskFailure is a way in which the disk fails for a time.
type diskFailure struct {
	name   string
	err    error
	ops    []testdisk.Op
	policy spool.Policy
	size   int // of the records
	fails  int // of the 10 records that are appended meanwhile
}

func (c diskFailure) run(t *testing.T) {
	disk := testdisk.New()
	config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: c.policy, Log: zap.NewNop()}
	s := open(t, config, disk)
	want := map[spool.Seq]string{}
	failed := 0
	add := func(what string) {
		for i := range 10 {
			record := fmt.Sprintf("%s %d %s", what, i, strings.Repeat("x", c.size))
			seq, evicted, err := s.Append([]byte(record), 1)
			if evicted.Records > 0 {
				t.Fatalf("evicted: %+v", evicted)
			}
			if err == nil {
				want[seq] = record
				continue
			}
			failed++
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
		}
	}
	add("before")
	disk.Fail(c.err, c.ops...)
	add("meanwhile")
	if failed != c.fails {
		t.Errorf("%d records failed, want %d", failed, c.fails)
	}
	for seq := range want { // one can be delivered while the disk fails
		s.Ack(seq)
		delete(want, seq)
		break
	}
	disk.Heal()
	failed = 0
	add("after")
	if failed != 0 {
		t.Errorf("%d records failed on a disk that works", failed)
	}
	restarted := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: c.policy, Log: zap.NewNop()}, disk.AfterKill())
	compare(t, restarted, want, 1) // the acknowledgement may be lost
	compare(t, s, want, 0)
	if n := disk.OpenFiles(); n != 0 {
		t.Errorf("%d files stay open", n)
	}
}

// TestF13DiskFails lets the disk fail in every way between two records. What fails is said to fail, everything that did
// not is there afterwards and after a restart, and the disk is used again as soon as it works.
func TestF13DiskFails(t *testing.T) {
	for _, c := range []diskFailure{
		{"full in the midst of a record", syscall.ENOSPC, []testdisk.Op{testdisk.Write}, spool.Never, 100, 10},
		{"full at a new segment", syscall.ENOSPC, []testdisk.Op{testdisk.Write}, spool.Never, 8000, 10},
		{"full of files", syscall.ENOSPC, []testdisk.Op{testdisk.Create}, spool.Never, 8000, 10},
		{"quota", syscall.EDQUOT, []testdisk.Op{testdisk.Write, testdisk.Create}, spool.Never, 100, 10},
		{"read-only", syscall.EROFS, []testdisk.Op{
			testdisk.Create, testdisk.Write, testdisk.Cut, testdisk.Sync, testdisk.SyncDir, testdisk.Remove, testdisk.Rename,
		}, spool.Never, 100, 10},
		{"write", syscall.EIO, []testdisk.Op{testdisk.Write, testdisk.Cut}, spool.Never, 100, 10},
		{"write, and nothing can be removed", syscall.EIO, []testdisk.Op{testdisk.Write, testdisk.Remove}, spool.Never, 8000, 10},
		{"fsync", syscall.EIO, []testdisk.Op{testdisk.Sync}, spool.Always, 100, 10},
		{"fsync of the directory", syscall.EIO, []testdisk.Op{testdisk.SyncDir}, spool.Always, 8000, 10},
		{"fsync, of no importance", syscall.EIO, []testdisk.Op{testdisk.Sync, testdisk.SyncDir}, spool.Never, 8000, 0},
		{"cursor", syscall.EIO, []testdisk.Op{testdisk.Rename}, spool.Never, 8000, 0},
		{"unlink", syscall.EIO, []testdisk.Op{testdisk.Remove}, spool.Never, 8000, 0},
	} {
		t.Run(c.name, c.run)
	}
}

// compare drains a spool and closes it. It may hold up to so many records more than wanted.
func compare(t *testing.T, s *spool.Spool, want map[spool.Seq]string, more int) {
	t.Helper()
	got := drain(t, s)
	for seq, record := range want {
		if string(got[seq]) != record {
			t.Errorf("record %d is %.20q, want %.20q", seq, got[seq], record)
		}
	}
	if len(got) > len(want)+more {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestSyncFails: after a failed fsync nobody knows what is on the disk, so a segment is not continued.
func TestSyncFails(t *testing.T) {
	disk := testdisk.New()
	s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}, disk)
	mustAppend(t, s, "before")
	disk.Fail(syscall.EIO, testdisk.Sync)
	if err := s.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v, want EIO", err)
	}
	disk.Heal()
	mustAppend(t, s, "after")
	if n := segments(disk); n != 2 {
		t.Errorf("%d segments, want 2", n)
	}
	want := `
# HELP weir_spool_errors_total Failures of the spool's disk.
# TYPE weir_spool_errors_total counter
weir_spool_errors_total{operation="append"} 0
weir_spool_errors_total{operation="cursor"} 1
weir_spool_errors_total{operation="remove"} 0
weir_spool_errors_total{operation="sync"} 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "weir_spool_errors_total"); err != nil {
		t.Error(err)
	}
	compare(t, s, map[spool.Seq]string{1: "before", 2: "after"}, 0)
}

// TestUnreadable: a record that the disk does not give back is damaged, and is not asked for again.
func TestUnreadable(t *testing.T) {
	disk := testdisk.New()
	s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}, disk)
	seq := mustAppend(t, s, "record")
	disk.Fail(syscall.EIO, testdisk.Read)
	if _, err := s.Read(seq, nil); !errors.Is(err, spool.ErrDamaged) || !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v, want ErrDamaged because of EIO", err)
	}
	if _, err := s.Read(seq, nil); !errors.Is(err, spool.ErrGone) {
		t.Errorf("read again: %v, want ErrGone", err)
	}
	if _, ok := s.Next(0); ok {
		t.Error("it still waits")
	}
	if got, want := s.Stats().Damaged, (spool.Count{Records: 1, Events: 1}); got != want {
		t.Errorf("damaged: %+v, want %+v", got, want)
	}
	disk.Heal()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnreadableSegments: a disk that reads nothing does not keep a spool from taking new records.
func TestUnreadableSegments(t *testing.T) {
	disk := testdisk.New()
	config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: spool.Never, Log: zap.NewNop()}
	s := open(t, config, disk)
	for range 5 {
		mustAppend(t, s, strings.Repeat("x", 5000))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Fail(syscall.EIO, testdisk.Read)
	s = open(t, config, disk)
	if got := s.Stats(); got.Damaged.Records != 5 || got.Pending.Records != 0 {
		t.Errorf("damaged and pending: %+v", got)
	}
	disk.Heal()
	seq := mustAppend(t, s, "new")
	compare(t, s, map[spool.Seq]string{seq: "new"}, 0)
}

func mustAppend(t testing.TB, s *spool.Spool, record string) spool.Seq {
	t.Helper()
	seq, _, err := s.Append([]byte(record), 1)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func segments(disk *testdisk.Disk) (n int) {
	for name := range disk.Files() {
		if strings.HasSuffix(name, ".seg") {
			n++
		}
	}
	return n
}
