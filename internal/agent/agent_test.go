package agent

import (
	"io"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/internal/config"
)

// TestNothingGivenUpAfterAStop: once a stop has settled what is left, an impatient end loses none of it, and says nothing.
func TestNothingGivenUpAfterAStop(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	a := New(config.Settings{}, Build{}, io.Discard, zap.New(core))
	a.working.Store(true)
	a.settled = true
	a.GiveUp()
	if logs.Len() != 0 {
		t.Errorf("logged %v", logs.All())
	}
}
