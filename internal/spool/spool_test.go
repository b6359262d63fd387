package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/testdisk"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	goleak.VerifyTestMain(m)
}

// onDisk opens a spool in a real directory.
func onDisk(t testing.TB, dir string, maxBytes int64, policy spool.Policy) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Config{Dir: dir, MaxBytes: maxBytes, Sync: policy, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestF19SecondRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := onDisk(t, dir, 1<<20, spool.Never)
	_, err := spool.Open(spool.Config{Dir: dir, MaxBytes: 1 << 20, Log: zap.NewNop()})
	if !errors.Is(err, spool.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v, want ErrLocked and the directory's name", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := onDisk(t, dir, 1<<20, spool.Never).Close(); err != nil {
		t.Error(err)
	}
}

// TestFiles: nobody else may read what is spooled, and what is not the spool's is left alone.
func TestFiles(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "spool")
	s := onDisk(t, dir, 1<<20, spool.Always)
	mustAppend(t, s, "record")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, "0000000000000001.seg": 0o600, "cursor": 0o600, "lock": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %o", name, info.Mode(), err, mode)
		}
	}
	for _, name := range []string{"cursor.new", "00000000000000ff.seg"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "00000000000000fe.seg"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = onDisk(t, dir, 1<<20, spool.Always)
	seq := mustAppend(t, s, "next")
	compare(t, s, map[spool.Seq]string{1: "record", seq: "next"}, 0)
	if got, err := os.ReadFile(outside); err != nil || string(got) != "mine" {
		t.Errorf("the file outside is %q, %v", got, err)
	}
}

func TestTooLarge(t *testing.T) {
	s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 64 << 10, Log: zap.NewNop()}, testdisk.New())
	mustAppend(t, s, "small")
	largest := 64<<10 - 24 - 36
	if _, evicted, err := s.Append(make([]byte, largest+1), 1); !errors.Is(err, spool.ErrTooLarge) || evicted.Records != 0 {
		t.Errorf("%v and evicted %+v, want ErrTooLarge and none", err, evicted)
	}
	seq, evicted, err := s.Append(make([]byte, largest), 1)
	if err != nil || evicted != (spool.Eviction{Last: 1, Count: spool.Count{Records: 1, Events: 1}}) {
		t.Errorf("%v and evicted %+v, want record 1", err, evicted)
	}
	compare(t, s, map[spool.Seq]string{seq: string(make([]byte, largest))}, 0)
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config spool.Config
		want   string
	}{
		{spool.Config{MaxBytes: 1000}, "spool of 1000 bytes"},
		{spool.Config{MaxBytes: 1 << 20, SegmentBytes: 100}, "spool segments of 100 bytes"},
		{spool.Config{MaxBytes: 1 << 20, SegmentBytes: 1 << 20}, "spool segments of 1048576 bytes"},
		{spool.Config{MaxBytes: 1 << 20, Dir: "/proc/none"}, "open the spool /proc/none: "},
	} {
		c.config.Log = zap.NewNop()
		if _, err := spool.Open(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.config, err, c.want)
		}
	}
}

// TestRemoves: acknowledged segments leave the disk at once, in any order, but for the last.
func TestRemoves(t *testing.T) {
	disk := testdisk.New()
	s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 8 << 10, Sync: spool.Never, Log: zap.NewNop()}, disk)
	var seqs []spool.Seq
	for range 10 {
		seqs = append(seqs, mustAppend(t, s, strings.Repeat("x", 5000)))
	}
	for i, n := range []int{9, 8, 7} {
		if s.Ack(seqs[5+i]); segments(disk) != n {
			t.Errorf("%d segments, want %d", segments(disk), n)
		}
	}
	for _, seq := range seqs {
		s.Ack(seq)
	}
	if segments(disk) != 1 {
		t.Errorf("%d segments, want the last", segments(disk))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("close again: %v, want ErrClosed", err)
	}
	if _, _, err := s.Append(nil, 0); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("append: %v, want ErrClosed", err)
	}
	if _, err := s.Read(seqs[0]); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("read: %v, want ErrClosed", err)
	}
}

// TestOpenFiles: however many segments there are, only the one that is written to is open.
func TestOpenFiles(t *testing.T) {
	disk := testdisk.New()
	config := spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 4 << 10, Sync: spool.Never, Log: zap.NewNop()}
	s := open(t, config, disk)
	want := map[spool.Seq]string{}
	for range 50 {
		record := strings.Repeat("x", 3000)
		want[mustAppend(t, s, record)] = record
	}
	if err := s.Sync(); err != nil || segments(disk) != 50 || disk.OpenFiles() != 1 {
		t.Errorf("%v; %d segments and %d open files, want 50 and 1", err, segments(disk), disk.OpenFiles())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = open(t, config, disk); disk.OpenFiles() != 0 {
		t.Errorf("%d open files after a restart, want none", disk.OpenFiles())
	}
	compare(t, s, want, 0)
}

