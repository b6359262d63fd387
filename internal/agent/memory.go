package agent

import (
	"math"
	"runtime/debug"

	"weir/internal/config"
)

const (
	leastMemory      = 64 << 20 // bytes, what Go may have at least
	connectionMemory = 2 << 10  // bytes, of a connection with its fingerprints
)

// limitMemory has Go's collector keep to half more than a full queue and as many connections as are known at a time take, which is
// nearly all that is ever in use. Left alone it lets memory grow to twice that before it looks for what is free, and with less it
// does little else. A limit from outside, GOMEMLIMIT, stays.
func limitMemory(s config.Settings) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	used := int64(s.QueueMaxBytes)
	if len(s.Fingerprints) > 0 {
		used += int64(connectionsKnown(s)) * connectionMemory
	}
	debug.SetMemoryLimit(max(used+used/2, leastMemory))
}
