package datapath

import (
	"crypto/rand"
	"fmt"
	"math"
	"unsafe"

	"github.com/cilium/ebpf"
)

// bucketSlots is how many connections a bucket of the table holds: bpf/table.h.
const bucketSlots = 8 * uint32(len(kernelBucket{}.Words))

// tableVersion goes up with every change of what programs of two versions must agree about to count in the same table, and
// which its layout does not tell: hash, tags and buckets, the bits of state, who may write to a slot when. Version 2 has
// STATE_HELD.
const tableVersion = 2

// kernelSecrets is the map of the secret by which connections find their slots. It goes with the table.
const kernelSecrets = ".rodata.secret"

// bucketsFor returns how many buckets the table has for so many connections. With a quarter more slots than that, some two in a
// million find both of their buckets full when it is filled once.
func bucketsFor(maxFlows uint32) uint32 {
	slots := uint64(maxFlows) * 5 / 4
	return uint32((slots + uint64(bucketSlots) - 1) / uint64(bucketSlots))
}

// checkSize says whether the kernel can number the slots for so many connections.
func checkSize(maxFlows uint32) error {
	if slots := uint64(bucketsFor(maxFlows)) * uint64(bucketSlots); slots > math.MaxUint32 {
		return fmt.Errorf("size the table for %d connections: %d slots are too many", maxFlows, slots)
	}
	return nil
}

// sizeTable makes the maps of the table as large as they have to be.
func sizeTable(spec *ebpf.CollectionSpec, buckets uint32) {
	spec.Maps[kernelMapTags].MaxEntries = buckets
	spec.Maps[kernelMapFlows].MaxEntries = buckets * bucketSlots
}

// newSecret returns one that nobody can guess.
func newSecret() (s kernelSecret) {
	// Read never returns an error, as package rand promises.
	_, _ = rand.Read(unsafe.Slice((*byte)(unsafe.Pointer(&s)), unsafe.Sizeof(s)))
	return s
}
