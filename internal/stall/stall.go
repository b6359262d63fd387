// Package stall turns a disk that hangs into one that fails. A system call that waits for a device or a file server cannot
// be called off; what it was called for can go on without it.
package stall

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// ErrStalled is what an act fails with that takes too long, and all others until that one has ended.
var ErrStalled = errors.New("the disk does not answer")

// Guard is for the acts on one disk. The one that hangs is also what finds out that the disk answers again: there are no
// more goroutines than acts that were begun when it still did.
type Guard struct {
	patience time.Duration
	overdue  atomic.Int32 // acts that Do did not wait for
}

// New returns a guard that waits for an act that long.
func New(patience time.Duration) *Guard { return &Guard{patience: patience} }

// Stalled says that an act is overdue.
func (g *Guard) Stalled() bool { return g.overdue.Load() > 0 }

// Do calls act and returns its error, or ErrStalled: then act was not begun, or goes on, and may succeed late. So it must
// not share with the caller what either changes.
func (g *Guard) Do(act func() error) error {
	if g.Stalled() {
		return ErrStalled
	}
	return g.await(act)
}

// Close closes c even while the disk is stalled. Then it does not wait for it.
func (g *Guard) Close(c io.Closer) error {
	if g.Stalled() {
		go c.Close()
		return ErrStalled
	}
	return g.await(c.Close)
}

func (g *Guard) await(act func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- act() }()
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		g.overdue.Add(1)
		go func() {
			<-ended
			g.overdue.Add(-1)
		}()
		return ErrStalled
	}
}
