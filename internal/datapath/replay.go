package datapath

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
)

// Frame is a frame of a capture, as the kernel side takes it.
type Frame struct {
	Data      []byte // from the Ethernet header on: 15 to 3,000 bytes, of which the parsers look at the first 256
	Length    uint32 // on the wire
	AtNs      uint64 // by the capture's clock; 0 would be no time
	Interface uint32 // of the capture; 0 would be none
}

// Where struct __sk_buff (linux/bpf.h) has what a frame brings along.
const (
	skbMark     = 8
	skbPriority = 32
	skbTstamp   = 152
	skbSize     = 160 // up to there: the kernel takes the rest for zeros
)

// Replay counts a frame of a capture as one that arrives. It must not be called by several goroutines at a time, and only if
// the Config said so.
func (d *Datapath) Replay(f *Frame) error {
	binary.NativeEndian.PutUint32(d.skb[skbMark:], f.Length)
	binary.NativeEndian.PutUint32(d.skb[skbPriority:], f.Interface)
	binary.NativeEndian.PutUint64(d.skb[skbTstamp:], f.AtNs)
	_, err := d.coll.Programs[kernelProgTcIngress].Run(&ebpf.RunOptions{
		Data: f.Data, Context: d.skb[:],
	})
	if err != nil {
		return fmt.Errorf("run a captured frame of %d bytes through the kernel program: %w", f.Length, err)
	}
	return nil
}
