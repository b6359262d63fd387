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

/*
 * How readily the entry in a slot is given up, 0 if none counts there or it is held: the longer it was quiet; and before all others, one of
 * a single packet, which scans and floods are made of. A flow that has closed is like any other: a flood of pairs of SYN and
 * RST would push out connections that go on, if those were given up first. It is a function of its own for the verifier, which
 * would follow every way through it 16 times.
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
	return 1ULL + ticks + ((__u64)single(e) << 32);
}

/* The slot of a bucket whose entry is given up first, or BUSY if none counts. */
static __always_inline long victim(__u32 number, __u32 tick)
{
	__u64 best = 0;
	long found = BUSY;
	__u32 i;

	for (i = 0; i < BUCKET_SLOTS; i++) {
		__u32 index = number * BUCKET_SLOTS + i;
		__u64 ready = readiness(index, tick);

		if (ready > best) {
			best = ready;
			found = index;
		}
	}
	return found;
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

/* Makes room in a full bucket for a connection with this tag: the index of its slot, or BUSY. */
static __always_inline long evict(struct ledger_page *page, __u32 number, struct bucket *bucket, __u64 tag, __u32 tick)
{
	__u32 index = victim(number, tick);
	struct flow_slot *slot = slot_at(index);
	__u64 *word = &bucket->words[index / WORD_SLOTS % BUCKET_WORDS];
	__u32 shift = 8 * (index % WORD_SLOTS);

	if (!slot || !oust(page, &slot->entry)) /* of no index but a slot's there is one */
		return BUSY;
	/* The tag is that of the entry that was taken, which may not be the one that was chosen. */
	__sync_fetch_and_xor(word, ((*(volatile __u64 *)word >> shift & 0xff) ^ tag) << shift);
	return index;
}

#endif
