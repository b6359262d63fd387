/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What of TCP streams is copied: their messages (messages.h), each until it ends. */
#ifndef WEIR_STREAMS_H
#define WEIR_STREAMS_H

#include <linux/bpf.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "handshake.h"
#include "lengths.h"
#include "maps.h"
#include "messages.h"
#include "packet.h"
#include "requests.h"
#include "sampler.h"

#define TLS_RECORDS_MAX 8 /* followed in one segment */

/* Follows a segment that carries something. Returns how much of it is copied. */
static __always_inline __u32 follow_segment(struct sampler *s, const struct packet *p, struct streams *c,
					    struct stream *st, __u32 sequence)
{
	__u32 offset = sequence - st->first;
	enum stream_kind kind;

	if (st->kind == STREAM_LOOKING || st->kind == STREAM_HTTP_DONE ||
	    ((st->kind == STREAM_BEGUN || st->kind == STREAM_HTTP) && offset == st->next)) {
		kind = recognise(s, p);
		if (kind == STREAM_SSH) {
			begin_lengths(s, c->end[0].acks, c->end[1].acks);
			gather(s, p);
		}
		if (kind == STREAM_HTTP && st->requests == ALL_REQUESTS_MAX) {
			st->looks = LOOKS_MAX;
			return 0;
		}
		if (kind) {
			begin_message(s, p, st, kind, sequence);
			offset = 0;
		} else if (st->kind != STREAM_HTTP) {
			if (st->kind != STREAM_HTTP_DONE)
				st->kind = STREAM_LOOKING;
			st->strange++;
			return 0;
		}
	}
	s->offset = offset;
	s->at = 0;
	s->sample.head.offset = sequence - st->origin;
	s->sample.head.origin = st->origin;
	s->follow = st->kind == STREAM_CERTIFICATES || st->kind == STREAM_HTTP;
	begin_search(s, st, offset);
	return piece(s, st, offset);
}

/* Whether nothing more of an end is looked at. */
static __always_inline int is_done(const struct stream *st)
{
	if (st->looks >= LOOKS_MAX || st->strange >= STRANGE_MAX || st->sent >= STREAM_MAX)
		return 1;
	return (st->kind == STREAM_TLS || st->kind == STREAM_CERTIFICATES) && st->next >= st->need;
}

/* Follows what an end sends. Returns how much of the payload is copied. */
static __always_inline __u32 follow_stream(struct sampler *s, const struct packet *p)
{
	__u32 sequence = bpf_ntohl(((const struct tcphdr *)s->peek)->seq);
	struct streams *c = bpf_map_lookup_elem(&streams, &s->slot);
	struct stream *st;
	__u32 len = 0;

	if (!c)
		return 0;
	st = p->from ? &c->end[1] : &c->end[0];
	if (p->tcp_flags & TCP_SYN) {
		sequence++;
		if (!st->looks || st->origin != sequence) { /* or it is the same SYN again */
			__builtin_memset(st, 0, sizeof(*st));
			st->first = sequence;
			st->kind = STREAM_BEGUN;
			renew(s);
		}
	}
	if (!st->looks)
		st->origin = sequence;
	if (s->there)
		len = follow_segment(s, p, c, st, sequence);
	else if (p->tcp_flags == TCP_ACK)
		st->acks++;
	st->looks++;
	if (is_done(st))
		settle_end(s, p);
	return len;
}

/* Looks at a TCP segment. Returns how much of its payload is copied. A global function, as those of deep.h. */
__noinline int look_at_segment(struct packet *p)
{
	struct sampler *s;

	if (!config.samples || !p)
		return 0;
	s = sampler_here();
	if (!s || s->peeked < sizeof(struct tcphdr))
		return 0;
	if (config.samples & WANT_HANDSHAKE)
		follow_handshake(s, p);
	if (config.samples & WANT_SSH && s->state & STATE_SSH && !(p->tcp_flags & TCP_SYN)) {
		gather(s, p);
		return 0;
	}
	if (config.samples & WANT_STREAMS)
		return follow_stream(s, p);
	if (!(p->tcp_flags & TCP_SYN))
		settle_end(s, p);
	return 0;
}

/* Follows the records of an end. The first that is no handshake is encrypted, or says that what comes is. */
static __always_inline void follow_records(const struct sampler *s, struct stream *st, __u32 offset, __u32 len)
{
	__u32 record = st->record;
	int i;

	for (i = 0; i < TLS_RECORDS_MAX; i++) {
		__u32 at = record - offset;

		barrier_var(at);
		if (at > SAMPLE_MAX - TLS_RECORD_HEADER || at + TLS_RECORD_HEADER > len)
			break;
		if (s->sample.data[at] != TLS_HANDSHAKE) {
			st->need = record;
			break;
		}
		record += TLS_RECORD_HEADER + (s->sample.data[at + 3] << 8 | s->sample.data[at + 4]);
		if (record > STREAM_MAX)
			record = STREAM_MAX;
	}
	st->record = record;
}

/* Looks for the end of the message in what was copied of it. Returns how much of that belongs to it. */
static __always_inline __u32 find_end(struct sampler *s, const struct packet *p, __u32 len)
{
	struct stream *st = stream_of(s, p);
	__u32 offset = s->offset;

	if (!st)
		return len;
	if (st->kind == STREAM_HTTP)
		return cut_head(s, p, st, len);
	follow_records(s, st, offset, len);
	if (is_done(st))
		settle_end(s, p);
	return st->need <= offset ? 0 : st->need - offset < len ? st->need - offset : len;
}

/* Sends the piece of a stream that was copied. Returns how much is copied next, behind it in the same segment. */
__noinline int send_piece(struct packet *p, __u32 len)
{
	struct sampler *s;

	if (!config.samples || !p)
		return 0;
	s = sampler_here();
	if (!s)
		return 0;
	if (s->follow)
		len = find_end(s, p, len);
	if (!len)
		return 0;
	describe(&s->sample.head, s, p, SAMPLE_STREAM, len);
	put(&s->sample, sizeof(s->sample.head) + bounded_to(len, SAMPLE_MAX));
	return s->follow && s->search.another ? follow_another(s, p) : 0;
}

#endif
