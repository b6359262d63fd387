// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * What cannot be cheaper, for benchmarks to compare with: `access` does no more than add to a random place of as much memory
 * as the flows take; `latency` does so once it knows what was in the place of the packet before, as a program waits that is too
 * long for the processor to begin with the next packet's; `lookup` does no more than find a key of the same size in the
 * kernel's LRU hash and add to its value.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "testflows.h"

struct place {
	__u64 words[16];
};

struct key {
	__u64 words[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* so that a place does not straddle more cache lines than it has to */
	__type(key, __u32);
	__type(value, struct place);
	__uint(max_entries, 1); /* set at load */
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct key);
	__type(value, struct place);
	__uint(max_entries, 1); /* set at load */
} hashed SEC(".maps");

volatile const __u32 places_mask; /* number of places - 1; the number is a power of two */

__u64 last; /* 0, but nobody knows before it is read */

static __always_inline struct place *place_of(struct __sk_buff *skb, __u64 after)
{
	struct frame *frame = (void *)(long)skb->data;
	__u32 at;

	if ((void *)(frame + 1) > (void *)(long)skb->data_end)
		return 0;
	at = (mix((__u64)frame->ip.saddr << 16 | frame->udp.source) + after) & places_mask;
	return bpf_map_lookup_elem(&places, &at);
}

SEC("tc")
int access(struct __sk_buff *skb)
{
	struct place *place = place_of(skb, 0);

	if (place)
		__sync_fetch_and_add(&place->words[5], 1);
	return -1;
}

SEC("tc")
int latency(struct __sk_buff *skb)
{
	struct place *place = place_of(skb, last);

	if (place) {
		__sync_fetch_and_add(&place->words[5], 1);
		last = place->words[0];
	}
	return -1;
}

SEC("tc")
int lookup(struct __sk_buff *skb)
{
	struct frame *frame = (void *)(long)skb->data;
	struct place *place, fresh = {};
	struct key key = {};

	if ((void *)(frame + 1) > (void *)(long)skb->data_end)
		return -1;
	key.words[1] = frame->ip.saddr;
	key.words[3] = frame->ip.daddr;
	key.words[4] = (__u64)frame->udp.source << 16 | frame->udp.dest;
	place = bpf_map_lookup_elem(&hashed, &key);
	if (place)
		__sync_fetch_and_add(&place->words[0], 1);
	else
		bpf_map_update_elem(&hashed, &key, &fresh, BPF_NOEXIST);
	return -1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
