package deliver

import (
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

func TestFileThatCannotBeOpened(t *testing.T) {
	cfg := testConfig()
	cfg.Path = t.TempDir()
	d, _ := newTest(t, cfg)
	if err := d.Run(t.Context()); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("Run: %v, want that it is a directory", err)
	}
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
		if got := readBooks(d); got.retryWrt == 0 || got.held != 10 {
			t.Errorf("books: %+v, want write retries", got)
		}
		disk.room = 1 << 20
		d.Close()
		r.wait(t)
		if got, err := readLines([]byte(disk.String())); err != nil || !slices.Equal(got, sequence(0, 10)) {
			t.Errorf("written: %v (%v)", got, err)
		}
	})
}

// When the batch that was interrupted was pushed out meanwhile, only its torn line is lost to the reader.
func TestTornLineIsEnded(t *testing.T) {
	disk := &fullDisk{room: int(eventBytes) * 3 / 2}
	s := &writerSink{w: disk}
	first, second := testBatch(2), testBatch(2)
	second.ID = "second"
	for _, b := range []*Batch{first, second} { // no room for either
		if _, ok := errors.AsType[*RetryableError](s.send(context.Background(), b)); !ok {
			t.Errorf("batch %s: want an error that may be retried", b.ID)
		}
	}
	disk.room = 1 << 20
	if err := s.send(context.Background(), second); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(disk.String(), "\n")
	if len(lines) != 5 || lines[0]+lines[2]+lines[3] != string(first.Lines[:eventBytes])+string(second.Lines) {
		t.Errorf("written: %q", lines)
	}
}
