package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNumbers: each number is given once, and again only when every flow that carried it was handed over.
func TestNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rest = time.Minute
		var swept time.Time
		n := newNumbers(func(since time.Time) bool { return swept.After(since.Add(rest)) }, nil)
		given := map[uint8]bool{}
		for range 255 {
			number, ok := n.take(1)
			if !ok || number == 0 || given[number] {
				t.Fatalf("given %d, %t, after %d others", number, ok, len(given))
			}
			given[number] = true
		}
		want := func(when string, number uint8, ok bool) {
			t.Helper()
			if got, gotOK := n.take(1); got != number || gotOK != ok {
				t.Errorf("%s: given %d, %t, want %d, %t", when, got, gotOK, number, ok)
			}
		}
		want("all are given", 0, false)
		n.giveBack(7)
		swept = time.Now()
		want("a sweep began with it", 0, false)
		time.Sleep(rest + time.Second)
		n.giveBack(3)
		want("it rested, and nobody swept", 0, false)
		swept = time.Now()
		want("a sweep began after its rest", 7, true)
		want("the next has not rested", 0, false)
	})
}

// TestNumbersAreKept: a namespace has the number that it had under the last process, and nobody else has it meanwhile.
func TestNumbersAreKept(t *testing.T) {
	n := newNumbers(func(time.Time) bool { return true }, map[uint64]uint8{4711: 1, 4712: 3})
	for _, row := range []struct {
		cookie uint64
		want   uint8
	}{{1, 2}, {4712, 3}, {2, 4}, {4711, 1}, {4711, 5}} {
		if got, ok := n.take(row.cookie); got != row.want || !ok {
			t.Errorf("namespace %d is given %d, %t, want %d", row.cookie, got, ok, row.want)
		}
	}
}
