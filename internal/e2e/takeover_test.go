package e2e

import (
	"net"
	"testing"

	"weir/internal/testnet"
)

// noSpool has an agent keep everything in memory, and the kernel keep its flows.
var noSpool = []string{"AGENT_SPOOL_DIR=", "AGENT_UDP_IDLE_TIMEOUT=1h", "AGENT_ACTIVE_TIMEOUT=1h"}

// TestStopWhileTakingOver stops an agent that takes over a map of another size, and waits for a Brain that does not answer. What it
// did not deliver, the next agent does.
func TestStopWhileTakingOver(t *testing.T) {
	const flows = 1 << 14
	l := newLives(t)
	g := l.flows(t, flows)
	l.begin(t, append(noSpool, "AGENT_MAX_FLOWS=65536")...)
	l.ready(t)
	g.Send(t, flows)
	l.kill(t)

	var silent net.Listener
	if err := l.far.Do(func() (err error) {
		silent, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	l.begin(t, append(noSpool, "AGENT_QUEUE_MAX_BYTES=1MiB", "AGENT_STOP_TIMEOUT=1s",
		"AGENT_ENDPOINT_URL=http://"+silent.Addr().String())...)
	l.ready(t)
	testnet.Eventually(t, "memory is full", func() bool {
		return l.current.metric(t, "weir_delivery_queue_bytes") > 1<<19
	})
	l.current.terminate(t)
	l.finish(t)
}
