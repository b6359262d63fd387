package testnet

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// source is a program that sends frames out of one end of a veth pair, one each time that it is run.
type source struct {
	link      *Link
	cpu       int    // on which frames are sent and received, counted among those that the process may use
	template  []byte // that the program makes frames of
	program   *ebpf.Program
	variables sourceVariables
	sent      uint64 // frames
}

// sourceVariables are those that every such program has.
type sourceVariables struct {
	Sent  *ebpf.Variable `ebpf:"sent"`
	Limit *ebpf.Variable `ebpf:"limit"`
}

// deliver sends so many frames, which have so many bytes, and returns when they have arrived. The test fails if one was lost.
func (s *source) deliver(t testing.TB, frames, bytes uint64) {
	t.Helper()
	before := s.link.Counters(t)
	err := s.link.Namespace.Do(func() error {
		return alone(s.cpu, func() error { return s.send(frames) })
	})
	if err != nil {
		t.Fatalf("send %d frames out of %s: %v", frames, s.link.Name, err)
	}
	want := Counters{TxPackets: frames, TxBytes: bytes}
	for deadline := time.Now().Add(stallTime); ; time.Sleep(time.Millisecond) {
		now := s.link.Counters(t)
		got := Counters{
			TxPackets: now.TxPackets - before.TxPackets,
			TxBytes:   now.TxBytes - before.TxBytes,
			TxDropped: now.TxDropped - before.TxDropped,
		}
		if got == want {
			return
		}
		if got.TxPackets+got.TxDropped >= frames || time.Now().After(deadline) {
			t.Fatalf("send %d frames of %d bytes in all out of %s: arrived %+v", frames, bytes, s.link.Name, got)
		}
	}
}

func (s *source) send(frames uint64) error {
	limit := s.sent + frames
	if err := s.variables.Limit.Set(limit); err != nil {
		return fmt.Errorf("set limit: %w", err)
	}
	for s.sent < limit { // once, but for signals that are not held off
		_, err := s.program.Run(&ebpf.RunOptions{
			Data:      s.template,
			Repeat:    uint32(min(limit-s.sent, math.MaxUint32)),
			Flags:     liveFrames,
			BatchSize: batch,
		})
		if err != nil {
			return err
		}
		before := s.sent
		if err := s.variables.Sent.Get(&s.sent); err != nil {
			return fmt.Errorf("read what was sent: %w", err)
		}
		if s.sent == before {
			return errors.New("the kernel sends none")
		}
	}
	return nil
}
