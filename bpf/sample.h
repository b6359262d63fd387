/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What is copied of packets, for fingerprints: facts and bytes as they are, in the ring `samples` and in records. It comes
 * after a packet was counted, and nothing that goes wrong here costs more than a fingerprint.
 */
#ifndef WEIR_SAMPLE_H
#define WEIR_SAMPLE_H

#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "datagrams.h"
#include "maps.h"
#include "packet.h"
#include "sampler.h"
#include "streams.h"
#include "table.h"

/* The frame in the context of a program. */
struct frame {
	__u32 outer;   /* bytes in front that are not the frame's */
	__u32 len;     /* bytes of the frame that are there */
	__u32 segment; /* payload of each packet that a super-packet stands for; else 0 */
};

static __always_inline long load(void *ctx, enum hook hook, __u32 offset, void *to, __u32 len)
{
	if (hook == HOOK_XDP_INGRESS)
		return bpf_xdp_load_bytes(ctx, offset, to, len);
	return bpf_skb_load_bytes(ctx, offset, to, len);
}

/* Copies the first bytes behind an offset, as many as there are. */
static __always_inline long peek(void *ctx, enum hook hook, const struct frame *f, struct sampler *s, __u32 offset)
{
	s->peeked = 0;
	if (offset >= f->len)
		return -1;
	s->peeked = f->len - offset < PEEK_MAX ? f->len - offset : PEEK_MAX;
	return load(ctx, hook, f->outer + offset, s->peek, bounded_to(s->peeked, PEEK_MAX));
}

static __always_inline long copy(void *ctx, enum hook hook, const struct frame *f, struct sampler *s, __u32 offset,
				 __u32 len)
{
	if (!within_rate(s, len))
		return -1;
	return load(ctx, hook, f->outer + offset, s->sample.data, bounded_to(len, SAMPLE_MAX));
}

static __always_inline void sample_segment(void *ctx, enum hook hook, const struct frame *f, struct sampler *s,
					   struct packet *p)
{
	__u32 len;
	int i;

	if (peek(ctx, hook, f, s, p->transport))
		return;
	len = look_at_segment(p);
	for (i = 0; i < REQUESTS_MAX && len && !copy(ctx, hook, f, s, p->header_len + s->at, len); i++)
		len = send_piece(p, len);
}

/* A super-packet stands for several datagrams. */
static __always_inline void sample_datagrams(void *ctx, enum hook hook, const struct frame *f, struct sampler *s,
					     struct packet *p)
{
	__u32 payload = s->payload, there = s->there;
	__u32 at = 0, len;
	int i;

	for (i = 0; i < QUIC_DATAGRAMS_MAX && at < there; i++) {
		s->payload = f->segment && f->segment < payload - at ? f->segment : payload - at;
		s->there = s->payload < there - at ? s->payload : there - at;
		if (peek(ctx, hook, f, s, p->header_len + at))
			return;
		len = look_at_datagram(p);
		if (len && !copy(ctx, hook, f, s, p->header_len + at, len)) {
			s->sample.head.offset = 0;
			s->sample.head.origin = 0;
			describe(&s->sample.head, s, p, SAMPLE_DATAGRAM, len);
			put(&s->sample, sizeof(s->sample.head) + bounded_to(len, SAMPLE_MAX));
		}
		at += s->payload;
	}
}

/* Forgets the connection that had the slot before. Of packets that are the first at the same time, one does so. */
static __always_inline void begin(struct flow_entry *e, __u32 index)
{
	struct handshake *h = bpf_map_lookup_elem(&handshakes, &index);
	struct streams *c = bpf_map_lookup_elem(&streams, &index);

	if (__sync_fetch_and_or(&e->state, STATE_FOLLOWED) & STATE_FOLLOWED)
		return;
	if (h)
		forget_handshake(h);
	if (c)
		__builtin_memset(c, 0, sizeof(*c));
}

/* Looks at a packet, and notes in its entry what needs no further look. */
static __always_inline void sample(void *ctx, enum hook hook, const struct frame *f, struct packet *p)
{
	struct sampler *s = sampler_here();
	struct flow_slot *slot;

	if (!s)
		return;
	s->key = p->key;
	s->slot = index_of(&s->key);
	slot = slot_at(s->slot);
	if (!slot) /* it was handed over in this instant */
		return;
	if (!(slot->entry.state & STATE_FOLLOWED))
		begin(&slot->entry, s->slot);
	s->now_ns = precise_ns();
	s->state = slot->entry.state;
	s->settled = 0;
	s->renewed = 0;
	s->segment = f->segment;
	s->there = f->len > p->header_len ? f->len - p->header_len : 0;
	s->payload = p->payload_len == PAYLOAD_UNKNOWN ? s->there : p->payload_len;
	if (s->there > s->payload)
		s->there = s->payload;
	if (p->key.protocol == IPPROTO_TCP && p->transport)
		sample_segment(ctx, hook, f, s, p);
	else if (p->key.protocol == IPPROTO_UDP && p->transport)
		sample_datagrams(ctx, hook, f, s, p);
	else
		settle_end(s, p);
	if (s->renewed && slot->entry.state & STATE_SAMPLED)
		__sync_fetch_and_and(&slot->entry.state, ~STATE_SAMPLED);
	if (s->settled)
		__sync_fetch_and_or(&slot->entry.state, s->settled);
}

/* Looks at a packet that was counted. A global function, as those of deep.h: its stack is not the packet path's. */
__noinline int sample_xdp(struct xdp_md *ctx, struct packet *p)
{
	struct frame f = {};

	if (!config.samples || !p)
		return 0;
	f.len = bpf_xdp_get_buff_len(ctx);
	sample(ctx, HOOK_XDP_INGRESS, &f, p);
	return 0;
}

__noinline int sample_skb(struct __sk_buff *skb, struct packet *p)
{
	struct frame f = {};

	if (!config.samples || !p)
		return 0;
	f.outer = p->outer;
	f.len = skb->len - f.outer;
	f.segment = skb->gso_size;
	sample(skb, HOOK_TC_INGRESS, &f, p);
	return 0;
}

#endif
