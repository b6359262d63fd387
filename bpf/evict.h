/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which connection makes room for another when both of its buckets are full. */
#ifndef WEIR_EVICT_H
#define WEIR_EVICT_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "ledger.h"
#include "table.h"

#define LONE (1ULL << 33) /* more than all ticks */
#define PLACE_BITS 4

_Static_assert(BUCKET_SLOTS == 1 << PLACE_BITS, "PLACE_BITS");

/*
 * How readily the entry in a slot is given up, 0 if none counts there or it is held: the longer it was quiet; and before all
 * others, one of a single packet, which scans and floods are made of. A flow that has closed is like any other: a flood of pairs
 * of SYN and RST would push out connections that go on, if those were given up first. It is a function of its own for the
 * verifier, which would follow every way through it 16 times.
 */
__noinline __u64 readiness(__u32 index, __u32 tick)
{
	struct flow_slot *slot = slot_at(index);
	const struct flow_entry *e;
	__u32 ticks = ~0U;

	if (!slot || !is_live(slot, 0) || slot->entry.state & STATE_HELD)
		return 0;
	e = &slot->entry;
	if (e->half[0].owner)
		ticks = quiet(tick, &e->half[0]);
	if (e->half[1].owner && quiet(tick, &e->half[1]) < ticks)
		ticks = quiet(tick, &e->half[1]);
	return 1ULL + ticks + (single(e) ? LONE : 0);
}

/*
 * The entry of a bucket that is given up first: how readily, above the number of its slot, counted from the place `from`. 0:
 * none counts there.
 */
__noinline __u64 victim(__u32 number, __u32 from, __u32 tick)
{
	__u64 best = 0;
	__u32 i;

	for (i = 0; i < BUCKET_SLOTS; i++) {
		__u64 ready = readiness(number * BUCKET_SLOTS + (from + i) % BUCKET_SLOTS, tick) << PLACE_BITS;

		if (ready > best)
			best = ready | i;
	}
	return best;
}

static __always_inline void book_eviction(struct ledger_page *page, __u64 count, __u32 carried)
{
	page->evicted.packets += packets_in(count, carried);
	page->evicted.bytes += bytes_in(count, carried);
}

/* Takes the entry away, into the books. 0 if it is another CPU's. */
static __always_inline int oust(struct ledger_page *page, struct flow_entry *e)
{
	__u64 count;

	if (!hold(e))
		return 0;
	count = __sync_lock_test_and_set(&e->count[0], 0);
	book_eviction(page, count, __sync_lock_test_and_set(&e->half[0].carried, 0));
	count = __sync_lock_test_and_set(&e->count[1], 0);
	book_eviction(page, count, __sync_lock_test_and_set(&e->half[1].carried, 0));
	let_go(e);
	page->evictions++;
	return 1;
}

/*
 * Makes room in one of a connection's buckets, both of which are full. In the second only if there is no lone packet in the
 * first. Of the many that came in the same tick of a flood, another one goes each time: not always the newest.
 */
static __always_inline void make_room(__u64 hash, __u32 tick)
{
	struct ledger_page *page = ledger_page();
	__u32 number = first_bucket(hash), from = hash % BUCKET_SLOTS, index;
	__u64 best = victim(number, from, tick), other;
	struct flow_slot *slot;

	if (best < LONE << PLACE_BITS) {
		other = victim(second_bucket(hash), from, tick);
		if (other > best) {
			best = other;
			number = second_bucket(hash);
		}
	}
	index = number * BUCKET_SLOTS + (from + best) % BUCKET_SLOTS;
	slot = slot_at(index);
	if (best && page && slot && oust(page, &slot->entry))
		release(index);
}

#endif
