package datapath

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Of the header of a sample (linux/bpf.h, Documentation/bpf/ringbuf.rst).
const (
	ringHeader  = 8
	ringBusy    = 1 << 31 // the kernel still writes it
	ringDiscard = 1 << 30 // the kernel thought better of it
)

// ring is the reading side of a BPF ring buffer. A library would consume what it reads; here the two are apart, so that what a
// process read and did not bring to safety is still there for the next one.
type ring struct {
	positions []byte // the consumer's page
	rest      []byte // the producer's page, and the data twice, so that no sample has a seam
	data      []byte
	consumed  *uintptr // an unsigned long, as the kernel has it
	produced  *uintptr
	mask      uintptr
	next      atomic.Uintptr // position of the first sample that was not read
}

func newRing(m *ebpf.Map) (*ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	positions, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the consumer's page: %w", err)
	}
	rest, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the producer's pages: %w", err), unix.Munmap(positions))
	}
	r := &ring{
		positions: positions, rest: rest, data: rest[page:],
		consumed: (*uintptr)(unsafe.Pointer(unsafe.SliceData(positions))),
		produced: (*uintptr)(unsafe.Pointer(unsafe.SliceData(rest))),
		mask:     uintptr(size - 1),
	}
	r.next.Store(atomic.LoadUintptr(r.consumed))
	return r, nil
}

// read passes every sample to fn that is whole and was not read yet, with its position, and returns how many there were, with
// those that the kernel discarded. The kernel can reuse a sample's memory once it is consumed.
func (r *ring) read(fn func(position uintptr, sample []byte)) (n int) {
	next := r.next.Load()
	for ; next < atomic.LoadUintptr(r.produced); n++ {
		header := r.header(next)
		if header&ringBusy != 0 {
			break
		}
		size := uintptr(header &^ (ringBusy | ringDiscard))
		if header&ringDiscard == 0 {
			at := next & r.mask
			fn(next, r.data[at+ringHeader:][:size])
		}
		next += sampleLen(size)
	}
	r.next.Store(next)
	r.consume(0) // what was discarded, if nothing is before it
	return n
}

func (r *ring) header(position uintptr) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[position&r.mask])))
}

// after returns the position behind a sample that was read, or the sample's own once that is consumed: the kernel may have
// written something else there.
func (r *ring) after(position uintptr) uintptr {
	end := position + sampleLen(uintptr(r.header(position)&^(ringBusy|ringDiscard)))
	if atomic.LoadUintptr(r.consumed) > position {
		return position
	}
	return end
}

// consume gives the kernel the room of all samples before a position, and of those behind it that were read and had been
// discarded: nobody will ask for their room. It never goes back, and may run beside read and itself.
func (r *ring) consume(position uintptr) {
	for {
		consumed := atomic.LoadUintptr(r.consumed)
		to, next := max(position, consumed), r.next.Load()
		for to < next && r.header(to)&ringDiscard != 0 {
			to += sampleLen(uintptr(r.header(to) &^ (ringBusy | ringDiscard)))
		}
		if to == consumed || atomic.CompareAndSwapUintptr(r.consumed, consumed, to) {
			return
		}
	}
}

// consumeAll gives the kernel the room of everything that was read.
func (r *ring) consumeAll() { r.consume(r.next.Load()) }

// sampleLen is the room that a sample takes.
func sampleLen(size uintptr) uintptr { return (size + ringHeader + 7) &^ 7 }

func (r *ring) close() error { return errors.Join(unix.Munmap(r.positions), unix.Munmap(r.rest)) }
