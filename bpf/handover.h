/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From entries to records. User space runs sweep and take one at a time. */
#ifndef WEIR_HANDOVER_H
#define WEIR_HANDOVER_H

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "handshake.h"
#include "ledger.h"
#include "lengths.h"
#include "maps.h"
#include "meter.h"
#include "table.h"

/* How long ago it was: 0 for a time that a coarse and a precise clock put in the future. */
static __always_inline __u64 since(__u64 now, __u64 then)
{
	return now > then ? now - then : 0;
}

/* When a direction's last packet came, in ns, given what time and tick it is now. 0: none did yet. */
static __always_inline __u64 last_seen(const struct flow_entry *e, int end, __u64 now, __u32 tick)
{
	const struct flow_half *half = &e->half[end];

	if (!half->owner || half->last == half->last_tick)
		return half->last_ns;
	return later(half->last_ns, now - (__u64)quiet(tick, half) * config.tick_ns);
}

/*
 * Takes what a direction's packets add to; an entry that stays remains LIVE. first_ns goes before it: the packet that finds
 * nothing counted begins the next period, and its time must stay.
 */
static __always_inline void take_count(struct flow_entry *to, struct flow_entry *from, int end, enum handover why)
{
	__u64 count;

	to->half[end].first_ns = from->half[end].first_ns;
	from->half[end].first_ns = 0;
	if (why == HANDOVER_ACTIVE)
		count = __sync_fetch_and_and(&from->count[end], LIVE);
	else
		count = __sync_lock_test_and_set(&from->count[end], 0);
	to->count[end] = count & ~LIVE;
}

/* What was carried goes after it: a packet that carries more looks whether the entry is LIVE when it is done. */
static __always_inline void take_rest(struct flow_entry *to, struct flow_entry *from, int end, __u64 now)
{
	to->half[end].last = from->half[end].last;
	to->half[end].owner = from->half[end].owner;
	to->half[end].carried = __sync_lock_test_and_set(&from->half[end].carried, 0);
	to->half[end].last_ns = last_seen(from, end, now, tick_at(now));
	to->half[end].last_tick = to->half[end].last;
	/* No period begins before the one in front of it ends. */
	from->half[end].last_ns = to->half[end].last_ns;
}

static __always_inline void add_exported(__u64 packets, __u64 bytes)
{
	struct ledger_page *page = ledger_page();

	if (!page)
		return;
	__sync_fetch_and_add(&page->exported.packets, packets);
	__sync_fetch_and_add(&page->exported.bytes, bytes);
}

/* Fills in the record of an entry that is held. */
static __always_inline void take_entry(struct record *r, struct flow_slot *slot, enum handover why)
{
	__u64 now = precise_ns();

	take_count(&r->entry, &slot->entry, 0, why);
	take_count(&r->entry, &slot->entry, 1, why);
	r->key = slot->key;
	take_rest(&r->entry, &slot->entry, 0, now);
	take_rest(&r->entry, &slot->entry, 1, now);
	r->entry.tcp_flags = __sync_lock_test_and_set(&slot->entry.tcp_flags, 0);
	r->entry.state = slot->entry.state & ~STATE_HELD;
	if (why == HANDOVER_ACTIVE)
		__sync_fetch_and_or(&slot->entry.state, STATE_PARTED);
	r->handover = why;
	r->pad = 0;
}

/* Makes room for a record. */
static __always_inline struct record *reserve(const struct handshake *handshake)
{
	if (handshake)
		return bpf_ringbuf_reserve(&records, sizeof(struct opened_record), 0);
	return bpf_ringbuf_reserve(&records, sizeof(struct record), 0);
}

/* Removes the entry that was handed over from the books of what is in the map, and frees its slot. */
static __always_inline void remove(struct ledger_page *page, const struct flow_slot *slot, __u32 index)
{
	if (config.samples & WANT_SSH && slot->entry.state & STATE_SSH)
		bpf_map_delete_elem(&ssh, &slot->key);
	release(index);
	if (page)
		__sync_fetch_and_add(&page->deletes, 1);
}

/* Hands over an entry that is held. 0 when the ring is full: it is untouched. */
static __always_inline int hand_over_held(struct flow_slot *slot, __u32 index, enum handover why)
{
	struct handshake *handshake = untold(slot, index);
	struct record *r = reserve(handshake);
	struct ledger_page *page = ledger_page();
	__u64 packets, bytes;

	if (!r) {
		if (page)
			__sync_fetch_and_add(&page->records_full, 1);
		return 0;
	}
	take_entry(r, slot, why);
	packets = packets_of(&r->entry, 0) + packets_of(&r->entry, 1);
	bytes = bytes_of(&r->entry, 0) + bytes_of(&r->entry, 1);
	if (handshake) {
		((struct opened_record *)r)->handshake = *handshake;
		forget_handshake(handshake); /* it is told once */
	}
	if (why != HANDOVER_ACTIVE)
		remove(page, slot, index);
	/* An entry whose last packets left with an active hand-over has nothing to say. */
	if (!(packets | bytes)) {
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
		return 1;
	}
	add_exported(packets, bytes);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 1;
}

