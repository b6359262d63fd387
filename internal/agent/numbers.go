package agent

import (
	"maps"
	"slices"
	"time"
)

// numbers gives network namespaces the numbers 1 to 255, which their flows carry.
type numbers struct {
	kept  map[uint64]uint8 // by the inode of the namespace: what the last process gave, and this one has not given yet
	rest  time.Duration    // how long a flow can be idle before a sweep hands it over
	swept func() time.Time // when the last sweep of the whole map began whose events are made

	free []returned // in the order in which they came back
}

type returned struct {
	number uint8
	at     time.Time // zero: it was never given
}

// newNumbers goes on with the numbers that the last process gave, by the namespaces' inodes: flows may carry them.
func newNumbers(rest time.Duration, swept func() time.Time, kept map[uint64]uint8) *numbers {
	n := &numbers{kept: maps.Clone(kept), rest: rest, swept: swept}
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
func (n *numbers) take(inode uint64) (uint8, bool) {
	if number, ok := n.kept[inode]; ok {
		delete(n.kept, inode)
		n.free = slices.DeleteFunc(n.free, func(r returned) bool { return r.number == number })
		return number, true
	}
	if len(n.free) == 0 {
		return 0, false
	}
	first := n.free[0]
	if !first.at.IsZero() && !n.swept().After(first.at.Add(n.rest)) {
		return 0, false
	}
	n.free = n.free[1:]
	maps.DeleteFunc(n.kept, func(_ uint64, number uint8) bool { return number == first.number })
	return first.number, true
}

// giveBack returns the number of a namespace in which nothing is attached any more.
func (n *numbers) giveBack(number uint8) { n.free = append(n.free, returned{number, time.Now()}) }
