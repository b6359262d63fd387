package spool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/stall"
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
	if errors.Is(c.err, stall.ErrStalled) {
		disk.Hang(c.ops...)
	} else {
		disk.Fail(c.err, c.ops...)
	}
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
	synctest.Wait() // for what is done late
	failed = 0
	add("after")
	if failed != 0 {
		t.Errorf("%d records failed on a disk that works", failed)
	}
	restarted := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: c.policy, Log: zap.NewNop()}, disk.AfterKill())
	compare(t, restarted, want, 2) // the acknowledgement may be lost, and a record be there that was written late
	compare(t, s, want, 0)
	if n := disk.OpenFiles(); n != 0 {
		t.Errorf("%d files stay open", n)
	}
}

// TestF13DiskFails lets the disk fail or hang in every way between two records. What fails is said to fail, everything that did
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
		{"write hangs", stall.ErrStalled, []testdisk.Op{testdisk.Write}, spool.Never, 100, 10},
		{"write hangs at a new segment", stall.ErrStalled, []testdisk.Op{testdisk.Write}, spool.Never, 8000, 10},
		{"new segment hangs", stall.ErrStalled, []testdisk.Op{testdisk.Create}, spool.Never, 8000, 10},
		{"fsync hangs", stall.ErrStalled, []testdisk.Op{testdisk.Sync}, spool.Always, 100, 10},
		{"fsync of the directory hangs", stall.ErrStalled, []testdisk.Op{testdisk.SyncDir}, spool.Always, 8000, 10},
	} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.run) })
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
weir_spool_errors_total{operation="read"} 0
weir_spool_errors_total{operation="remove"} 0
weir_spool_errors_total{operation="sync"} 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "weir_spool_errors_total"); err != nil {
		t.Error(err)
	}
	compare(t, s, map[spool.Seq]string{1: "before", 2: "after"}, 0)
}

// TestNoRoomForCursor: segments whose records are settled stay until the cursor says so, or a kill would have them counted
// as lost. Where the disk is full one goes before, which may be just the room that the cursor needs.
func TestNoRoomForCursor(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		ops    []testdisk.Op
		left   int   // segments
		counts int64 // records as damaged, after a kill
	}{
		{"broken", syscall.EIO, []testdisk.Op{testdisk.Rename}, 10, 0},
		{"full", syscall.ENOSPC, []testdisk.Op{testdisk.Create}, 9, 2},
		{"quota", syscall.EDQUOT, []testdisk.Op{testdisk.Create}, 9, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := testdisk.New()
			config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: spool.Never, Log: zap.NewNop()}
			s := open(t, config, disk)
			for range 20 {
				mustAppend(t, s, strings.Repeat("x", 3000))
			}
			disk.Fail(c.err, c.ops...)
			drain(t, s)
			if n := segments(disk); n != c.left {
				t.Errorf("%d segments, want %d", n, c.left)
			}
			config.Dir = t.TempDir()
			killed := open(t, config, disk.AfterKill())
			if got := killed.Stats().Damaged.Records; got != c.counts {
				t.Errorf("%d records count as damaged after a kill, want %d", got, c.counts)
			}
			drain(t, killed)
			if err := killed.Close(); err != nil {
				t.Error(err)
			}
			disk.Heal()
			mustAppend(t, s, "new") // and with that,
			s.Ack(21)
			if err := s.Close(); err != nil || segments(disk) != 1 {
				t.Errorf("%v, %d segments, want the last", err, segments(disk))
			}
		})
	}
}

// cramped is a full disk that has room again as soon as a segment is removed.
type cramped struct{ *testdisk.Disk }

func (c cramped) Remove(name string) error {
	if strings.HasSuffix(name, ".seg") {
		c.Heal()
	}
	return c.Disk.Remove(name)
}

// TestMakesRoomForCursor: a disk that is full of settled segments gets empty.
func TestMakesRoomForCursor(t *testing.T) {
	disk := testdisk.New()
	config := spool.Config{
		Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: spool.Never, FS: cramped{disk}, Log: zap.NewNop(),
	}
	s, err := spool.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		mustAppend(t, s, strings.Repeat("x", 3000))
	}
	disk.Fail(syscall.ENOSPC, testdisk.Create)
	drain(t, s)
	if n := segments(disk); n != 1 {
		t.Errorf("%d segments, want the last", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnreadable: a record that the disk does not give back waits until it does.
func TestUnreadable(t *testing.T) {
	disk := testdisk.New()
	s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}, disk)
	seq := mustAppend(t, s, "record")
	for _, op := range []testdisk.Op{testdisk.Open, testdisk.Read} {
		disk.Fail(syscall.EIO, op)
		if _, err := s.Read(seq); !errors.Is(err, syscall.EIO) || errors.Is(err, spool.ErrDamaged) {
			t.Errorf("read: %v, want EIO and not ErrDamaged", err)
		}
		if got := s.Stats(); got.Damaged.Records != 0 || got.Pending.Records != 1 || !got.Failing {
			t.Errorf("%+v, want one record that waits for a disk that fails", got)
		}
		disk.Heal()
		if got, err := s.Read(seq); err != nil || string(got) != "record" {
			t.Errorf("read again: %q, %v", got, err)
		}
		if s.Stats().Failing {
			t.Error("the disk still counts as failing")
		}
	}
	compare(t, s, map[spool.Seq]string{seq: "record"}, 0)
}

