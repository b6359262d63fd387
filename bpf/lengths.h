/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The lengths of SSH packets, which say what a session is used for. */
#ifndef WEIR_LENGTHS_H
#define WEIR_LENGTHS_H

#include <linux/bpf.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "packet.h"
#include "sampler.h"

#define SEGMENTS_GATHERED_MAX 64 /* of one super-packet: 64 KiB of 1 KiB each; more are left out */

/* The SSH connections. The ones that have been quiet make room for new ones, which costs them their fingerprints. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct lengths);
	__uint(max_entries, 1); /* set at load */
} ssh SEC(".maps");

/* Adds a packet of an end. When there are enough, they are sent, and the next window begins. */
static __always_inline void add_length(const struct sampler *s, const struct packet *p, struct lengths *l, __u32 len)
{
	__u32 n = p->from ? l->count[1] : l->count[0];

	if (n >= LENGTHS_MAX) /* two CPUs added at the same time */
		n = LENGTHS_MAX - 1;
	if (p->from) {
		l->payload[1][n] = len;
		l->count[1] = n + 1;
	} else {
		l->payload[0][n] = len;
		l->count[0] = n + 1;
	}
	if (l->count[0] + l->count[1] < LENGTHS_MAX)
		return;
	describe(&l->head, s, p, SAMPLE_LENGTHS, sizeof(*l) - sizeof(l->head));
	put(l, sizeof(*l));
	l->count[0] = 0;
	l->count[1] = 0;
	l->acks[0] = 0;
	l->acks[1] = 0;
}

/* Opens the window of a connection. What each end acknowledged before counts. */
static __always_inline void begin_lengths(struct sampler *s, __u32 acks_0, __u32 acks_1)
{
	struct lengths *l = (void *)&s->sample; /* which has room for one */

	__builtin_memset(l, 0, sizeof(*l));
	l->acks[0] = acks_0;
	l->acks[1] = acks_1;
	bpf_map_update_elem(&ssh, &s->key, l, BPF_ANY);
	s->settled |= STATE_SSH;
}

/* Whether what a segment carries was sent before, or overtaken by what follows it. Such a segment is no packet of SSH. */
static __always_inline int is_repeated(const struct sampler *s, const struct packet *p, struct lengths *l)
{
	__u32 sequence = bpf_ntohl(((const struct tcphdr *)s->peek)->seq);
	__u32 end = p->from & 1;
	int repeated = l->begun & 1 << end && (__s32)(sequence - l->next[end]) < 0;

	if (!repeated || (__s32)(sequence + s->payload - l->next[end]) > 0)
		l->next[end] = sequence + s->payload;
	l->begun |= 1 << end;
	return repeated;
}

/* Gathers a packet of an SSH connection, or those that a super-packet stands for. */
static __always_inline void gather(struct sampler *s, const struct packet *p)
{
	struct lengths *l = bpf_map_lookup_elem(&ssh, &s->key);
	struct ledger_page *page;
	__u32 left = s->payload;
	int i;

	if (!l) {
		page = ledger_page();
		if (page)
			page->samples_forgotten++;
		s->settled |= STATE_SAMPLED;
		return;
	}
	if (!left && p->tcp_flags == TCP_ACK)
		l->acks[p->from & 1]++;
	if (left && is_repeated(s, p, l))
		return;
	for (i = 0; i < SEGMENTS_GATHERED_MAX && left; i++) {
		__u32 len = s->segment && s->segment < left ? s->segment : left;

		add_length(s, p, l, len);
		left -= len;
	}
}

#endif
