package deliver

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

// writerSink writes batches as they are, one JSON object a line, to standard output or to the end of a file. The file
// is opened once: rotate it by copying and truncating.
type writerSink struct {
	path string   // of the file; empty for standard output
	file *os.File // nil for standard output
	w    io.Writer

	// A write may fail in the middle: the next try goes on behind what was written.
	id      string // of the batch written last
	written int    // bytes of it
	torn    bool   // they end within a line
}

func (s *writerSink) open() error {
	if s.path == "" {
		return nil
	}
	var err error
	s.file, err = os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	s.w = s.file
	return err
}

func (s *writerSink) single() bool { return false }

func (s *writerSink) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// send writes in a goroutine of its own, because a pipe whose reader is stuck blocks a write for ever, and the agent
// must be able to stop. The goroutine ends with the write.
func (s *writerSink) send(ctx context.Context, b *Batch) error {
	done := make(chan error, 1)
	go func() { done <- s.write(b) }()
	select {
	case err := <-done:
		return judgeWrite(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *writerSink) write(b *Batch) error {
	if s.id != b.ID {
		if s.torn { // the batch before was given up in the middle of a line
			if _, err := s.w.Write([]byte{'\n'}); err != nil {
				return err
			}
		}
		s.id, s.written, s.torn = b.ID, 0, false
	}
	n, err := s.w.Write(b.Lines[s.written:])
	s.written += n
	s.torn = s.written > 0 && b.Lines[s.written-1] != '\n'
	return err
}

func judgeWrite(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return err // nobody reads any more, and nobody will
	default:
		return &RetryableError{Err: err, cause: causeWrite}
	}
}
