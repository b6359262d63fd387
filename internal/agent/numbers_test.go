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
		n := newNumbers(rest, func() time.Time { return swept })
		given := map[uint8]bool{}
		for range 255 {
			number, ok := n.take()
			if !ok || number == 0 || given[number] {
				t.Fatalf("given %d, %t, after %d others", number, ok, len(given))
			}
			given[number] = true
		}
		want := func(when string, number uint8, ok bool) {
			t.Helper()
			if got, gotOK := n.take(); got != number || gotOK != ok {
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