static __always_inline __u64 earlier(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

/* How long nothing is seen of a connection that has ended. */
static __always_inline __u64 idle_limit(const struct sweep_args *args, const struct flow_key *key,
					const struct flow_entry *e)
{
	__u64 limit = key->protocol == IPPROTO_TCP ? args->tcp_idle_ns : args->other_idle_ns;

	return args->single_idle_ns && single(e) ? earlier(limit, args->single_idle_ns) : limit;
}

/* When the first packet came of those that the entry counts, or now if it counts none: the next one comes no earlier. */
static __always_inline __u64 begun_ns(const struct sweep_args *args, const struct flow_entry *e)
{
	__u64 begun = args->now_ns;

	if ((e->count[0] & ~LIVE) && e->half[0].first_ns)
		begun = earlier(begun, e->half[0].first_ns);
	if ((e->count[1] & ~LIVE) && e->half[1].first_ns)
		begun = earlier(begun, e->half[1].first_ns);
	return begun;
}

/* When the last packet of either direction came, at the time of the sweep. */
static __always_inline __u64 last_ns(const struct sweep_args *args, const struct flow_entry *e)
{
	return later(last_seen(e, 0, args->now_ns, args->tick), last_seen(e, 1, args->now_ns, args->tick));
}

/* Whether the entry is due, and as what. */
static __always_inline int due(const struct sweep_args *args, const struct flow_key *key, const struct flow_entry *e,
			       enum handover *why)
{
	__u64 idle = since(args->now_ns, last_ns(args, e));

	if (args->shutdown) {
		*why = HANDOVER_SHUTDOWN;
		return 1;
	}
	if ((e->state & STATE_CLOSED) && idle >= args->linger_ns) {
		*why = HANDOVER_CLOSED;
		return 1;
	}
	if (idle >= idle_limit(args, key, e)) {
		*why = HANDOVER_IDLE;
		return 1;
	}
	*why = HANDOVER_ACTIVE;
	return args->now_ns - begun_ns(args, e) >= args->active_ns;
}

/* When an entry that is not due will be, at the earliest, unless it closes. */
static __always_inline __u64 due_ns(const struct sweep_args *args, const struct flow_key *key,
				    const struct flow_entry *e)
{
	__u64 idle = idle_limit(args, key, e);

	if (e->state & STATE_CLOSED)
		idle = earlier(idle, args->linger_ns);
	return earlier(last_ns(args, e) + idle, begun_ns(args, e) + args->active_ns);
}

static __always_inline void add_resident(struct sweep_args *args, const struct flow_key *key,
					 const struct flow_entry *e)
{
	__u64 next = due_ns(args, key, e);

	args->next_due_ns = args->resident_flows ? earlier(args->next_due_ns, next) : next;
	args->resident_flows++;
	args->resident_packets += packets_of(e, 0) + packets_of(e, 1);
	args->resident_bytes += bytes_of(e, 0) + bytes_of(e, 1);
}

/* Hands an entry over if it is due. 0 when the ring is full. */
__noinline int sweep_slot(struct sweep_args *args, __u32 index)
{
	struct flow_slot *slot = slot_at(index);
	enum handover why = HANDOVER_ACTIVE;
	int done = 1;

	if (!args || !slot || !is_live(slot, 0))
		return 1;
	if (due(args, &slot->key, &slot->entry, &why)) {
		if (!hold(&slot->entry)) /* it is being evicted */
			return 1;
		if (due(args, &slot->key, &slot->entry, &why)) /* another connection may have come here since */
			done = hand_over_held(slot, index, why);
		let_go(&slot->entry);
		if (!done || why != HANDOVER_ACTIVE)
			return done;
	}
	add_resident(args, &slot->key, &slot->entry);
	return 1;
}

/* Sweeps the slots of a word of tags. Returns 1, which ends the walk, when the ring is full or this was the last one. */
static long sweep_word(struct bpf_map *map, __u32 *step, __u32 *nothing, struct sweep_args *args)
{
	__u32 word = args->first + *step, number = word / BUCKET_WORDS;
	struct bucket *bucket = bpf_map_lookup_elem(&tags, &number);
	__u64 used;
	__u32 i;

	if (!bucket)
		return 1;
	used = ~zeros(bucket->words[word % BUCKET_WORDS]) & EACH_BYTE << 7;
	for (i = 0; i < WORD_SLOTS && used; i++) {
		if (!sweep_slot(args, word * WORD_SLOTS + lowest(used))) {
			args->stopped = 1;
			return 1;
		}
		used &= used - 1;
	}
	return 0;
}

/* Hands over a connection that has closed. 0 when the ring is full: the entry is untouched. */
static __always_inline int take_slot(struct flow_slot *slot, __u32 index, const struct flow_key *key)
{
	int done = 1;

	if (!hold(&slot->entry)) /* it is being evicted */
		return 1;
	/* Not closed: the one that was is gone, and this is a later connection of the same key. */
	if (same(&slot->key, key) && (slot->entry.state & STATE_CLOSED))
		done = hand_over_held(slot, index, HANDOVER_CLOSED);
	let_go(&slot->entry);
	return done;
}

static long take_key(struct bpf_map *map, __u32 *step, struct flow_key *key, struct take_args *args)
{
	struct flow_slot *slot;
	long index;

	if (args->done >= args->count)
		return 1;
	index = index_of(key);
	slot = slot_at(index);
	if (slot && !take_slot(slot, index, key))
		return 1;
	args->done++;
	return 0;
}

#endif
