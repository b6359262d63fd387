package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"weir/internal/flow"
)

func TestAwaitSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := flow.EventID{Instance: 1, Sequence: 1}, flow.EventID{Instance: 1, Sequence: 9}
		s := newSealed()
		if err := s.await(t.Context(), flow.EventID{}); err != nil {
			t.Error("no event:", err)
		}
		begin := time.Now()
		time.AfterFunc(time.Second, func() { s.note(first) })
		time.AfterFunc(2*time.Second, func() { s.note(second) })
		if err := s.await(t.Context(), second); err != nil || time.Since(begin) != 2*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if err := s.await(t.Context(), second); err != nil {
			t.Error("once more:", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.await(ctx, first); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
		}
	})
}
