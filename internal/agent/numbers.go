package agent

import (
	"maps"
	"slices"
	"time"
)

// numbers gives network namespaces the numbers 1 to 255, which their flows carry.
type numbers struct {
	kept   map[uint64]uint8           // by the namespace's cookie: what the last process gave, and this one has not given yet
	rested func(since time.Time) bool // whether no flow in the map is from before that time

	free []returned // in the order in which they came back
}

type returned struct {
	number uint8
	at     time.Time // zero: it was never given
}

// newNumbers goes on with the numbers that the last process gave, by the namespaces' cookies: flows may carry them.
func newNumbers(rested func(time.Time) bool, kept map[uint64]uint8) *numbers {
	n := &numbers{kept: maps.Clone(kept), rested: rested}
	used := slices.Collect(maps.Values(kept))
	for number := uint8(255); number > 0; number-- {
		if !slices.Contains(used, number) {
			n.free = append(n.free, returned{number: number})
		}
	}
	slices.Reverse(n.free)
	for _, number := range used {
		n.giveBack(number)
	}
	return n
}

// take returns the number that the namespace had under the last process, or one that no flow carries any more, if there is
// one.
func (n *numbers) take(cookie uint64) (uint8, bool) {
	if number, ok := n.kept[cookie]; ok {
		delete(n.kept, cookie)
		n.free = slices.DeleteFunc(n.free, func(r returned) bool { return r.number == number })
		return number, true
	}
	if len(n.free) == 0 {
		return 0, false
	}
	first := n.free[0]
	if !first.at.IsZero() && !n.rested(first.at) {
		return 0, false
	}
	n.free = n.free[1:]
	maps.DeleteFunc(n.kept, func(_ uint64, number uint8) bool { return number == first.number })
	return first.number, true
}

// giveBack returns the number of a namespace in which nothing is attached any more.
func (n *numbers) giveBack(number uint8) { n.free = append(n.free, returned{number, time.Now()}) }
