package datapath

import (
	"crypto/rand"
	"unsafe"

	"github.com/cilium/ebpf"
)

// bucketSlots is how many connections a bucket of the table holds: bpf/table.h.
const bucketSlots = 8 * uint32(len(kernelBucket{}.Words))

// kernelSecrets is the map of the secret by which connections find their slots. It goes with the table.
const kernelSecrets = ".rodata.secret"

// bucketsFor returns how many buckets the table has for so many connections. With a quarter more slots than that, hardly one
// connection in a million finds both of its buckets full.
func bucketsFor(maxFlows uint32) uint32 {
	slots := uint64(maxFlows) * 5 / 4
	return uint32((slots + uint64(bucketSlots) - 1) / uint64(bucketSlots))
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
