package spool_test

import (
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/internal/spool"
)

const batchEvents = 500 // of 300 bytes each

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name   string
		size   int
		events int
		policy spool.Policy
	}{
		{"batch of 500 events, never synced", batchEvents * 300, batchEvents, spool.Never},
		{"32 KiB, never synced", 32 << 10, 1, spool.Never},
		{"256 B, never synced", 256, 1, spool.Never},
		{"32 KiB, always synced", 32 << 10, 1, spool.Always},
		{"256 B, always synced", 256, 1, spool.Always},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := onDisk(b, b.TempDir(), 1<<30, c.policy)
			defer s.Close()
			record := make([]byte, c.size)
			b.SetBytes(int64(c.size))
			before := cpuTime(b)
			for b.Loop() {
				seq, _, err := s.Append(record, c.events)
				if err != nil {
					b.Fatal(err)
				}
				s.Ack(seq) // soon, as while the Brain keeps up
			}
			b.ReportMetric(float64(b.N*c.events)/(cpuTime(b)-before).Seconds(), "events/s-of-CPU")
		})
	}
}

// cpuTime returns what this process has used of all cores, in the kernel too: others may use them as well.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// fill writes so many bytes of records of a size, and leaves them there.
func fill(b *testing.B, dir string, total, size int) {
	s := onDisk(b, dir, 2<<30, spool.Never)
	record := make([]byte, size)
	for range total / size {
		if _, _, err := s.Append(record, batchEvents); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDrain(b *testing.B) {
	const size, records = batchEvents * 300, 1000
	b.SetBytes(size * records)
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		fill(b, dir, size*records, size)
		s := onDisk(b, dir, 2<<30, spool.Never)
		b.StartTimer()
		for seq, ok := s.Next(0); ok; seq, ok = s.Next(seq) {
			if _, err := s.Read(seq); err != nil {
				b.Fatal(err)
			}
			s.Ack(seq)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*records*batchEvents)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOpen opens a spool of 1 GiB.
func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"batches of 500 events", batchEvents * 300}, {"single events", 300}} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			fill(b, dir, 1<<30, c.size)
			for b.Loop() {
				s, err := spool.Open(spool.Config{Dir: dir, MaxBytes: 2 << 30, Sync: spool.Never, Log: zap.NewNop()})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
