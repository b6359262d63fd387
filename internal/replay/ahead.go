package replay

import (
	"slices"

	"weir/internal/capture"
)

// aheadMost is how many packets are looked at to tell a clock that was set back from one among several.
const aheadMost = 64

// ahead reads a capture, and can look at packets before it is their turn.
type ahead struct {
	reader *capture.Reader
	queue  []capture.Packet // read already, each with a frame of its own
	err    error            // what the reading of the queue ended with
}

// next returns the next packet, or the reader's error. Its frame is valid until the next call.
func (a *ahead) next() (capture.Packet, error) {
	if len(a.queue) > 0 {
		packet := a.queue[0]
		a.queue = a.queue[1:]
		return packet, nil
	}
	if a.err != nil {
		return capture.Packet{}, a.err
	}
	packet, err := a.reader.Next()
	if err != nil {
		return capture.Packet{}, err
	}
	return *packet, nil
}

// stayBefore says whether the next packets, aheadMost or as many as there are, all came before a time. It reads no further
// than to the first that did not, and spoils the frame that next returned last.
func (a *ahead) stayBefore(ns uint64) bool {
	for i := range aheadMost {
		if i == len(a.queue) && !a.readOne() {
			return true
		}
		if a.queue[i].AtNs >= ns {
			return false
		}
	}
	return true
}

// readOne puts one more packet into the queue, or keeps why not.
func (a *ahead) readOne() bool {
	if a.err != nil {
		return false
	}
	packet, err := a.reader.Next()
	if err != nil {
		a.err = err
		return false
	}
	kept := *packet
	kept.Frame = slices.Clone(packet.Frame)
	a.queue = append(a.queue, kept)
	return true
}
