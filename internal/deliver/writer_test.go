package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFileIsAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	for i := range 2 {
		cfg := testConfig()
		cfg.Path = path
		d, _ := newTest(t, cfg)
		if _, err := os.Stat(path); (err == nil) != (i == 1) {
			t.Fatalf("New opened the file: %v", err)
		}
		r := run(d)
		addEvents(d, i*25, (i+1)*25)
		d.Close()
		r.wait(t)
		wantBooks(t, d, books{delivered: 25, batchDelivered: 3})
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readLines(content); err != nil || !slices.Equal(got, sequence(0, 50)) {
		t.Errorf("the file holds %v (%v)", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
}

// Whichever way a file is rotated, every event is in the old one or in the new one.
func TestFileIsRotated(t *testing.T) {
	rotate := map[string]func(path string) error{
		"moved":   func(path string) error { return os.Rename(path, path+".1") },
		"removed": os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o640))
		},
		"copied and truncated": func(path string) error { return os.Truncate(path, 0) },
	}
	for name, rotate := range rotate {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Path = filepath.Join(t.TempDir(), "events")
			d, _ := newTest(t, cfg)
			r := run(d)
			addEvents(d, 0, 10)
			eventually(t, "the first batch", func() bool { return readBooks(d).delivered == 10 })
			if err := rotate(cfg.Path); err != nil {
				t.Fatal(err)
			}
			addEvents(d, 10, 30)
			d.Close()
			r.wait(t)
			wantLines(t, cfg.Path, 10, 30)
			if _, err := os.Stat(cfg.Path + ".1"); err == nil {
				wantLines(t, cfg.Path+".1", 0, 10)
			}
			wantBooks(t, d, books{delivered: 30, batchDelivered: 3})
		})
	}
}

func wantLines(t *testing.T, path string, from, to int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readLines(content); err != nil || !slices.Equal(got, sequence(from, to)) {
		t.Errorf("%s holds %v (%v), want %d to %d", filepath.Base(path), got, err, from, to-1)
	}
}

// While a new file cannot be made, events wait, and nothing is written to one that is gone.
func TestFileThatCannotBeOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "dir")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cfg := testConfig()
		cfg.Path = filepath.Join(dir, "events")
		d, _ := newTest(t, cfg)
		r := run(d)
		if err := os.Rename(dir, dir+".old"); err != nil {
			t.Fatal(err)
		}
		addEvents(d, 0, 10)
		time.Sleep(time.Minute)
		if ok, reason := d.Status(); ok || !strings.Contains(reason, "no such file") {
			t.Errorf("Status: %v, %s", ok, reason)
		}
		if err := os.Rename(dir+".old", dir); err != nil {
			t.Fatal(err)
		}
		d.Close()
		r.wait(t)
		wantLines(t, cfg.Path, 0, 10)
	})
}

// A line that broke off in the file that was moved away is whole in the new one.
func TestTornLineIsWholeInTheNextFile(t *testing.T) {
	s := &writerSink{path: filepath.Join(t.TempDir(), "events")}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	b := testBatch(2)
	s.torn = b.Lines[:10]
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	if err := s.write(b.Lines); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	wantLines(t, s.path, 0, 2)
}

func TestFileThatCannotBeOpened(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo") // nobody reads it
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]syscall.Errno{
		t.TempDir():                           syscall.EISDIR,
		fifo:                                  syscall.ENXIO,
		filepath.Join(t.TempDir(), "no", "f"): syscall.ENOENT,
	}
	for path, want := range tests {
		cfg := testConfig()
		cfg.Path = path
		d, _ := newTest(t, cfg)
		err := d.Open()
		if text := "start delivery: write to AGENT_ENDPOINT_URL: open " + path + ": " + want.Error(); !errors.Is(err, want) || err.Error() != text {
			t.Errorf("Open: %v, want %s", err, text)
		}
	}
}

// A FIFO that is read is as good as a file, and one whose reader leaves ends Run.
func TestFIFO(t *testing.T) {
	cfg := testConfig()
	cfg.Path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(cfg.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(cfg.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	d, _ := newTest(t, cfg)
	r := run(d)
	addEvents(d, 0, 1000) // more than the pipe holds
	content := make([]byte, 0, 1<<20)
	for bytes.Count(content, []byte{'\n'}) < 1000 {
		n, err := reader.Read(content[len(content):cap(content)])
		if err != nil {
			t.Fatal(err)
		}
		content = content[:len(content)+n]
	}
	if got, err := readLines(content); err != nil || !slices.Equal(got, sequence(0, 1000)) {
		t.Errorf("read %d events (%v)", len(got), err)
	}
	eventually(t, "all delivered", func() bool { return readBooks(d).delivered == 1000 })
	_ = reader.Close()
	addEvents(d, 0, 10)
	if err := <-r.done; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Run: %v, want a broken pipe", err)
	}
	wantBooks(t, d, books{delivered: 1000, shutdown: 10, batchDelivered: 100, batchDropped: 1})
}

func TestClosedStdoutEndsRun(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	_ = reader.Close()
	cfg := testConfig()
	cfg.Stdout = writer
	d, _ := newTest(t, cfg)
	addEvents(d, 0, 15)
	if err := d.Run(t.Context()); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Run: %v, want a broken pipe", err)
	}
	wantBooks(t, d, books{shutdown: 15, batchDropped: 2})
}

