package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"weir/internal/flow"
	"weir/internal/spool"
	"weir/internal/testdisk"
)

// Sealed tells the last event of each batch, in order, when it is on disk.
func TestSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []uint64
		var onDisk []int64
		var d *Deliverer
		s := &fakeSink{answer: func(context.Context, *Batch) error { return serverError() }}
		d, r, _ := newSpooled(t, s, func(cfg *Config) {
			cfg.Sealed = func(id flow.EventID) {
				told = append(told, id.Sequence)
				onDisk = append(onDisk, d.disk.spool.Stats().Pending.Events)
			}
		})
		addEvents(d, 0, 25)
		time.Sleep(time.Minute)
		addEvents(d, 25, 26)
		d.Close()
		r.wait(t)
		if want := []uint64{9, 19, 24, 25}; !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
		if want := []int64{10, 20, 25, 26}; !slices.Equal(onDisk, want) {
			t.Errorf("%v events on disk then, want %v", onDisk, want)
		}
	})
}

// What a disk failed to take is on it as soon as it works, whether more comes or the agent stops.
func TestHealedDiskTakesWhatItMissed(t *testing.T) {
	for _, later := range []int{0, 5, 100} {
		t.Run(fmt.Sprint(later), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var up atomic.Bool
				s := &fakeSink{one: true, answer: func(_ context.Context, b *Batch) error {
					if first, _ := readLines(b.Lines); !up.Load() && (first[0] < 10 || first[0] > 12) {
						return serverError()
					}
					return nil
				}}
				d, r, disk := newSpooled(t, s, func(cfg *Config) { cfg.QueueMaxBytes = 1000 * eventBytes })
				same := d.disk.cfg
				disk.Fail(syscall.ENOSPC, testdisk.Create, testdisk.Write)
				addEvents(d, 0, 100)
				time.Sleep(time.Minute)
				if got := readBooks(d); got.delivered != 3 || d.disk.events() != 0 {
					t.Fatalf("books: %+v", got)
				}
				disk.Heal()
				addEvents(d, 100, 100+later)
				time.Sleep(time.Minute)
				if on := d.disk.events(); later > 0 && on != 97+later {
					t.Errorf("%d events on disk, want %d", on, 97+later)
				}
				d.Close()
				r.wait(t)
				if got := readBooks(d); got.shutdown > 0 || got.held != 97+later {
					t.Errorf("books: %+v", got)
				}

				up.Store(true)
				next, r, _ := newSpooled(t, s, func(c *Config) { *c.Spool = same })
				time.Sleep(time.Minute)
				next.Close()
				r.wait(t)
				if slices.Sort(s.got); !slices.Equal(s.got, sequence(0, 100+later)) {
					t.Errorf("delivered: %v", s.got)
				}
			})
		})
	}
}

// What another version of weir may have written is dropped, and counted.
func TestUnreadableRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		dir := t.TempDir()
		left, err := spool.Open(spool.Config{Dir: dir, MaxBytes: 1 << 20, FS: disk, Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range []string{"\x02later", string(appendRecord(nil, testBatch(3), time.Now()))} {
			if _, _, err := left.Append([]byte(record), 3); err != nil {
				t.Fatal(err)
			}
		}
		if err := left.Close(); err != nil {
			t.Fatal(err)
		}
		s := new(fakeSink)
		d, r, _ := newSpooled(t, s, func(cfg *Config) { cfg.Spool.Dir, cfg.Spool.FS = dir, disk })
		synctest.Wait()
		wantBooks(t, d, books{recovered: 6, unreadable: 3, delivered: 3, batchDelivered: 1})
		d.Close()
		r.wait(t)
	})
}

// The quota pushes out of the spool what is in memory as well: that is not lost.
func TestEvictedWhileInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(counting)
		s := &fakeSink{answer: c.answer}
		d, r, _ := newSpooled(t, s, func(cfg *Config) { cfg.Spool.MaxBytes = 128 << 10 })
		addEvents(d, 0, 500) // 250 KiB, all of which memory has room for
		time.Sleep(time.Minute)
		if got := readBooks(d); got.held != 500 || d.disk.events() > 260 {
			t.Errorf("books: %+v, %d on disk", got, d.disk.events())
		}
		c.up.Store(true)
		d.Close()
		r.wait(t)
		wantBooks(t, d, books{delivered: 500, batchDelivered: 50, retryServer: readBooks(d).retryServer})
	})
}