// TestDamagedWhileOpen: a record that is not there any more as it was written is damaged, and is not asked for again.
func TestDamagedWhileOpen(t *testing.T) {
	name := "0000000000000001.seg"
	for _, c := range []struct {
		what   string
		damage func(disk *testdisk.Disk)
	}{
		{"changed", func(disk *testdisk.Disk) {
			data := disk.Files()[name]
			data[len(data)-1] ^= 1
			disk.Put(name, data)
		}},
		{"cut", func(disk *testdisk.Disk) { disk.Put(name, disk.Files()[name][:30]) }},
		{"removed", func(disk *testdisk.Disk) { disk.Remove(name) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			disk := testdisk.New()
			s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}, disk)
			seq := mustAppend(t, s, "record")
			c.damage(disk)
			if _, err := s.Read(seq); !errors.Is(err, spool.ErrDamaged) {
				t.Errorf("read: %v, want ErrDamaged", err)
			}
			if _, err := s.Read(seq); !errors.Is(err, spool.ErrGone) {
				t.Errorf("read again: %v, want ErrGone", err)
			}
			if got, want := s.Stats().Damaged, (spool.Count{Records: 1, Events: 1}); got != want {
				t.Errorf("damaged: %+v, want %+v", got, want)
			}
			compare(t, s, nil, 0)
		})
	}
}

// TestUnreadableSegment: what the disk does not give back at a start is there at the next one, and nothing else suffers.
func TestUnreadableSegment(t *testing.T) {
	for _, c := range []struct {
		name string
		op   testdisk.Op
	}{{"open", testdisk.Open}, {"read", testdisk.Read}} {
		t.Run(c.name, func(t *testing.T) {
			disk := testdisk.New()
			config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: spool.Never, Log: zap.NewNop()}
			want := spoolOf(t, config, disk, 6)
			second := "0000000000000003.seg"
			disk.FailFile(second, syscall.EIO, c.op)
			s := open(t, config, disk)
			stats := s.Stats()
			if stats.Damaged.Records != 0 || stats.Pending.Records != 4 || stats.Bytes != 3*(24+2*(36+3000)) || !stats.Failing {
				t.Errorf("%+v, want 4 records of all 3 segments, and none damaged", stats)
			}
			drain(t, s)
			mustAppend(t, s, "new")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			disk.Heal()
			compare(t, open(t, config, disk), map[spool.Seq]string{3: want[3], 4: want[4], 7: "new"}, 0)
		})
	}
}

// TestUnreadableStart: what keeps a spool from being opened changes nothing in it.
func TestUnreadableStart(t *testing.T) {
	for _, c := range []struct {
		name string
		file string // "": all
		op   testdisk.Op
	}{
		{"the newest segment does not open", "0000000000000005.seg", testdisk.Open},
		{"the newest segment is not read", "0000000000000005.seg", testdisk.Read},
		{"the cursor does not open", "cursor", testdisk.Open},
		{"the cursor is not read", "cursor", testdisk.Read},
		{"too many open files", "", testdisk.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := testdisk.New()
			config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: spool.Never, Log: zap.NewNop()}
			want := spoolOf(t, config, disk, 6)
			disk.FailFile(c.file, syscall.EMFILE, c.op)
			config.FS = disk
			if _, err := spool.Open(config); !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), c.file) {
				t.Fatalf("%v, want that of the file", err)
			}
			if n := disk.OpenFiles(); n != 0 {
				t.Errorf("%d files stay open", n)
			}
			disk.Heal()
			compare(t, open(t, config, disk), want, 0)
		})
	}
}

// TestOtherVersion: a spool of another version is not opened, and still whole for that version.
func TestOtherVersion(t *testing.T) {
	disk := testdisk.New()
	config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop(), FS: disk}
	want := spoolOf(t, config, disk, 1)
	name := "0000000000000001.seg"
	ours := disk.Files()[name]
	theirs := bytes.Clone(ours)
	theirs[8]++ // the version
	binary.LittleEndian.PutUint32(theirs[12:], crc32.Checksum(slices.Concat(theirs[8:12], theirs[16:24]), crc32.MakeTable(crc32.Castagnoli)))
	disk.Put(name, theirs)
	if _, err := spool.Open(config); err == nil || !strings.Contains(err.Error(), name+": another version of weir wrote it") {
		t.Fatalf("%v, want that another version wrote it", err)
	}
	disk.Put(name, ours)
	compare(t, open(t, config, disk), want, 0)
}

// TestUnreadableEvicted: a segment that could not be read makes room as any other, and is then lost.
func TestUnreadableEvicted(t *testing.T) {
	disk := testdisk.New()
	config := spool.Config{Dir: t.TempDir(), MaxBytes: 64 << 10, SegmentBytes: 8 << 10, Sync: spool.Never, Log: zap.NewNop()}
	spoolOf(t, config, disk, 4)
	disk.FailFile("0000000000000001.seg", syscall.EIO, testdisk.Open)
	s := open(t, config, disk)
	for i := 0; s.Stats().Evicted.Records == 0; i++ {
		mustAppend(t, s, strings.Repeat("x", 3000))
		if i > 100 {
			t.Fatal("nothing is evicted")
		}
	}
	if got, want := s.Stats().Damaged, (spool.Count{Records: 2}); got != want {
		t.Errorf("damaged: %+v, want %+v", got, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Heal()
	s = open(t, config, disk)
	if got := s.Stats().Damaged; got.Records != 0 {
		t.Errorf("damaged after a restart: %+v, want none that was counted before", got)
	}
	drain(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// spoolOf fills a spool with so many records, two in each segment of 8 KiB, and closes it.
func spoolOf(t *testing.T, config spool.Config, disk *testdisk.Disk, n int) map[spool.Seq]string {
	t.Helper()
	s := open(t, config, disk)
	records := map[spool.Seq]string{}
	for i := range n {
		record := strings.Repeat(strconv.Itoa(i%10), 3000)
		records[mustAppend(t, s, record)] = record
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return records
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
