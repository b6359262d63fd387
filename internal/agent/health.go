package agent

import (
	"fmt"
	"time"

	"weir/internal/telemetry"
)

// hangs is how long the collector may go without a look before the agent is reported as not alive. A sweep of the
// largest map takes a few seconds.
const hangs = 30 * time.Second

// live says whether the loops make progress. The Brain's health is none of it.
func (a *Agent) live() (bool, string) {
	if since := time.Since(a.collector.LastWork()); since > hangs && !a.stopping.Load() && !a.entering() {
		return false, fmt.Sprintf("the collector has done nothing for %s", since.Round(time.Second))
	}
	return true, ""
}

// entering says whether the collector waits until all network namespaces are entered: some hundreds take longer than hangs.
func (a *Agent) entering() bool {
	select {
	case <-a.namespaces.entered:
		return false
	default:
		return a.pinned
	}
}

// ready reports on attaching, on delivery and on the spool.
func (a *Agent) ready() []telemetry.Check {
	ok, reason := a.deliverer.Status()
	list := append(a.attachments.checks(), a.namespaces.checks()...)
	if len(list) == 0 {
		list = append(list, telemetry.Check{Name: "attach", Detail: "no interface is attached"})
	}
	list = append(list, a.attachments.idleChecks()...)
	list = append(list, a.namespaces.idleChecks()...)
	list = append(list, telemetry.Check{Name: "deliver", OK: ok, Detail: reason})
	if used, ok, reason := a.deliverer.SpoolStatus(); used {
		list = append(list, telemetry.Check{Name: "spool", OK: ok, Detail: reason})
	}
	return list
}