// A batch that goes with its segment between its turn and its reading is dropped, and counted once.
func TestEvictedBeforeItIsRead(t *testing.T) {
	cfg := testConfig()
	cfg.QueueMaxBytes = 20 * eventBytes
	cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 128 << 10, FS: testdisk.New()}
	d, _ := newTest(t, cfg)
	if err := d.Open(); err != nil {
		t.Fatal(err)
	}
	addEvents(d, 0, 100)
	d.queue.turn = 99 // it is the backlog's
	f, _ := d.queue.next()
	if f == nil || f.Batch != nil {
		t.Fatal("next: want a batch that is on disk only")
	}
	addEvents(d, 100, 800)
	if d.queue.load(f) {
		t.Error("it was read")
	}
	d.queue.release(f, nil, 0)
	if got := readBooks(d); got.events() != 800 || got.spoolFull == 0 {
		t.Errorf("books: %+v", got)
	}
	d.Close()
	if err := newSender(d).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readBooks(d); got.events() != 800 || got.held > 0 {
		t.Errorf("books: %+v", got)
	}
	if err := d.end(nil); err != nil {
		t.Error(err)
	}
}

// A batch that goes with its segment just after it was delivered is booked once.
func TestEvictedAfterItIsDelivered(t *testing.T) {
	cfg := testConfig()
	cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 128 << 10, FS: testdisk.New()}
	d, _ := newTest(t, cfg)
	if err := d.Open(); err != nil {
		t.Fatal(err)
	}
	addEvents(d, 0, 10)
	f, _ := d.queue.next()
	d.queue.accept(f, f.Batch)
	addEvents(d, 10, 800)
	d.queue.release(f, nil, 0)
	if got := readBooks(d); got.events() != 800 || got.delivered != 10 {
		t.Errorf("books: %+v", got)
	}
	d.Close()
	if err := newSender(d).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if unsaved, saved := d.queue.remaining(); unsaved || saved || d.queue.copies.Load() != 0 {
		t.Errorf("unsaved %v, saved %v, %d copies remain", unsaved, saved, d.queue.copies.Load())
	}
	if err := d.end(nil); err != nil {
		t.Error(err)
	}
}

// Whatever the Brain and the disk do, every event is accounted for once, and what was delivered was delivered once.
func TestSpooledBooksBalance(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			var mood atomic.Int32
			s := &fakeSink{answer: func(ctx context.Context, _ *Batch) error {
				switch mood.Load() {
				case 1:
					return serverError()
				case 2:
					return &refusedError{err: io.ErrNoProgress, reason: reasonRejected}
				case 3:
					time.Sleep(time.Second)
				}
				return ctx.Err()
			}}
			d, r, disk := newSpooled(t, s, func(cfg *Config) {
				cfg.Concurrency = 1 + random.IntN(3)
				cfg.QueueMaxBytes = int64(20+random.IntN(200)) * eventBytes
				cfg.Spool.MaxBytes = 64<<10 + random.Int64N(256<<10)
				cfg.MaxAge = time.Duration(random.IntN(2)) * time.Minute
			})
			added := 0
			for range 100 {
				mood.Store(random.Int32N(4))
				disk.Heal()
				if random.IntN(3) == 0 {
					disk.Fail(syscall.ENOSPC, testdisk.Create, testdisk.Write)
				}
				n := random.IntN(100)
				addEvents(d, added, added+n)
				added += n
				time.Sleep(time.Duration(random.Int64N(int64(10 * time.Second))))
				synctest.Wait()
				if got := readBooks(d); got.events() != added {
					t.Fatalf("seed %d: books of %d events: %+v", seed, added, got)
				}
			}
			mood.Store(0)
			disk.Heal()
			time.Sleep(time.Minute)
			d.Close()
			r.wait(t)
			got := readBooks(d)
			if slices.Sort(s.got); got.held > 0 || got.events() != added || len(s.got) != got.delivered || len(slices.Compact(s.got)) != got.delivered {
				t.Errorf("seed %d: %d of %d events delivered, books: %+v", seed, len(s.got), added, got)
			}
			if bytes, events, copies := d.queue.bytes.Load(), d.queue.events.Load(), d.queue.copies.Load(); bytes != 0 || events != 0 || copies != 0 {
				t.Errorf("seed %d: %d bytes, %d events, %d copies in memory", seed, bytes, events, copies)
			}
		})
	}
}

