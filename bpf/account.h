/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From a parsed packet to its counters. */
#ifndef WEIR_ACCOUNT_H
#define WEIR_ACCOUNT_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "evict.h"
#include "ledger.h"
#include "maps.h"
#include "meter.h"
#include "packet.h"
#include "table.h"

/*
 * A direction moves to another interface when its owner has not seen it for this long: a second, or the time in which a
 * packet a second has one sampled, up to a minute.
 */
#define OWNER_TIMEOUT_NS (NS_PER_SECOND * (config.sampling < 60 ? config.sampling : 60))

static __always_inline __u64 later(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

/* The bit of flow_entry.state that says end n opened the connection, or 0 when this packet does not tell. */
static __always_inline __u32 opened_by(const struct packet *p)
{
	__u32 sender = STATE_OPENED_0 << p->from;
	__u32 receiver = STATE_OPENED_1 >> p->from;

	if (p->key.protocol != IPPROTO_TCP)
		return config.sampling > 1 ? 0 : sender; /* the first one sampled is anybody's */
	if (!(p->tcp_flags & TCP_SYN))
		return 0;
	return p->tcp_flags & TCP_ACK ? receiver : sender;
}

/* The bits of flow_entry.state by which this packet ends a TCP connection. */
static __always_inline __u32 closed_by(const struct packet *p)
{
	__u32 bits = 0;

	/* Of a sample, nobody can say that it shows a connection's end: it is left to idle. */
	if (config.sampling > 1)
		return 0;
	if (p->tcp_flags & TCP_FIN)
		bits |= STATE_FIN_0 << p->from;
	if (p->tcp_flags & TCP_RST)
		bits |= STATE_RST;
	return bits;
}

/* Writes the entry that a packet makes. What was carried stays: a packet of the entry before it may still carry. */
static __always_inline void fill(struct flow_slot *slot, const struct packet *p, __u32 owner, __u32 tick)
{
	struct flow_entry *e = &slot->entry;
	__u32 end = p->from & 1, closing = closed_by(p);
	__u32 i;

	slot->key = p->key;
#pragma unroll
	for (i = 0; i < 2; i++) {
		e->half[i].owner = i == end ? owner : 0;
		e->half[i].last = i == end ? tick : 0; /* a sweep must not find the entry idle since boot */
		e->half[i].first_ns = 0;
		e->half[i].last_ns = 0;
		e->half[i].last_tick = 0;
	}
	e->tcp_flags = 0;
	/* A flood of FIN or RST must cost nothing extra: its entries are born closed and leave by sweep, without an event. */
	__sync_fetch_and_and(&e->state, STATE_HELD);
	__sync_fetch_and_or(&e->state, opened_by(p) | closing | (closing ? STATE_CLOSED : 0));
}

/* A bucket, and the tags that were seen in it. */
struct place {
	__u32 number;
	struct bucket *bucket;
	struct bucket seen;
};

/*
 * Makes an entry in the first of a connection's buckets, which was seen to have room, neither of them to have the connection: the
 * index of its slot, or BUSY.
 */
static __always_inline long create(const struct packet *p, const struct place *here, const struct place *there, __u64 hash,
				   __u32 owner, __u32 tick)
{
	struct ledger_page *page = ledger_page();
	struct flow_slot *slot;
	long index;

	if (!page)
		return BUSY;
	index = claim(here->number, here->bucket, here->seen, hash);
	slot = slot_at(index);
	if (!slot)
		return BUSY;
	if (here->number != there->number && !unchanged(there->bucket, &there->seen)) {
		release(index);
		return BUSY;
	}
	fill(slot, p, owner, tick);
	publish(slot);
	page->inserts++;
	return index;
}

/*
 * Looks for a connection in both of its buckets, and makes its entry if it is in none: the index of its slot, or BUSY. In what
 * room it has made it looks again, for another CPU may have seen the same.
 */
__noinline long look(const struct packet *p, __u64 hash, __u32 owner, __u32 tick)
{
	struct place first = {.number = first_bucket(hash)}, second = {.number = second_bucket(hash)};
	long index, other;

	first.bucket = bpf_map_lookup_elem(&tags, &first.number);
	second.bucket = bpf_map_lookup_elem(&tags, &second.number);
	if (!p || !first.bucket || !second.bucket)
		return BUSY;
	first.seen = look_at(first.bucket);
	second.seen = look_at(second.bucket);
	index = probe_bucket(&p->key, p->from, first.number, &first.seen, tag_of(hash));
	if (index >= 0)
		return index;
	other = probe_bucket(&p->key, p->from, second.number, &second.seen, tag_of(hash));
	if (other != ABSENT || index != ABSENT)
		return other == ABSENT ? index : other;
	if (!free_slots(&first.seen) && !free_slots(&second.seen)) {
		make_room(hash, tick);
		return BUSY;
	}
	if (free_slots(&first.seen) < CROWDED && free_slots(&second.seen) > free_slots(&first.seen))
		return create(p, &second, &first, hash, owner, tick);
	return create(p, &first, &second, hash, owner, tick);
}

/* Looks until it finds. */
__noinline long seek(const struct packet *p, __u64 hash, __u32 owner, __u32 tick)
{
	long index = BUSY;
	__u32 i;

	if (!p)
		return BUSY;
	for (i = 0; i < LOOKS && index == BUSY; i++)
		index = look(p, hash, owner, tick);
	return index;
}

/* Whether this place counts the direction. A free one is taken; one that its owner left goes to whoever sees it. */
static __always_inline int own(struct flow_half *half, __u32 here, __u32 tick)
{
	__u32 owner = half->owner;

	if (owner == here)
		return 1;
	if (owner && (__u64)quiet(tick, half) * config.tick_ns < OWNER_TIMEOUT_NS)
		return 0;
	return __sync_val_compare_and_swap(&half->owner, owner, here) == owner;
}

static __always_inline void announce(struct ledger_page *page, const struct packet *p, __u64 now, __u32 reset)
{
	struct closing *event = bpf_ringbuf_reserve(&closed, sizeof(*event), 0);

	if (!event) {
		page->closed_full++;
		return;
	}
	event->key = p->key;
	event->closed_ns = now;
	event->reset = reset;
	event->pad = 0;
	/* User space looks in at its own pace: a wake-up per connection would cost more than the packet. */
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Follows the opening and the close of a TCP connection. Only packets with SYN, FIN or RST come here. */
static __always_inline void follow(struct ledger_page *page, const struct packet *p, struct flow_entry *entry,
				   __u32 other_owner, __u64 now)
{
	__u32 opened = opened_by(p);
	__u32 closing = closed_by(p);
	__u32 state;

	/* A new connection between the same ports, before the old one was taken: it is not closed, and the old one's take
	 * will leave it alone. */
	if ((entry->state & STATE_CLOSED) && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !closing)
		__sync_fetch_and_and(&entry->state, ~(STATE_FIN | STATE_RST | STATE_CLOSED | STATE_OPENED));
	if (opened && !(entry->state & STATE_OPENED))
		__sync_fetch_and_or(&entry->state, opened);
	/* What comes after the close, such as a reset of the last ACK, does not change how it closed. */
	if (!closing || (entry->state & STATE_CLOSED))
		return;
	state = __sync_fetch_and_or(&entry->state, closing) | closing;
	if (!(state & STATE_RST) && (state & STATE_FIN) != STATE_FIN && other_owner)
		return;
	if (!(__sync_fetch_and_or(&entry->state, STATE_CLOSED) & STATE_CLOSED))
		announce(page, p, now, (state & STATE_RST) != 0);
}

/*
 * Notes when a packet came, and returns it: precisely for the first of a direction, or an answer would seem to come before its
 * question. The coarse clock can lag the precise one of an earlier packet by a tick: none comes before that.
 */
static __always_inline __u64 note(struct flow_half *half, __u32 tick, int begins, int precise)
{
	__u64 now = precise || !half->last_ns ? precise_ns() : coarse_ns();

	now = later(now, half->last_ns);
	if (begins)
		half->first_ns = now;
	if (begins || quiet(tick, half))
		half->last = tick;
	half->last_ns = now;
	half->last_tick = half->last;
	return now;
}

/* Whether the packet is looked at: of most connections all but the first are not. A SYN may begin another one. */
static __always_inline int is_wanted(const struct packet *p, __u32 state)
{
	__u32 done = STATE_SAMPLED_0 << p->from;

	if (p->tcp_flags & TCP_SYN)
		return 1;
	if (!p->payload_len)
		done |= STATE_ASKED_0 << p->from;
	return !(state & done);
}

/* Counts the packet in its entry, or says why not. A packet like the one before it writes into count alone. */
static __always_inline enum fate account(struct ledger_page *page, struct packet *p, const struct weight *w, __u32 here)
{
	__u32 end = p->from & 1, tick = tick_at(captured_ns);
	__u32 turning = p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
	__u32 flags = p->tcp_flags << 16 * end;
	__u64 before, now = 0, hash = hash_of(&p->key);
	struct flow_slot *slot = find(&p->key, hash, end);
	struct flow_entry *entry;
	struct flow_half *half;

	if (!slot) {
		slot = slot_at(seek(p, hash, here, tick));
		if (!slot)
			return FATE_EXPIRING;
	}
	entry = &slot->entry;
	half = &entry->half[end];
	if (!own(half, here, tick))
		return FATE_DUPLICATE;
	before = __sync_fetch_and_add(&entry->count[end], ((__u64)w->packets << COUNT_SHIFT) + w->bytes);
	if (!(before & LIVE))
		return FATE_EXPIRING;
	if (before & (PACKETS_CARRY | BYTES_CARRY))
		carry(page, &entry->count[end], half);
	if (before == LIVE || turning || config.replay)
		now = note(half, tick, before == LIVE, turning);
	else if (quiet(tick, half))
		half->last = tick;
	if ((entry->tcp_flags & flags) != flags)
		__sync_fetch_and_or(&entry->tcp_flags, flags);
	if (turning)
		follow(page, p, entry, entry->half[!end].owner, now);
	if (config.samples)
		p->sampled = is_wanted(p, entry->state);
	return FATE_COUNTED;
}

#endif
