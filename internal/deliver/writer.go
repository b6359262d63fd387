package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
)

// writerSink writes batches as they are, one JSON object a line, to standard output or to the end of a file. When the
// file was moved away or removed, the next batch begins a new one.
type writerSink struct {
	path string                  // of the file; empty for standard output
	sync func(*os.File) error    // before a batch of the file is accepted; nil: nothing is done
	file atomic.Pointer[os.File] // nil for standard output; only write changes it, but may do so beside close
	w    io.Writer
	torn []byte // the line that the last write broke off in, as far as it came
}

func (s *writerSink) open() error {
	if s.path == "" {
		return nil
	}
	// Opening a FIFO that nobody reads blocks for ever without O_NONBLOCK, and fails with ENXIO with it (fifo(7)).
	file, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("write to AGENT_ENDPOINT_URL: %w", err)
	}
	s.file.Store(file)
	s.w = file
	return nil
}

// follow opens the file anew if its path leads to another one. The line that broke off in the old one is written whole to
// the new one.
func (s *writerSink) follow() error {
	old := s.file.Load()
	if old == nil {
		return nil
	}
	writing, err := old.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(s.path); err == nil && os.SameFile(writing, there) {
		return nil
	}
	if err := s.open(); err != nil {
		return err
	}
	s.torn = nil
	return old.Close()
}

func (s *writerSink) single() bool { return false }

func (s *writerSink) close() error {
	file := s.file.Load()
	if file == nil {
		return nil
	}
	return file.Close()
}

// send writes in a goroutine of its own, because a pipe whose reader is stuck blocks a write for ever, and the agent
// must be able to stop. The goroutine ends with the write.
func (s *writerSink) send(ctx context.Context, b *Batch) error {
	done := make(chan error, 1)
	go func() { done <- s.write(b.Lines) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write goes on within the line that was broken off, if lines begin with it. They do not if its event was given up
// meanwhile.
func (s *writerSink) write(lines []byte) error {
	if err := s.follow(); err != nil {
		return judgeWrite(err)
	}
	rest, same := bytes.CutPrefix(lines, s.torn)
	if !same {
		if _, err := s.w.Write([]byte{'\n'}); err != nil {
			return judgeWrite(err)
		}
		s.torn = nil
	}
	n, err := s.w.Write(rest)
	if err == nil && s.sync != nil {
		if err = s.sync(s.file.Load()); err != nil { // all of it may be missing, and is written once more
			n, s.torn = 0, nil
		}
	}
	written := lines[:len(s.torn)+n]
	whole := bytes.LastIndexByte(written, '\n') + 1
	s.torn = written[whole:]
	if err = judgeWrite(err); err != nil && whole > 0 {
		return &partialError{accepted: written[:whole], err: err}
	}
	return err
}

func judgeWrite(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return err // nobody reads any more, and nobody will
	default:
		return &retryableError{err: err, cause: causeWrite}
	}
}
