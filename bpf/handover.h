/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From entries to records. User space runs sweep and take one at a time. */
#ifndef WEIR_HANDOVER_H
#define WEIR_HANDOVER_H

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "account.h"
#include "handshake.h"
#include "maps.h"
#include "streams.h"

/* How long ago it was: 0 for a time that a coarse and a precise clock put in the future. */
static __always_inline __u64 since(__u64 now, __u64 then)
{
	return now > then ? now - then : 0;
}

static __always_inline __u64 packets_of(const struct flow_entry *e, int end)
{
	return ((__u64)e->half[end].packets_carried << PACKETS_CARRY_SHIFT) + (e->meter[end].count >> COUNT_SHIFT);
}

static __always_inline __u64 bytes_of(const struct flow_entry *e, int end)
{
	return ((__u64)e->half[end].bytes_carried << BYTES_CARRY_SHIFT) + (e->meter[end].count & ((1ULL << COUNT_SHIFT) - 1));
}

/* When a direction's last packet came, in ns, given what time and tick it is now. 0: none did yet. */
static __always_inline __u64 last_seen(const struct flow_entry *e, int end, __u64 now, __u32 tick)
{
	const struct flow_meter *meter = &e->meter[end];
	const struct flow_half *half = &e->half[end];

	if (!meter->owner || meter->last == half->last_tick)
		return half->last_ns;
	return later(half->last_ns, now - (__u64)quiet(tick, meter) * config.tick_ns);
}

/*
 * Takes what a direction's packets add to. What is left in its place is 0 or a TOMBSTONE. first_ns goes before it: the packet
 * that finds 0 begins the next period, and its time must stay.
 */
static __always_inline void take_count(struct flow_entry *to, struct flow_entry *from, int end, __u64 leave)
{
	to->half[end].first_ns = from->half[end].first_ns;
	from->half[end].first_ns = 0;
	to->meter[end].count = __sync_lock_test_and_set(&from->meter[end].count, leave);
}

/* What was carried goes after it: a packet that carries more looks whether there is a TOMBSTONE when it is done. */
static __always_inline void take_rest(struct flow_entry *to, struct flow_entry *from, int end, __u64 now)
{
	to->meter[end].last = from->meter[end].last;
	to->meter[end].owner = from->meter[end].owner;
	to->half[end].packets_carried = __sync_lock_test_and_set(&from->half[end].packets_carried, 0);
	to->half[end].bytes_carried = __sync_lock_test_and_set(&from->half[end].bytes_carried, 0);
	to->half[end].last_ns = last_seen(from, end, now, tick_at(now));
	to->half[end].last_tick = to->meter[end].last;
	to->half[end].pad = 0;
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

static __always_inline int remove(struct flow_key *key)
{
	struct ledger_page *page = ledger_page();

	if (bpf_map_delete_elem(&flows, key))
		return 0;
	if (page)
		__sync_fetch_and_add(&page->deletes, 1);
	return 1;
}

/* Makes room for a record. */
static __always_inline struct record *reserve(const struct handshake *handshake)
{
	if (handshake)
		return bpf_ringbuf_reserve(&records, sizeof(struct opened_record), 0);
	return bpf_ringbuf_reserve(&records, sizeof(struct record), 0);
}

/* Removes what was remembered of what a connection sent. */
static __always_inline void forget(const struct flow_key *key)
{
	bpf_map_delete_elem(&streams, key);
	if (key->protocol == IPPROTO_TCP)
		bpf_map_delete_elem(&ssh, key);
}

/*
 * Hands an entry over. One that leaves for good gets a tombstone first: a packet that looked it up before the delete
 * and adds after it sees the tombstone, and is not lost in silence. 0 when the ring is full: the entry is untouched.
 */
static __always_inline int hand_over(struct flow_key *key, struct flow_entry *entry, enum handover why)
{
	__u64 leave = why == HANDOVER_ACTIVE ? 0 : TOMBSTONE;
	struct flow_key own = *key; /* key may lie in the element, which the map can give to another connection */
	struct handshake *handshake = config.samples & WANT_HANDSHAKE ? handshake_of(&own) : 0;
	struct record *r = reserve(handshake);
	__u64 packets, bytes, now = precise_ns();
	int keep;

	if (!r) {
		struct ledger_page *page = ledger_page();

		if (page)
			__sync_fetch_and_add(&page->records_full, 1);
		return 0;
	}
	take_count(&r->entry, entry, 0, leave);
	take_count(&r->entry, entry, 1, leave);
	r->key = own;
	take_rest(&r->entry, entry, 0, now);
	take_rest(&r->entry, entry, 1, now);
	r->entry.tcp_flags = __sync_lock_test_and_set(&entry->tcp_flags, 0);
	r->entry.state = entry->state;
	r->handover = why;
	r->pad = 0;
	if (handshake) {
		((struct opened_record *)r)->handshake = *handshake;
		bpf_map_delete_elem(&handshakes, &own); /* it is told once */
	}
	if (config.samples && why != HANDOVER_ACTIVE)
		forget(&own);
	packets = packets_of(&r->entry, 0) + packets_of(&r->entry, 1);
	bytes = bytes_of(&r->entry, 0) + bytes_of(&r->entry, 1);
	if (why == HANDOVER_ACTIVE)
		__sync_fetch_and_or(&entry->state, STATE_PARTED);
	/* If the map evicted the entry in this instant, the eviction is what took it. */
	keep = why == HANDOVER_ACTIVE || remove(&own);
	/* An entry whose last packets left with an active hand-over has nothing to say. */
	keep = keep && (packets | bytes);
	if (!keep) {
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
		return 1;
	}
	add_exported(packets, bytes);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 1;
}

/*
 * A tombstone outlives its delete only if the map gave the element to another connection between the two. What that one
 * counted went to the record that was discarded, as evicted.
 */
static __always_inline int doomed(const struct flow_entry *e)
{
	return ((e->meter[0].count | e->meter[1].count) & TOMBSTONE) != 0;
}

struct bpf_map;

static __always_inline __u64 earlier(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

/* Whether one packet is all that ever came. */
static __always_inline int single(const struct flow_entry *e)
{
	return packets_of(e, 0) + packets_of(e, 1) == 1 && !(e->state & STATE_PARTED);
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

	if (e->meter[0].count && e->half[0].first_ns)
		begun = earlier(begun, e->half[0].first_ns);
	if (e->meter[1].count && e->half[1].first_ns)
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

static long sweep_entry(struct bpf_map *map, struct flow_key *key, struct flow_entry *entry, struct sweep_args *args)
{
	enum handover why;

	if (doomed(entry)) {
		remove(key);
		return 0;
	}
	if (due(args, key, entry, &why)) {
		if (!hand_over(key, entry, why)) {
			args->stopped = 1;
			return 1;
		}
		if (why != HANDOVER_ACTIVE)
			return 0;
	}
	add_resident(args, key, entry);
	return 0;
}

static long take_key(struct bpf_map *map, __u32 *index, struct flow_key *key, struct take_args *args)
{
	struct flow_entry *entry;

	if (args->done >= args->count)
		return 1;
	entry = bpf_map_lookup_elem(&flows, key);
	/* Not closed: the one that was is gone, and this is a later connection of the same key. */
	if (entry && (entry->state & STATE_CLOSED) && !doomed(entry) && !hand_over(key, entry, HANDOVER_CLOSED))
		return 1;
	args->done++;
	return 0;
}

#endif
