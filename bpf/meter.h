/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How an entry's counters are read, and how they go on when a field is full. */
#ifndef WEIR_METER_H
#define WEIR_METER_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "ledger.h"

/* Before an atomic operation comes what is written before it, and after it what is read after it, if its result is used. */
#define ordered(operation)                          \
	do {                                        \
		typeof(operation) before = (operation); \
		barrier_var(before);                \
	} while (0)

static __always_inline __u64 packets_in(__u64 count, __u32 carried)
{
	return ((__u64)(carried & CARRIED_PACKETS) << PACKETS_CARRY_SHIFT) + ((count & ~LIVE) >> COUNT_SHIFT);
}

static __always_inline __u64 bytes_in(__u64 count, __u32 carried)
{
	return ((__u64)(carried >> CARRIED_SHIFT) << BYTES_CARRY_SHIFT) + (count & ((1ULL << COUNT_SHIFT) - 1));
}

static __always_inline __u64 packets_of(const struct flow_entry *e, int end)
{
	return packets_in(e->count[end], e->half[end].carried);
}

static __always_inline __u64 bytes_of(const struct flow_entry *e, int end)
{
	return bytes_in(e->count[end], e->half[end].carried);
}

/* Whether one packet is all that ever came. */
static __always_inline int single(const struct flow_entry *e)
{
	return packets_of(e, 0) + packets_of(e, 1) == 1 && !(e->state & STATE_PARTED);
}

/*
 * Carries over what is due. If the entry is taken away meanwhile, whoever does takes what was carried or leaves it: what is
 * left was counted, and has now met a deletion.
 */
static __always_inline void carry(struct ledger_page *page, __u64 *count, struct flow_half *half)
{
	__u64 full = __sync_fetch_and_and(count, ~(PACKETS_CARRY | BYTES_CARRY));
	__u32 carried = 0;
	__u64 packets, bytes;

	if (!(full & LIVE))
		return;
	if (full & PACKETS_CARRY)
		carried += 1;
	if (full & BYTES_CARRY)
		carried += 1 << CARRIED_SHIFT;
	ordered(__sync_fetch_and_add(&half->carried, carried));
	if (*(volatile __u64 *)count & LIVE)
		return;
	carried = __sync_lock_test_and_set(&half->carried, 0);
	packets = packets_in(0, carried);
	bytes = bytes_in(0, carried);
	page->fates[FATE_COUNTED].packets -= packets;
	page->fates[FATE_COUNTED].bytes -= bytes;
	page->fates[FATE_EXPIRING].packets += packets;
	page->fates[FATE_EXPIRING].bytes += bytes;
}

#endif
