package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"weir/internal/testnet"
)

// TestIdleConnection replays one that is idle for longer than AGENT_TCP_IDLE_TIMEOUT, twice. It has its name when it goes on; a SYN
// takes the name away.
func TestIdleConnection(t *testing.T) {
	testnet.NeedRoot(t)
	met := greet(t, tls.X25519)
	answer := bytes.Repeat([]byte{'x'}, 200)
	var frames []testnet.Captured
	send := func(at time.Duration, fromServer bool, sequence uint32, flags uint8, payload []byte) {
		src, dst := "10.9.0.101:40000", "10.9.0.102:443"
		if fromServer {
			src, dst = dst, src
		}
		segment := testnet.Segment{Sequence: sequence, Flags: flags, Payload: payload}
		frames = append(frames, testnet.Captured{At: at, Frame: segment.Packet(src, dst).Bytes()})
	}
	open := func(at time.Duration, sequence uint32) {
		send(at, false, sequence, testnet.SYN, nil)
		send(at, true, 7*sequence, testnet.SYN|testnet.ACK, nil)
	}
	const pause = 3 * time.Minute
	open(0, 100)
	send(0, false, 101, testnet.ACK, met.hello)
	send(0, true, 701, testnet.ACK, answer)
	send(pause, false, 5000, testnet.ACK, answer)
	send(pause, true, 6000, testnet.ACK, answer)
	open(2*pause, 900000)
	send(2*pause, false, 900001, testnet.ACK, answer)

	var got []string
	for _, e := range replayedIdentities(t, frames) {
		if e.SrcPort == "40000" {
			got = append(got, e.JA4)
		}
	}
	if want := []string{met.ja4, met.ja4, ""}; !slices.Equal(got, want) {
		t.Errorf("JA4 of its parts %q, want %q", got, want)
	}
}

// replayedIdentities returns what "weir replay" says of who is talking, in the order of the events.
func replayedIdentities(t *testing.T, frames []testnet.Captured) (identities []identity) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.pcap")
	if err := os.WriteFile(file, testnet.Pcap(t, frames...), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, "replay", "--max-flows=4096", file)
	command.Env = []string{"NODE_NAME=node-1"}
	out, err := command.Output()
	if err != nil {
		t.Fatalf("weir replay: %v", err)
	}
	for line := range bytes.Lines(out) {
		var event identity
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		identities = append(identities, event)
	}
	return identities
}
