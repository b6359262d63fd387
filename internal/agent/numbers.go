package agent

import "time"

// numbers gives network namespaces the numbers 1 to 255, which their flows carry.
type numbers struct {
	rest  time.Duration    // how long a flow can be idle before a sweep hands it over
	swept func() time.Time // when the last sweep of the whole map began whose events are made

	free []returned // in the order in which they came back
}

type returned struct {
	number uint8
	at     time.Time // zero: it was never given
}

func newNumbers(rest time.Duration, swept func() time.Time) *numbers {
	n := &numbers{rest: rest, swept: swept}
	for number := 1; number <= 255; number++ {
		n.free = append(n.free, returned{number: uint8(number)})
	}
	return n
}

// take returns a number that no flow carries any more, if there is one.
func (n *numbers) take() (uint8, bool) {
	if len(n.free) == 0 {
		return 0, false
	}
	first := n.free[0]
	if !first.at.IsZero() && !n.swept().After(first.at.Add(n.rest)) {
		return 0, false
	}
	n.free = n.free[1:]
	return first.number, true
}

// giveBack returns the number of a namespace in which nothing is attached any more.
func (n *numbers) giveBack(number uint8) { n.free = append(n.free, returned{number, time.Now()}) }