// A reader that does not read must not keep the agent from stopping.
func TestStuckStdoutStops(t *testing.T) {
	reader, writer := io.Pipe()
	defer reader.Close() // ends the write
	cfg := testConfig()
	cfg.Stdout = writer
	d, _ := newTest(t, cfg)
	r := run(d)
	addEvents(d, 0, 10)
	if _, err := reader.Read(make([]byte, 1)); err != nil { // the write began
		t.Fatal(err)
	}
	r.stop()
	r.wait(t)
	wantBooks(t, d, books{shutdown: 10, batchDropped: 1})
}

// fullDisk takes so many bytes, then fails until it is given room again.
type fullDisk struct {
	strings.Builder
	room int
}

func (w *fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	w.Builder.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func TestInterruptedWriteIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fullDisk{room: int(eventBytes) * 5 / 2}
		cfg := testConfig()
		cfg.Stdout = disk
		d, _ := newTest(t, cfg)
		r := run(d)
		addEvents(d, 0, 10)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := readBooks(d); got.retryWrt == 0 || got.delivered != 2 || got.held != 8 {
			t.Errorf("books: %+v, want write retries of what was not written", got)
		}
		disk.room = 1 << 20
		d.Close()
		r.wait(t)
		if got, err := readLines([]byte(disk.String())); err != nil || !slices.Equal(got, sequence(0, 10)) {
			t.Errorf("written: %v (%v)", got, err)
		}
	})
}

// When the rest of the batch that was interrupted is given up, what was written of it counts, and only its torn line is
// lost to the reader.
func TestTornLineIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &fullDisk{room: int(eventBytes) * 3 / 2}
		cfg := testConfig()
		cfg.Stdout, cfg.BatchSize, cfg.QueueMaxBytes = disk, 2, 5*eventBytes
		d, _ := newTest(t, cfg)
		r := run(d)
		addEvents(d, 0, 2)
		time.Sleep(time.Minute)
		addEvents(d, 2, 7) // pushes 1 out
		time.Sleep(time.Minute)
		if got := readBooks(d); got.delivered != 1 || got.queueFull != 1 || got.batchPartial != 1 || got.held != 5 {
			t.Errorf("books: %+v", got)
		}
		disk.room = 1 << 20
		d.Close()
		r.wait(t)
		lines := strings.SplitAfter(disk.String(), "\n")
		if len(lines) != 8 || lines[1] != string(testBatch(2).Lines[eventBytes:eventBytes*3/2])+"\n" {
			t.Fatalf("written: %q", lines)
		}
		whole := lines[0] + strings.Join(lines[2:], "")
		if got, err := readLines([]byte(whole)); err != nil || !slices.Equal(got, []int{0, 2, 3, 4, 5, 6}) {
			t.Errorf("written: %v (%v)", got, err)
		}
	})
}

// What went into a pipe before its reader left was delivered.
func TestGoneInTheMiddleOfABatch(t *testing.T) {
	d, s := newFake(t, testConfig())
	gone := errors.New("broken pipe")
	s.answer = func(_ context.Context, b *Batch) error {
		return &partialError{accepted: b.Lines[:3*eventBytes], err: gone}
	}
	addEvents(d, 0, 10)
	if err := d.Run(t.Context()); !errors.Is(err, gone) {
		t.Errorf("Run: %v", err)
	}
	wantBooks(t, d, books{delivered: 3, shutdown: 7, batchPartial: 1})
}

// What the disk may not have kept is written once more.
func TestFileThatCannotBeSynced(t *testing.T) {
	for fault, written := range map[error]int{syscall.EIO: 20, nil: 10} {
		cfg := testConfig()
		cfg.Path = filepath.Join(t.TempDir(), "events")
		d, _ := newTest(t, cfg)
		syncs := 0
		d.sink.(*writerSink).sync = func(*os.File) error {
			if syncs++; syncs == 1 {
				return fault
			}
			return nil
		}
		r := run(d)
		addEvents(d, 0, 10)
		d.Close()
		r.wait(t)
		content, err := os.ReadFile(cfg.Path)
		if n := bytes.Count(content, []byte{'\n'}); n != written || err != nil {
			t.Errorf("%v: %d lines written (%v), want %d", fault, n, err, written)
		}
		wantBooks(t, d, books{delivered: 10, batchDelivered: 1, retryWrt: written/10 - 1})
	}
}
