package e2e

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"weir/internal/testnet"
)

// soak is set by `make soak`: the tests of this file then run as long as what they show takes, and are short otherwise.
var soak = os.Getenv("WEIR_SOAK") != ""

// soakOr returns how often or how long, in `make soak` or else.
func soakOr[T any](long, short T) T {
	if soak {
		return long
	}
	return short
}

// sizes of the map: an agent with another one than the last takes the last one's map over.
var sizes = []string{"AGENT_MAX_FLOWS=65536", "AGENT_MAX_FLOWS=131072"}

// TestKill kills agents at random moments, or when they have just begun to deliver what a sweep handed over, also while the
// Brain is away or the map is handed from one to the other. Every packet is in an event that arrives, and an event that arrives
// again is the same.
func TestKill(t *testing.T) {
	const longest = 3 * time.Second // of a life: a start takes half a second, and a sweep comes 2 s later
	kills := soakOr(500, 6)
	l := newLives(t)
	l.flows(t, 1<<13)
	l.begin(t)
	l.ready(t)
	for i := range kills {
		away := i%3 == 1
		l.goAway(away)
		l.flows(t, 1<<13)
		enough := after(time.Duration(rand.Int64N(int64(longest))))
		if since := time.Now(); i%2 == 0 && !away {
			enough = func() bool { return l.news(since) }
		}
		l.send(t, 50_000, enough)
		l.kill(t)
		l.begin(t, sizes[i/2%2])
	}
	l.goAway(false)
	l.ready(t)
	l.current.terminate(t)
	l.finish(t)
}

// TestRestarts has agents stop and start under 100,000 packets a second, some with a map of another size.
func TestRestarts(t *testing.T) {
	const rate = 100_000
	restarts := soakOr(100, 3)
	l := newLives(t, "AGENT_INGRESS_HOOK=xdp") // the others count by tc
	l.begin(t, sizes[0])
	l.ready(t)
	for i := range restarts {
		l.flows(t, 1<<14)
		l.send(t, rate, after(time.Duration(rand.Int64N(int64(2*time.Second)))))
		if err := l.current.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		l.send(t, rate, l.current.over)
		l.begin(t, sizes[i/2%2])
		l.send(t, rate, after(time.Second))
		l.ready(t)
	}
	l.current.terminate(t)
	l.finish(t)
}

// TestOutage sends the Brain away while 20,000 events a second come. Nothing is lost, and once it is back the backlog goes five
// times as fast as events come, while these are not late.
func TestOutage(t *testing.T) {
	outage := soakOr(time.Minute, 2*time.Second)
	l := newLives(t, "AGENT_UDP_IDLE_TIMEOUT=3s")
	generators := []*testnet.Generator{l.flows(t, 1<<15), l.flows(t, 1<<14)}
	l.begin(t)
	l.ready(t)
	tick := time.NewTicker(time.Second / 8)
	defer tick.Stop()
	send := func(enough func() bool) { // a packet a second for each flow, which makes an event in each sweep
		for late := after(outage + time.Minute); !enough(); <-tick.C {
			if late() {
				t.Fatalf("sent for %s, and it was not enough", outage+time.Minute)
			}
			generators[0].Send(t, 1<<15/8)
			generators[1].Send(t, 1<<14/8)
		}
	}
	queued := func() float64 { return l.current.metric(t, "weir_delivery_queue_events") }
	send(after(3 * time.Second))
	l.goAway(true)
	send(after(outage))
	backlog := queued()
	l.goAway(false)
	send(func() bool {
		back, _ := l.cameBack()
		return !back.IsZero() && queued() < 500
	})
	back, latest := l.cameBack()
	took := time.Since(back)
	live, drained := backlog/outage.Seconds(), backlog/took.Seconds()
	t.Logf("%.0f events a second; a backlog of %.0f in %s, %.0f a second, and live ones took %s at most",
		live, backlog, took, drained, latest)
	if backlog < 1<<15 {
		t.Errorf("the backlog is %.0f events, want those of a sweep at least", backlog)
	}
	if soak && (live < 20_000 || drained < 5*live || latest > 5*time.Second) {
		t.Error("want 20000 events a second, five times as many of the backlog, and live ones within 5s")
	}
	l.current.terminate(t)
	l.finish(t)
}
