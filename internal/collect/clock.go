package collect

import (
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock is the Clock that the kernel's timestamps were taken from.
func SystemClock() (monotonic uint64, wall time.Time) {
	var ts unix.Timespec
	// CLOCK_MONOTONIC exists on every Linux: the call cannot fail.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano()), time.Now()
}
