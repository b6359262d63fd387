// Package stall turns a disk that hangs into one that fails. A system call that waits for a device or a file server cannot
// be called off; what it was called for can go on without it.
package stall

import (
	"errors"
	"io"
	"sync"
	"time"
)

// ErrStalled is what an act fails with that takes too long, and all others until that one has ended.
var ErrStalled = errors.New("the disk does not answer")

// Guard is for the acts on one disk. The one that hangs is also what finds out that the disk answers again: there are no
// more goroutines than acts that were begun when it still did.
type Guard struct {
	patience time.Duration

	mu      sync.Mutex
	overdue int         // acts that Do did not wait for
	kept    []io.Closer // until none is overdue
}

// New returns a guard that waits for an act that long.
func New(patience time.Duration) *Guard { return &Guard{patience: patience} }

// Stalled says that an act is overdue.
func (g *Guard) Stalled() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.overdue > 0
}

// Do calls act and returns its error, or ErrStalled: then act was not begun, or goes on, and may succeed late. So it must
// not share with the caller what either changes.
func (g *Guard) Do(act func() error) error {
	if g.Stalled() {
		return ErrStalled
	}
	return g.await(act)
}

// Close closes c. While the disk is stalled it does not wait for that, and c stays open until no act is overdue: if it is a
// lock, nobody else has it before the last act is done.
func (g *Guard) Close(c io.Closer) error {
	if g.keep(c) {
		return ErrStalled
	}
	return g.await(c.Close)
}

// keep takes c, if the disk is stalled.
func (g *Guard) keep(c io.Closer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.overdue == 0 {
		return false
	}
	g.kept = append(g.kept, c)
	return true
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
		g.mu.Lock()
		defer g.mu.Unlock()
		g.overdue++
		go func() {
			<-ended
			g.settle()
		}()
		return ErrStalled
	}
}

// settle is called when an act that was overdue has ended.
func (g *Guard) settle() {
	g.mu.Lock()
	g.overdue--
	var kept []io.Closer
	if g.overdue == 0 {
		kept, g.kept = g.kept, nil
	}
	g.mu.Unlock()
	for _, c := range kept {
		c.Close() // nobody waits for what it says
	}
}
