package agent

import "runtime/debug"

// spareMemory is how much more than what is in use Go's memory may be before its collector looks for what is free, in percent of
// it. Most of what is in use are batches, in which the collector has nothing to look for.
const spareMemory = 20

// tightenMemory has Go take less memory than it does by itself, at the price of a little of the processor. What GOGC says from
// outside stays.
func tightenMemory() {
	const byItself = 100
	if before := debug.SetGCPercent(spareMemory); before != byItself {
		debug.SetGCPercent(before)
	}
}
