package agent

import (
	"context"
	"fmt"
	"sync/atomic"

	"weir/internal/flow"
)

// sealed knows which event is the last that delivery has in a complete batch.
type sealed struct {
	last atomic.Pointer[flow.EventID]
	news chan struct{} // has a token when last is another
}

func newSealed() *sealed {
	s := &sealed{news: make(chan struct{}, 1)}
	s.last.Store(&flow.EventID{})
	return s
}

func (s *sealed) note(id flow.EventID) {
	s.last.Store(&id)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// await waits until the event is sealed, with none added after it. The zero ID, of no event, is at once.
func (s *sealed) await(ctx context.Context, id flow.EventID) error {
	for id != (flow.EventID{}) && id != *s.last.Load() {
		select {
		case <-s.news:
		case <-ctx.Done():
			return fmt.Errorf("wait until its events are safe: %w", ctx.Err())
		}
	}
	return nil
}
