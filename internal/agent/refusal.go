package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"weir/internal/telemetry"
)

// refusal is an interface that could not be attached, or a network namespace that could not be watched.
type refusal struct {
	name string
	err  error
	at   time.Time
}

// over says whether it is time for another try.
func (r refusal) over() bool { return time.Since(r.at) > retryAfter }

// refusalsListed is how many of them readiness lists by name. There can be thousands, of one cause.
const refusalsListed = 10

// refusals reports what is wanted and does not work, by name.
func refusals(act, where string, all []refusal) (list []telemetry.Check) {
	slices.SortFunc(all, func(a, b refusal) int { return cmp.Compare(a.name, b.name) })
	for _, r := range all[:min(len(all), refusalsListed)] {
		list = append(list, telemetry.Check{
			Name: fmt.Sprintf("%s %q%s", act, r.name, where), Detail: fmt.Sprintf("%q", r.err),
		})
	}
	if more := len(all) - refusalsListed; more > 0 {
		list = append(list, telemetry.Check{Name: act + where, Detail: fmt.Sprintf("and %d more", more)})
	}
	return list
}
