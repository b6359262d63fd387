/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where the head of an HTTP/1 request ends: behind an empty line, for which the copy is searched. Of a body nothing is copied. */
#ifndef WEIR_REQUESTS_H
#define WEIR_REQUESTS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "maps.h"
#include "messages.h"
#include "packet.h"
#include "sampler.h"

#define REQUESTS_MAX 8 /* of one segment, that are copied */
#define ALL_REQUESTS_MAX 100 /* of one end: or a busy connection would have all of the samples of its CPU */

/* Where in the lines of a request's head it is. A line may end without CR, RFC 9112 section 2.2. */
enum line {
	LINE_IN,    /* behind its first byte */
	LINE_BEGUN, /* in front of that */
	LINE_CR,    /* the same, but for a CR */
};

/*
 * Says what is to be searched of the piece of a request that is copied next. Of one that comes before its turn nobody knows how
 * what is in front of it ends: it is taken to begin in a line.
 */
static __always_inline void begin_search(struct sampler *s, const struct stream *st, __u32 offset)
{
	struct search *f = &s->search;

	f->in_turn = offset <= st->next;
	f->from = f->in_turn ? st->next - offset : 0;
	f->line = f->in_turn ? st->record : LINE_IN;
	f->another = 0;
}

_Static_assert(SWEEP_WORDS * sizeof(__u64) >= REQUEST_MAX, "a search has enough steps");

/* Looks at eight bytes of the copy. Returns 1, which ends the walk, at the end. */
static long search_word(struct bpf_map *map, __u32 *step, __u32 *nothing, void *none)
{
	struct sampler *s = sampler_here();
	struct search *f;
	__u32 first, i;

	if (!s)
		return 1;
	f = &s->search;
	first = f->from + *step * sizeof(__u64);
	for (i = 0; i < sizeof(__u64); i++) {
		__u32 at = first + i;
		__u8 byte;

		barrier_var(at);
		if (at >= f->len || at >= REQUEST_MAX)
			return 1;
		byte = s->sample.data[at];
		if (byte == '\n' && f->line != LINE_IN) {
			f->end = at + 1;
			return 1;
		}
		if (byte == '\r' && f->line == LINE_BEGUN)
			f->line = LINE_CR;
		else
			f->line = byte == '\n' ? LINE_BEGUN : LINE_IN;
	}
	return 0;
}

/* Whether a request begins at a place of the copy. */
static __always_inline int is_request(const struct sampler *s, __u32 at)
{
	const __u8 *four = s->sample.data;

	barrier_var(at);
	if (at + 4 > s->search.len || at > REQUEST_MAX - 4)
		return 0;
	four += at;
	return is_method(four[0] << 24 | four[1] << 16 | four[2] << 8 | four[3]);
}

/*
 * Cuts the copy of a request where its head ends: what follows is nobody's business, unless it is another request. Returns how
 * much of it is left.
 */
static __always_inline __u32 cut_head(struct sampler *s, const struct packet *p, struct stream *st, __u32 len)
{
	struct search *f = &s->search;

	f->len = len;
	f->end = 0;
	bpf_for_each_map_elem(&steps, search_word, 0, 0); /* without room on the stack, of which there is too little */
	if (f->in_turn && f->from < len)
		st->record = st->next == s->offset + len ? f->line : LINE_IN; /* or a piece follows that was copied before */
	if (f->end && s->offset + f->end < st->need)
		st->need = s->offset + f->end;
	if (st->next >= st->need) {
		st->kind = STREAM_HTTP_DONE;
		s->settled |= STATE_ASKED_0 << p->from; /* a client acknowledges much before it asks again */
	}
	if (!f->end)
		return len;
	f->another = f->in_turn && st->requests < ALL_REQUESTS_MAX && is_request(s, f->end);
	st->sent -= len - f->end;
	return f->end;
}

/* Begins the request that follows another one in the same segment. Returns how much of it is copied. */
static __always_inline __u32 follow_another(struct sampler *s, const struct packet *p)
{
	struct stream *st = stream_of(s, p);
	__u32 end = s->search.end;

	if (!st || end > s->there)
		return 0;
	begin_message(s, p, st, STREAM_HTTP, st->first + s->offset + end);
	s->offset = 0;
	s->at += end;
	s->there -= end;
	s->sample.head.offset += end;
	begin_search(s, st, 0);
	return piece(s, st, 0);
}

#endif