// Two agents must not share a spool.
func TestSpoolInUse(t *testing.T) {
	cfg := testConfig()
	cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20}
	d, _ := newTest(t, cfg)
	r := run(d)
	other, _ := newTest(t, cfg)
	if err := other.Open(); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("Open: %v, want it to be in use", err)
	}
	d.Close()
	r.wait(t)
}

// What was put aside or written to a file is on the disk before its record is let go, if records are to be.
func TestFilesAreSyncedBeforeTheirRecordsGo(t *testing.T) {
	for _, policy := range []spool.Policy{spool.Always, spool.Policy(time.Second), spool.Never} {
		for _, toFile := range []bool{false, true} {
			t.Run(fmt.Sprint(time.Duration(policy), toFile), func(t *testing.T) {
				cfg := testConfig()
				cfg.URL, cfg.QuarantinePath = parseURL("http://brain"), filepath.Join(t.TempDir(), "quarantine")
				if toFile {
					cfg.URL, cfg.Path = nil, filepath.Join(t.TempDir(), "events")
				}
				cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Sync: policy, FS: testdisk.New()}
				d, _ := newTest(t, cfg)
				var synced []string // what the file held then, and how much the spool
				record := func(sync func(*os.File) error) func(*os.File) error {
					if sync == nil {
						return nil
					}
					return func(file *os.File) error {
						content, err := os.ReadFile(file.Name())
						synced = append(synced, fmt.Sprint(bytes.Count(content, []byte{'\n'}), d.disk.events()))
						return errors.Join(err, sync(file))
					}
				}
				if toFile {
					sink := d.sink.(*writerSink)
					sink.sync = record(sink.sync)
				} else {
					d.sink = &fakeSink{answer: func(context.Context, *Batch) error {
						return &refusedError{err: io.ErrNoProgress, reason: reasonRejected}
					}}
					d.quarantine.sync = record(d.quarantine.sync)
				}
				r := run(d)
				addEvents(d, 0, 10)
				d.Close()
				r.wait(t)
				want := []string{"10 10"}
				if policy == spool.Never {
					want = nil
				}
				if !slices.Equal(synced, want) {
					t.Errorf("synced %q (events in the file, in the spool), want %q", synced, want)
				}
			})
		}
	}
}

// A start that fails at the last lets go of the spool.
func TestSpoolIsClosedIfItsMetricsAreTaken(t *testing.T) {
	cfg := testConfig()
	cfg.Spool = &spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20}
	d, _ := newTest(t, cfg)
	other, err := spool.Open(spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := d.reg.Register(other); err != nil {
		t.Fatal(err)
	}
	if err := d.Open(); err == nil || !strings.Contains(err.Error(), "register the spool's metrics") {
		t.Fatalf("Open: %v", err)
	}
	next, _ := newTest(t, cfg)
	r := run(next)
	next.Close()
	r.wait(t)
}

// A disk that does not give a record back now may do so later.
func TestUnreadRecordIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(counting)
		s := &fakeSink{answer: c.answer}
		d, r, disk := newSpooled(t, s, func(cfg *Config) { cfg.QueueMaxBytes = 20 * eventBytes })
		addEvents(d, 0, 100)
		disk.Fail(syscall.EIO, testdisk.Read)
		c.up.Store(true)
		time.Sleep(time.Minute)
		got := readBooks(d)
		if got.delivered == 0 || got.held == 0 || got.events() != 100 {
			t.Errorf("books: %+v", got)
		}
		disk.Heal()
		time.Sleep(maxBackoff)
		wantBooks(t, d, books{delivered: 100, batchDelivered: 20, retryServer: got.retryServer})
		d.Close()
		r.wait(t)
	})
}