// TestRun: records reach the disk as the policy says, and acknowledgements a file every second, whatever it says.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		policy        spool.Policy
		after         time.Duration
		saved, synced bool
	}{
		{spool.Policy(100 * time.Millisecond), 500 * time.Millisecond, false, true},
		{spool.Policy(100 * time.Millisecond), 1500 * time.Millisecond, true, true},
		{spool.Policy(time.Hour), 1500 * time.Millisecond, true, false},
		{spool.Never, 1500 * time.Millisecond, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			disk := testdisk.New()
			s := open(t, spool.Config{Dir: dir, MaxBytes: 1 << 20, Sync: c.policy, Log: zap.NewNop()}, disk)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.Run(ctx) }()
			s.Ack(mustAppend(t, s, "first"))
			mustAppend(t, s, "second")
			cursor := disk.Files()["cursor"]
			time.Sleep(c.after) // of the bubble's clock
			synctest.Wait()
			if saved := !bytes.Equal(disk.Files()["cursor"], cursor); saved != c.saved {
				t.Errorf("%+v: the acknowledgement is saved: %t", c, saved)
			}
			if synced := len(disk.AfterPowerLoss().Files()["0000000000000001.seg"]) > 0; synced != c.synced {
				t.Errorf("%+v: the records are on the disk: %t", c, synced)
			}
			if age := time.Since(s.Stats().Oldest); age < c.after || age > c.after+time.Second {
				t.Errorf("%+v: the oldest is %s old", c, age)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			compare(t, s, map[spool.Seq]string{2: "second"}, 0)
		})
	}
}

func TestMetrics(t *testing.T) {
	s := open(t, spool.Config{Dir: t.TempDir(), MaxBytes: 64 << 10, Log: zap.NewNop()}, testdisk.New())
	for _, size := range []int{30000, 10000, 30000} {
		if _, _, err := s.Append(make([]byte, size), 7); err != nil {
			t.Fatal(err)
		}
	}
	want := `
# HELP weir_spool_bytes Bytes of the spool's segments.
# TYPE weir_spool_bytes gauge
weir_spool_bytes 40120
# HELP weir_spool_records Records in the spool that wait to be delivered.
# TYPE weir_spool_records gauge
weir_spool_records 2
# HELP weir_spool_events Events in the spool that wait to be delivered.
# TYPE weir_spool_events gauge
weir_spool_events 14
# HELP weir_spool_evicted_records_total Records dropped because the spool was full.
# TYPE weir_spool_evicted_records_total counter
weir_spool_evicted_records_total 1
# HELP weir_spool_evicted_events_total Events dropped because the spool was full.
# TYPE weir_spool_evicted_events_total counter
weir_spool_evicted_events_total 7
# HELP weir_spool_damaged_records_total Records lost to damage on the disk.
# TYPE weir_spool_damaged_records_total counter
weir_spool_damaged_records_total 0
`
	err := testutil.CollectAndCompare(s, strings.NewReader(want), "weir_spool_bytes", "weir_spool_records", "weir_spool_events",
		"weir_spool_evicted_records_total", "weir_spool_evicted_events_total", "weir_spool_damaged_records_total")
	if err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestConcurrent: several writers and readers and a scrape at a time, on a spool that evicts.
func TestConcurrent(t *testing.T) {
	s := onDisk(t, t.TempDir(), 256<<10, spool.Never)
	const writers, each = 4, 500
	var writing, reading sync.WaitGroup
	var evicted atomic.Int64
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				_, e, err := s.Append(fmt.Appendf(nil, "%d-%d-%0500d", w, i, 0), 1)
				if err != nil {
					t.Error(err)
				}
				evicted.Add(e.Records)
			}
		})
	}
	stop := make(chan struct{})
	var delivered sync.Map
	for range 3 {
		reading.Go(func() {
			for after := spool.Seq(0); ; after = deliver(t, s, after, &delivered) {
				select {
				case <-stop:
					return
				default:
				}
				s.Stats()
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	for deliver(t, s, 0, &delivered) != 0 {
	}
	total := evicted.Load()
	delivered.Range(func(_, _ any) bool { total++; return true })
	if total < writers*each {
		t.Errorf("%d delivered or evicted, want %d", total, writers*each)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// deliver notes and acknowledges the first record behind after, and returns its position, or 0 if there is none.
func deliver(t *testing.T, s *spool.Spool, after spool.Seq, delivered *sync.Map) spool.Seq {
	seq, ok := s.Next(after)
	if !ok {
		return 0
	}
	record, err := s.Read(seq)
	if err == nil {
		delivered.Store(string(record), true)
		s.Ack(seq)
	} else if !errors.Is(err, spool.ErrGone) {
		t.Error(err)
	}
	return seq
}
