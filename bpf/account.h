/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From a parsed packet to its counters. */
#ifndef WEIR_ACCOUNT_H
#define WEIR_ACCOUNT_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "maps.h"
#include "packet.h"

/*
 * A direction moves to another interface when its owner has not seen it for this long: a second, or the time in which a
 * packet a second has one sampled, up to a minute.
 */
#define OWNER_TIMEOUT_NS (1000000000ULL * (config.sampling < 60 ? config.sampling : 60))

#define EEXIST 17 /* include/uapi/asm-generic/errno-base.h */

static __always_inline __u64 later(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

/* What one program run adds: a frame, or a super-packet that stands for several. */
struct weight {
	__u32 packets;
	__u32 bytes;
};

static __always_inline struct ledger_page *ledger_page(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ledger, &zero);
}

/* One CPU's page is written by one program at a time, so these adds need no atomics. */
static __always_inline void add(struct counter *c, const struct weight *w)
{
	c->packets += w->packets;
	c->bytes += w->bytes;
}

/* The only way out of the packet path: what was seen and what became of it, in the same run. */
static __always_inline void settle(struct ledger_page *page, enum hook hook, enum fate fate, const struct weight *w)
{
	add(&page->seen[hook], w);
	if (fate < FATES)
		add(&page->fates[fate], w);
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

/* Makes the entry, its counters at 0, and finds it as the map has it. Any other answer is the packet's fate. */
static __always_inline enum fate create(struct ledger_page *page, const struct packet *p, __u32 owner, __u32 tick,
					struct flow_entry **entry)
{
	struct flow_entry fresh = {};
	struct flow_meter *meter = p->from ? &fresh.meter[1] : &fresh.meter[0];
	__u32 closing = closed_by(p);
	long err;

	meter->owner = owner;
	meter->last = tick; /* or a sweep would find the entry idle since boot */
	/* A flood of FIN or RST must cost nothing extra: its entries are born closed and leave by sweep, without an event. */
	fresh.state = opened_by(p) | closing | (closing ? STATE_CLOSED : 0);
	err = bpf_map_update_elem(&flows, &p->key, &fresh, BPF_NOEXIST);
	if (!err)
		page->inserts++;
	/* -EEXIST: another CPU was quicker, and its entry is as good. */
	*entry = bpf_map_lookup_elem(&flows, &p->key);
	if (*entry)
		return FATE_COUNTED;
	return err && err != -EEXIST ? FATE_NO_MEMORY : FATE_EXPIRING;
}

/* Whether this place counts the direction. A free one is taken; one that its owner left goes to whoever sees it. */
static __always_inline int own(struct flow_meter *meter, __u32 here, __u32 tick)
{
	__u32 owner = meter->owner;

	if (owner == here)
		return 1;
	if (owner && (__u64)quiet(tick, meter) * config.tick_ns < OWNER_TIMEOUT_NS)
		return 0;
	return __sync_val_compare_and_swap(&meter->owner, owner, here) == owner;
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
		__sync_fetch_and_and(&entry->state,
				     ~(STATE_FIN | STATE_RST | STATE_CLOSED | STATE_OPENED | STATE_SAMPLED));
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
 * Carries over what is due. If the entry is deleted meanwhile, the hand-over takes what was carried or leaves it: what is left
 * was counted, and has now met a deletion.
 */
static __always_inline void carry(struct ledger_page *page, struct flow_meter *meter, struct flow_half *half)
{
	__u64 full = __sync_fetch_and_and(&meter->count, ~(PACKETS_CARRY | BYTES_CARRY));
	__u64 packets, bytes;

	if (full & TOMBSTONE)
		return;
	if (full & PACKETS_CARRY)
		__sync_fetch_and_add(&half->packets_carried, 1);
	if (full & BYTES_CARRY)
		__sync_fetch_and_add(&half->bytes_carried, 1);
	if (!(meter->count & TOMBSTONE))
		return;
	packets = (__u64)__sync_lock_test_and_set(&half->packets_carried, 0) << PACKETS_CARRY_SHIFT;
	bytes = (__u64)__sync_lock_test_and_set(&half->bytes_carried, 0) << BYTES_CARRY_SHIFT;
	page->fates[FATE_COUNTED].packets -= packets;
	page->fates[FATE_COUNTED].bytes -= bytes;
	page->fates[FATE_EXPIRING].packets += packets;
	page->fates[FATE_EXPIRING].bytes += bytes;
}

/*
 * Notes when a packet came, and returns it: precisely for the first of a direction, or an answer would seem to come before its
 * question. The coarse clock can lag the precise one of an earlier packet by a tick: none comes before that.
 */
static __always_inline __u64 note(struct flow_meter *meter, struct flow_half *half, __u32 tick, int begins, int precise)
{
	__u64 now = precise || !half->last_ns ? precise_ns() : coarse_ns();

	now = later(now, half->last_ns);
	if (begins)
		half->first_ns = now;
	if (begins || quiet(tick, meter))
		meter->last = tick;
	half->last_ns = now;
	half->last_tick = meter->last;
	return now;
}

/* Counts the packet in its entry, or says why not. A packet like the one before it writes into flow_meter alone. */
static __always_inline enum fate account(struct ledger_page *page, struct packet *p, const struct weight *w, __u32 here)
{
	struct flow_entry *entry = bpf_map_lookup_elem(&flows, &p->key);
	__u32 turning = p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
	__u32 flags = p->tcp_flags << (p->from ? 16 : 0);
	__u32 tick = tick_at(captured_ns);
	struct flow_meter *meter;
	struct flow_half *half;
	__u64 before, now = 0;

	if (!entry) {
		enum fate fate = create(page, p, here, tick, &entry);

		if (fate != FATE_COUNTED)
			return fate;
	}
	meter = p->from ? &entry->meter[1] : &entry->meter[0];
	half = p->from ? &entry->half[1] : &entry->half[0];
	if (!own(meter, here, tick))
		return FATE_DUPLICATE;
	before = __sync_fetch_and_add(&meter->count, ((__u64)w->packets << COUNT_SHIFT) + w->bytes);
	if (before & TOMBSTONE)
		return FATE_EXPIRING;
	if (before & (PACKETS_CARRY | BYTES_CARRY))
		carry(page, meter, half);
	if (!before || turning || config.replay)
		now = note(meter, half, tick, !before, turning);
	else if (quiet(tick, meter))
		meter->last = tick;
	if ((entry->tcp_flags & flags) != flags)
		__sync_fetch_and_or(&entry->tcp_flags, flags);
	if (turning)
		follow(page, p, entry, p->from ? entry->meter[0].owner : entry->meter[1].owner, now);
	/* Of most connections all but the first packets are not. */
	if (config.samples)
		p->sampled = !(entry->state & STATE_SAMPLED_0 << p->from);
	return FATE_COUNTED;
}

#endif
