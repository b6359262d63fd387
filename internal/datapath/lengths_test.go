package datapath

import (
	"fmt"
	"slices"
	"testing"

	"weir/internal/flow"
	"weir/internal/testnet"
)

var banner = []byte("SSH-2.0-x\r\n")

// session passes segments of an SSH connection through the kernel, the server's banner first.
type session struct {
	k    kernel
	sent [2]int // bytes, by client and server
}

func (s *session) say(t *testing.T, server bool, payload []byte, meta *skb) {
	t.Helper()
	end := 0
	if server {
		end = 1
	}
	s.k.run(t, kernelProgTcIngress, says(server, s.sent[end], payload).frame(client, "10.0.0.2:443"), meta)
	s.sent[end] += len(payload)
}

func (s *session) acknowledge(t *testing.T, server bool) {
	t.Helper()
	end := 0
	if server {
		end = 1
	}
	s.k.run(t, kernelProgTcIngress, step{server, uint32(1 + s.sent[end]), testnet.ACK, nil}.frame(client, "10.0.0.2:443"), nil)
}

// TestLengths gathers a window of what both ends of an SSH connection send, and then the next.
func TestLengths(t *testing.T) {
	s := session{k: newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleSSH})}
	for _, step := range opened() {
		s.k.run(t, kernelProgTcIngress, step.frame(client, server), nil) // with an acknowledgement
	}
	s.say(t, true, banner, nil)
	s.acknowledge(t, false)
	s.say(t, false, append(banner, banner...), nil)
	want := flow.Lengths{Opener: flow.InitiatorEnd0, Acks: [2]uint32{2, 50}, Payloads: [2][]uint16{{22}, {11}}}
	for i := range 99 {
		s.say(t, false, make([]byte, 36), nil)
		if i < 50 {
			s.acknowledge(t, true)
		}
		s.say(t, true, make([]byte, 100+i), nil)
		want.Payloads[0] = append(want.Payloads[0], 36)
		want.Payloads[1] = append(want.Payloads[1], uint16(100+i))
	}
	// What acknowledges and says more is no bare acknowledgement.
	s.k.run(t, kernelProgTcIngress, step{false, uint32(1 + s.sent[0]), testnet.ACK | testnet.FIN, nil}.frame(client, server), nil)
	_, lengths := s.k.samples(t)
	checkLengths(t, lengths, want)

	next := flow.Lengths{Opener: flow.InitiatorEnd0, Payloads: [2][]uint16{nil, slices.Repeat([]uint16{5}, 200)}}
	for range 200 {
		s.say(t, true, make([]byte, 5), nil)
	}
	_, lengths = s.k.samples(t)
	checkLengths(t, lengths, next)
	if l := s.k.ledger(t); l.Samples != 3 { // the banner, and two windows
		t.Errorf("%d samples, want 3", l.Samples)
	}
}

func checkLengths(t *testing.T, got []flow.Lengths, want flow.Lengths) {
	t.Helper()
	if len(got) != 1 {
		t.Fatalf("%d windows, want 1", len(got))
	}
	wantKey, _ := key(client, server, tcp)
	if g := got[0]; g.Key != wantKey || g.Opener != want.Opener || g.TimeNs == 0 || g.Acks != want.Acks ||
		!slices.Equal(g.Payloads[0], want.Payloads[0]) || !slices.Equal(g.Payloads[1], want.Payloads[1]) {
		t.Errorf("%+v, want %+v", g, want)
	}
}

// TestRepeatedLengths does not count what was sent before, or what comes behind its turn.
func TestRepeatedLengths(t *testing.T) {
	s := session{k: newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleSSH})}
	s.say(t, true, banner, nil)
	s.say(t, false, banner, nil)
	say := func(server bool, at, size int) {
		s.k.run(t, kernelProgTcIngress, says(server, at, make([]byte, size)).frame(client, "10.0.0.2:443"), nil)
	}
	say(true, 0, 11)
	say(false, 0, 11)
	say(false, 111, 100) // overtakes
	say(false, 11, 100)
	say(false, 201, 30) // of which 20 bytes are new
	for i := range 197 {
		say(true, 11+50*i, 50)
		say(true, 11+50*i, 50)
	}
	_, lengths := s.k.samples(t)
	checkLengths(t, lengths, flow.Lengths{Payloads: [2][]uint16{{11, 100}, append([]uint16{11}, slices.Repeat([]uint16{50}, 197)...)}})
	for i := range 200 {
		say(false, 221+10*(i-1), 20) // the first of these repeats the last 10 bytes too
	}
	if _, lengths = s.k.samples(t); lengths != nil {
		t.Errorf("%d windows of what was sent before", len(lengths))
	}
}

// TestLengthsOfTheNext gathers what a connection sends, and not with it what one before it did between the same ports.
func TestLengthsOfTheNext(t *testing.T) {
	s := session{k: newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleSSH})}
	s.say(t, false, banner, nil)
	s.say(t, true, make([]byte, 500), nil)
	s.k.run(t, kernelProgTcIngress, step{false, 50000, testnet.SYN, nil}.frame(client, server), nil)
	s.sent[0] = 50000
	s.say(t, false, banner, nil)
	for range 199 {
		s.say(t, false, make([]byte, 36), nil)
	}
	_, lengths := s.k.samples(t)
	want := flow.Lengths{Opener: flow.InitiatorEnd0, Payloads: [2][]uint16{append([]uint16{11}, slices.Repeat([]uint16{36}, 199)...), nil}}
	checkLengths(t, lengths, want)
}

// TestLengthsOfSuperPackets counts each of the segments that they stand for.
func TestLengthsOfSuperPackets(t *testing.T) {
	s := session{k: newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleSSH})}
	s.say(t, false, banner, nil)
	for range 66 {
		s.say(t, true, make([]byte, 2500), &skb{GSOSize: 1000, GSOSegs: 3})
	}
	s.say(t, true, make([]byte, 2500), &skb{GSOSize: 1000, GSOSegs: 3}) // two belong to the next window
	want := flow.Lengths{Payloads: [2][]uint16{{11}, append(slices.Repeat([]uint16{1000, 1000, 500}, 66), 1000)}}
	_, lengths := s.k.samples(t)
	checkLengths(t, lengths, want)
}

// TestManySSH gathers for so many connections as there is room for, and the latest are those that there is room for.
func TestManySSH(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 8192, Sampling: 1, Samples: SampleSSH})
	const connections = 2000
	send := func(connection, at int, payload []byte) {
		k.run(t, kernelProgTcIngress, says(false, at, payload).frame(fmt.Sprint("10.0.0.1:", 1000+connection), server), nil)
	}
	for i := range connections {
		send(i, 0, banner)
	}
	for i := range 200 {
		send(0, 11+36*i, make([]byte, 36))
		send(connections-1, 11+36*i, make([]byte, 36))
	}
	_, lengths := k.samples(t)
	want, _ := key(fmt.Sprint("10.0.0.1:", 1000+connections-1), server, tcp)
	if len(lengths) != 1 || lengths[0].Key != want {
		t.Errorf("lengths of %+v, want of the last connection", lengths)
	}
	if l := k.ledger(t); l.SamplesForgotten != 1 {
		t.Errorf("%d connections forgotten, want the first one", l.SamplesForgotten)
	}
}
