package agent

import (
	"math"
	"runtime/debug"

	"weir/internal/config"
)

// leastMemory is what Go may have at least, in bytes.
const leastMemory = 64 << 20

// limitMemory has Go's collector keep to half more than a full queue takes, which is nearly all that is ever in use. Left
// alone it lets memory grow to twice that before it looks for what is free. A limit from outside, GOMEMLIMIT, stays.
func limitMemory(s config.Settings) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	queue := int64(s.QueueMaxBytes)
	debug.SetMemoryLimit(max(queue+queue/2, leastMemory))
}
