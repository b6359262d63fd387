/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How TCP connections were opened. It leaves with their first record, so that a flood of SYNs costs no sample. */
#ifndef WEIR_HANDSHAKE_H
#define WEIR_HANDSHAKE_H

#include <linux/bpf.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "packet.h"
#include "sampler.h"

#define NS_PER_MS 1000000

/* That of the connection in each slot, if STATE_FOLLOWED says so. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct handshake);
	__uint(max_entries, 1); /* set at load */
} handshakes SEC(".maps");

/*
 * Whether anything was seen of a connection's. A packet that is looked at while its slot gets another connection leaves there
 * what it brought: that is nobody's. Of two that write in the same instant, one may bring what the other one's has.
 */
static __always_inline int is_seen(const struct handshake *h, const struct flow_key *key)
{
	return (h->syn.ns || h->synack.ns) && h->owner == (__u32)hash_of(key);
}

static __always_inline void forget_handshake(struct handshake *h)
{
	h->syn.ns = 0;
	h->synack.ns = 0;
}

/* The handshake that is to be told with the next record of a slot, or 0. */
static __always_inline struct handshake *untold(const struct flow_slot *slot, __u32 index)
{
	struct handshake *h;

	if (!(config.samples & WANT_HANDSHAKE) || !(slot->entry.state & STATE_FOLLOWED))
		return 0;
	h = bpf_map_lookup_elem(&handshakes, &index);
	return h && is_seen(h, &slot->key) ? h : 0;
}

/* Reads a SYN or SYN-ACK, options and all, from the copy of its header. */
static __always_inline void read_opening(struct sampler *s, const struct packet *p, struct opening *o)
{
	const struct tcphdr *tcp = (const void *)s->peek;
	__u32 len = p->header_len - p->transport - sizeof(*tcp);
	__u32 there = s->peeked - sizeof(*tcp);

	o->ns = s->now_ns;
	o->sequence = bpf_ntohl(tcp->seq);
	o->window = bpf_ntohs(tcp->window);
	o->ttl = p->ttl;
	o->options_len = len < there ? len : there;
	__builtin_memcpy(o->options, s->peek + sizeof(*tcp), sizeof(o->options));
}

/* The first SYN of a connection, or a SYN-ACK of one whose SYN was not seen. */
static __always_inline void begin_handshake(struct sampler *s, const struct packet *p, int answer)
{
	struct handshake *h = &s->handshake;

	__builtin_memset(h, 0, sizeof(*h));
	h->owner = hash_of(&s->key);
	h->opener = answer ? !p->from : p->from;
	if (answer) {
		read_opening(s, p, &h->synack);
		h->resent_ns = h->synack.ns;
	} else {
		read_opening(s, p, &h->syn);
	}
	bpf_map_update_elem(&handshakes, &s->slot, h, BPF_ANY);
}

static __always_inline void note_synack(struct sampler *s, const struct packet *p, struct handshake *h, __u32 sequence)
{
	__u32 n = h->resent;

	if (!h->synack.ns || h->synack.sequence != sequence) {
		read_opening(s, p, &h->synack);
		h->resent = 0;
	} else if (n < RESENT_MAX) {
		h->resent_ms[n] = (s->now_ns - h->resent_ns) / NS_PER_MS;
		h->resent = n + 1;
	}
	h->resent_ns = s->now_ns;
}

/* A server that nobody answers gives up at last. */
static __always_inline void note_reset(const struct sampler *s, const struct packet *p, struct handshake *h)
{
	__u32 ms = (s->now_ns - h->resent_ns) / NS_PER_MS;

	if (h->opener != p->from && h->synack.ns && !h->ack_ns && !h->reset_ms)
		h->reset_ms = ms ? ms : 1;
}

/* Follows the opening of a connection. What repeats a SYN has its sequence number. */
static __always_inline void follow_handshake(struct sampler *s, const struct packet *p)
{
	const struct tcphdr *tcp = (const void *)s->peek;
	struct handshake *h = bpf_map_lookup_elem(&handshakes, &s->slot);
	__u32 sequence = bpf_ntohl(tcp->seq);

	if (!h)
		return;
	switch (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) {
	case TCP_SYN:
		if (h->syn.sequence != sequence || !h->syn.ns || !is_seen(h, &s->key)) {
			begin_handshake(s, p, 0);
			renew(s);
		}
		return;
	case TCP_SYN | TCP_ACK:
		if (!is_seen(h, &s->key))
			begin_handshake(s, p, 1);
		else
			note_synack(s, p, h, sequence);
		return;
	case TCP_ACK:
		if (h->opener == p->from && h->synack.ns && !h->ack_ns && is_seen(h, &s->key))
			h->ack_ns = s->now_ns;
		return;
	case TCP_RST:
		note_reset(s, p, h);
	}
}

#endif
