package spool_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"weir/internal/spool"
	"weir/internal/testdisk"
)

// stored is what the model knows of a record.
type stored struct {
	payload []byte
	events  int
}

// model is what a spool shall be: the specification. It runs a spool beside a map.
type model struct {
	config  spool.Config
	disk    *testdisk.Disk
	spool   *spool.Spool
	waiting map[spool.Seq]stored // appended and not settled
	acked   map[spool.Seq]stored // acknowledged: a crash may bring them back
	evicted map[spool.Seq]stored // likewise
	last    spool.Seq
}

func (m *model) open(t *rapid.T, disk *testdisk.Disk) {
	m.disk, m.config.FS = disk, disk
	s, err := spool.Open(m.config)
	if err != nil {
		t.Fatal(err)
	}
	m.spool = s
}

func (m *model) sequence() []spool.Seq { return slices.Sorted(maps.Keys(m.waiting)) }

// pick returns a record that waits.
func (m *model) pick(t *rapid.T) spool.Seq {
	if len(m.waiting) == 0 {
		t.Skip("nothing waits")
	}
	return rapid.SampledFrom(m.sequence()).Draw(t, "seq")
}

func (m *model) Append(t *rapid.T) {
	size := rapid.OneOf(rapid.IntRange(0, 2000), rapid.IntRange(8<<10, 40<<10)).Draw(t, "size")
	events := rapid.IntRange(0, 500).Draw(t, "events")
	payload := bytes.Repeat([]byte{byte(m.last)}, size)
	seq, evicted, err := m.spool.Append(payload, events)
	if err != nil {
		t.Fatal(err)
	}
	if seq <= m.last {
		t.Fatalf("record %d comes after %d", seq, m.last)
	}
	var want spool.Count
	for old, r := range m.waiting {
		if old <= evicted.Last {
			want.Records++
			want.Events += int64(r.events)
			m.evicted[old] = r
			delete(m.waiting, old)
		}
	}
	if evicted.Count != want {
		t.Fatalf("evicted %+v up to %d, want %+v", evicted.Count, evicted.Last, want)
	}
	m.waiting[seq], m.last = stored{payload, events}, seq
	if size := m.spool.Stats().Bytes; size > m.config.MaxBytes {
		t.Fatalf("the spool has %d bytes, allowed are %d", size, m.config.MaxBytes)
	}
}

func (m *model) Read(t *rapid.T) {
	seq := m.pick(t)
	got, err := m.spool.Read(seq)
	if err != nil || !bytes.Equal(got, m.waiting[seq].payload) {
		t.Fatalf("record %d is %d bytes and %v, want %d bytes", seq, len(got), err, len(m.waiting[seq].payload))
	}
}

func (m *model) ReadSettled(t *rapid.T) {
	seq := spool.Seq(rapid.Uint64Range(0, uint64(m.last)+2).Draw(t, "seq"))
	if _, waits := m.waiting[seq]; waits {
		t.Skip("it waits")
	}
	if _, err := m.spool.Read(seq); !errors.Is(err, spool.ErrGone) {
		t.Fatalf("record %d: %v, want ErrGone", seq, err)
	}
	m.spool.Ack(seq)
}

func (m *model) Ack(t *rapid.T) {
	seq := m.pick(t)
	m.spool.Ack(seq)
	m.acked[seq] = m.waiting[seq]
	delete(m.waiting, seq)
}

// AckOldest lets segments become free, as a sender does.
func (m *model) AckOldest(t *rapid.T) {
	for _, seq := range m.sequence()[:len(m.waiting)/2] {
		m.spool.Ack(seq)
		m.acked[seq] = m.waiting[seq]
		delete(m.waiting, seq)
	}
}

func (m *model) Tend(t *rapid.T) {
	if err := m.spool.Sync(); err != nil {
		t.Fatal(err)
	}
}

func (m *model) Reopen(t *rapid.T) {
	if err := m.spool.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t, m.disk)
}

// Kill ends the process without Close. Nothing is lost; what was settled lately may come back.
func (m *model) Kill(t *rapid.T) {
	disk := m.disk.AfterKill()
	if rapid.Bool().Draw(t, "without the cursor") {
		disk.Remove("cursor")
		disk.Sync()
	}
	m.crash(t, disk)
}

// PowerLoss loses what was not synced: with Always, nothing.
func (m *model) PowerLoss(t *rapid.T) { m.crash(t, m.disk.AfterPowerLoss()) }

func (m *model) crash(t *rapid.T, disk *testdisk.Disk) {
	if err := m.spool.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t, disk)
	for seq, ok := m.spool.Next(0); ok; seq, ok = m.spool.Next(seq) {
		for _, settled := range []map[spool.Seq]stored{m.acked, m.evicted} {
			if r, known := settled[seq]; known {
				m.waiting[seq] = r
				delete(settled, seq)
			}
		}
	}
	if damaged := m.spool.Stats().Damaged; damaged.Events > 0 {
		t.Fatalf("damaged: %+v", damaged)
	}
}

// Check runs after each action.
func (m *model) Check(t *rapid.T) {
	var got []spool.Seq
	for seq, ok := m.spool.Next(0); ok; seq, ok = m.spool.Next(seq) {
		got = append(got, seq)
	}
	if want := m.sequence(); !slices.Equal(got, want) {
		t.Fatalf("records %d wait, want %d", got, want)
	}
	stats := m.spool.Stats()
	want := spool.Count{Records: int64(len(m.waiting))}
	for _, r := range m.waiting {
		want.Events += int64(r.events)
	}
	if stats.Pending != want {
		t.Fatalf("pending %+v, want %+v", stats.Pending, want)
	}
	if stats.Oldest.IsZero() != (len(got) == 0) {
		t.Fatalf("%d records wait, the oldest since %s", len(got), stats.Oldest)
	}
	var size int64
	for name, data := range m.disk.Files() {
		if name != "cursor" {
			size += int64(len(data))
		}
	}
	if size != stats.Bytes {
		t.Fatalf("the segments have %d bytes, the spool says %d", size, stats.Bytes)
	}
}

func TestModel(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			config:  spool.Config{Dir: dir, MaxBytes: 64 << 10, SegmentBytes: 8 << 10, Sync: spool.Always, Log: zap.NewNop()},
			waiting: map[spool.Seq]stored{}, acked: map[spool.Seq]stored{}, evicted: map[spool.Seq]stored{},
		}
		m.open(t, testdisk.New())
		defer func() { m.spool.Close() }() // if it fails: the directory is for the next
		t.Repeat(rapid.StateMachineActions(m))
		if err := m.spool.Close(); err != nil {
			t.Fatal(err)
		}
		if n := m.disk.OpenFiles(); n != 0 {
			t.Fatalf("%d files stay open", n)
		}
	})
}
