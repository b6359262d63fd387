package stall

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// closer tells when it is closed.
type closer chan struct{}

func (c closer) Close() error {
	close(c)
	return nil
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 4 * time.Second
		g := New(patience)
		answers, failure := make(chan struct{}), errors.New("input/output error")
		hang := func() error {
			<-answers
			return nil
		}
		if err := g.Do(func() error { time.Sleep(patience - 1); return failure }); !errors.Is(err, failure) || g.Stalled() {
			t.Errorf("an act that takes its time: %v, stalled %v", err, g.Stalled())
		}
		others := make(chan error, 1)
		go func() { others <- g.Do(hang) }()
		start := time.Now()
		if err := g.Do(hang); !errors.Is(err, ErrStalled) || time.Since(start) != patience {
			t.Errorf("an act that hangs: %v after %s", err, time.Since(start))
		}
		if err := <-others; !errors.Is(err, ErrStalled) {
			t.Errorf("another that hangs: %v", err)
		}
		file := make(closer)
		for range 1000 {
			if err := g.Do(func() error { t.Error("begun on a disk that hangs"); return nil }); !errors.Is(err, ErrStalled) {
				t.Errorf("an act meanwhile: %v", err)
			}
		}
		if err := g.Close(file); !errors.Is(err, ErrStalled) || time.Since(start) != patience {
			t.Errorf("meanwhile: %v, %s later", err, time.Since(start)-patience)
		}
		answers <- struct{}{}
		synctest.Wait()
		if !g.Stalled() {
			t.Error("one of two acts that hang has ended: not stalled any more")
		}
		select {
		case <-file:
			t.Error("closed before the other has ended")
		default:
		}
		answers <- struct{}{}
		<-file
		if err := g.Do(func() error { return failure }); !errors.Is(err, failure) {
			t.Errorf("when all have ended: %v", err)
		}
		file = make(closer)
		if err := g.Close(file); err != nil {
			t.Error(err)
		}
		<-file
	})
}
