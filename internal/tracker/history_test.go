package tracker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"weir/internal/tracker"
)

// TestHistoriesAreBounded over all connections: those that grow lose what they said before, and no other one does.
func TestHistoriesAreBounded(t *testing.T) {
	const connections, values, bound = 150, 1000, 64 << 20
	long := strings.Repeat("x", 600)
	tr := tracker.NewTracker(connections + 1)
	quiet := open(tr, 0, "tcp", start)
	quiet.AddFingerprint("ja4", "a", start, 1)
	quiet.AddFingerprint("ja4", "b", start, 2)
	fill := func(number int) *tracker.Connection {
		c := open(tr, number, "tcp", start)
		for i := range values {
			c.AddRawFingerprint("ja4h", fmt.Sprintf("%d %d%s", number, i, long), start, 1)
		}
		return c
	}
	total := 0
	for number := 1; number <= connections; number++ {
		history := fill(number).RawFPs["ja4h"]
		last := history[len(history)-1].Value
		if want := fmt.Sprintf("%d %dx", number, values-1); !strings.HasPrefix(last, want) {
			t.Fatalf("the last value is %.20q, want %q", last, want)
		}
		for i := range history {
			total += len(history[i].Value)
		}
	}
	if total > bound || total < bound/2 {
		t.Errorf("%d bytes of values are held, want %d at most", total, bound)
	}
	if len(quiet.Fingerprints["ja4"]) != 2 {
		t.Errorf("of the quiet connection there is %v", quiet.Fingerprints)
	}
	tr.Evict(start.Add(time.Hour))
	if n := len(fill(1).RawFPs["ja4h"]); n != values || tr.Count() != 1 {
		t.Errorf("%d values of one of %d connections, though the others have left", n, tr.Count())
	}
}

// TestSplitAndAbsorb: a history is as long as ever when two of a connection are put together.
func TestSplitAndAbsorb(t *testing.T) {
	tr := tracker.NewTracker(10)
	c := open(tr, 1, "tcp", start)
	say := func(from, to int) {
		for i := from; i < to; i++ {
			c.AddRawFingerprint("ja4h", fmt.Sprint(i), start, 1)
		}
	}
	say(0, 900)
	c.IsKnownBad = true
	former := c.Split()
	if c.IsKnownBad || c.RawFPs != nil || !former.IsKnownBad || len(former.RawFPs["ja4h"]) != 900 {
		t.Errorf("split into %+v and %+v", former, c)
	}
	say(900, 1100)
	c.Absorb(former)
	history := c.RawFPs["ja4h"]
	if !c.IsKnownBad || len(history) != 1000 || history[99].Value != "99" || history[100].Value != "200" || history[999].Value != "1099" {
		t.Errorf("%d values, from %s to %s", len(history), history[0].Value, history[len(history)-1].Value)
	}
}
