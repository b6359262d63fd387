package testnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Step is a frame of a conversation over TCP and IPv4.
type Step struct {
	Frame  []byte
	Answer bool // it is the server's
}

// Talk sends the frames of a conversation over and over out of one end of a veth pair, each time of another client, to arrive at
// the other: millions of frames a second, as a Generator does. Their checksums are not right.
type Talk struct {
	source
	objects talkObjects
	base    uint32 // address of the first clients
	steps   uint64
	bytes   uint64 // of a conversation
}

type talkObjects struct {
	Talk  *ebpf.Program `ebpf:"talk"`
	Steps *ebpf.Map     `ebpf:"steps"`
	sourceVariables
}

// NewTalk makes a talk of which the first conversation is as given, but for the client's address and port: the first client is
// base:32768. As with NewGenerator, GRO of the link's other end is switched on.
func NewTalk(t testing.TB, link *Link, base netip.Addr, steps []Step) *Talk {
	t.Helper()
	NeedRoot(t)
	k := &Talk{
		source: source{link: link, template: steps[0].Frame},
		base:   binary.BigEndian.Uint32(base.AsSlice()), steps: uint64(len(steps)),
	}
	err := k.load(steps)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		Unavailable(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.objects.Talk.Close(); k.objects.Steps.Close() })
	k.program, k.variables = k.objects.Talk, k.objects.sourceVariables
	link.peer.SetOffloads(t, GRO, true)
	return k
}

func (k *Talk) load(steps []Step) error {
	spec, err := loadTesttalk()
	if err != nil {
		return err
	}
	for name, value := range map[string]uint32{
		testtalkVarTarget: uint32(k.link.Index), testtalkVarBaseAddress: k.base, testtalkVarStepCount: uint32(len(steps)),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s of talk: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&k.objects, nil); err != nil {
		return fmt.Errorf("load talk: %w", err)
	}
	for i, step := range steps {
		value := testtalkStep{Len: uint32(len(step.Frame))}
		if step.Answer {
			value.Answer = 1
		}
		if n := copy(value.Frame[:], step.Frame); n < len(step.Frame) {
			return fmt.Errorf("step %d of a talk has %d bytes, which is more than %d", i, len(step.Frame), n)
		}
		if err := k.objects.Steps.Put(uint32(i), value); err != nil {
			return fmt.Errorf("write step %d of talk: %w", i, err)
		}
		k.bytes += uint64(len(step.Frame))
	}
	return nil
}

// Send sends so many conversations more, as Generator.Send does frames.
func (k *Talk) Send(t testing.TB, conversations uint64) {
	t.Helper()
	k.deliver(t, conversations*k.steps, conversations*k.bytes)
}

// Sent returns the number of frames sent so far, and their bytes.
func (k *Talk) Sent() (frames, bytes uint64) {
	return k.sent, k.sent / k.steps * k.bytes
}
