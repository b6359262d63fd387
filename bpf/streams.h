/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What of TCP streams is copied. What a stream carries is told by its contents, on any port: a segment that begins as a TLS
 * hello, an SSH banner or an HTTP request does. A message may begin behind others, as after STARTTLS or through a proxy.
 */
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
#include "packet.h"
#include "sampler.h"

#define HELLO_MAX 4096
#define REQUEST_MAX 8192
#define BANNER_MAX 255 /* RFC 4253 section 4.2 */
#define LOOKS_MAX 64   /* packets of an end that are looked at */
#define STRANGE_MAX 8  /* segments in a row that carry none of it */
#define STREAM_MAX 16384 /* bytes copied of an end */

#define REQUESTS_MAX 8 /* of one segment, that are copied */
#define ALL_REQUESTS_MAX 100 /* of one end: or a busy connection would have all of the samples of its CPU */

#define TLS_HANDSHAKE 22 /* RFC 8446 section 5.1 */
#define TLS_RECORD_HEADER 5
#define TLS_MESSAGE_HEADER 4 /* section 4 */
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2
#define TLS_CERTIFICATE 11
#define TLS_RECORDS_MAX 8 /* followed in one segment */

enum stream_kind {
	STREAM_LOOKING, /* for a segment that begins a message */
	STREAM_BEGUN,	/* the SYN was seen, and nothing since */
	STREAM_TLS,
	STREAM_CERTIFICATES,
	STREAM_HTTP,
	STREAM_HTTP_DONE, /* the head of a request was read: another may follow */
	STREAM_SSH,
};

/* Where in the lines of a request's head it is. A line may end without CR, RFC 9112 section 2.2. */
enum line {
	LINE_IN,    /* behind its first byte */
	LINE_BEGUN, /* in front of that */
	LINE_CR,    /* the same, but for a CR */
};

/* What an end sends. Offsets count from the beginning of the message that is followed. */
struct stream {
	__u32 origin;	  /* sequence number of the first byte of the stream, or that was seen; of DHCP, the second of `looks` */
	__u32 first;	  /* of the first byte of the message */
	__u16 need;	  /* where it ends, or is cut */
	__u16 next;	  /* so far it was copied without a gap, */
	__u16 ahead_from; /* and this part before its turn */
	__u16 ahead_to;
	__u16 record; /* where the next TLS record begins that was not looked at; of a request, enum line at `next` */
	__u16 sent;   /* bytes copied of this end, in all */
	__u8 kind;    /* enum stream_kind */
	__u8 looks;
	__u8 strange;
	__u8 acks; /* packets that only acknowledge, as of yet */
	__u8 requests;
	__u8 pad[3];
};

/* Index n is what end n sends. */
struct streams {
	struct stream end[2];
};

/* Those of the connection in each slot, if STATE_FOLLOWED says so. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct streams);
	__uint(max_entries, 1); /* set at load */
} streams SEC(".maps");

/* What the sender sends. */
static __always_inline struct stream *stream_of(const struct sampler *s, const struct packet *p)
{
	struct streams *c = bpf_map_lookup_elem(&streams, &s->slot);

	if (!c)
		return 0;
	return p->from ? &c->end[1] : &c->end[0];
}

/* Byte n of the payload, as far as that was peeked at. */
static __always_inline __u32 peeked(const struct sampler *s, const struct packet *p, __u32 n)
{
	__u32 at = (p->header_len - p->transport + n) & (PEEK_MAX - 1);

	barrier_var(at);
	return s->peek[at];
}

/* Whether a request line begins with such a method (RFC 9110 section 9, RFC 5789). The first four bytes tell them apart. */
static __always_inline int is_method(__u32 four)
{
	switch (four) {
	case 0x47455420: /* GET */
	case 0x48454144: /* HEAD */
	case 0x504f5354: /* POST */
	case 0x50555420: /* PUT */
	case 0x44454c45: /* DELETE */
	case 0x434f4e4e: /* CONNECT */
	case 0x4f505449: /* OPTIONS */
	case 0x54524143: /* TRACE */
	case 0x50415443: /* PATCH */
		return 1;
	}
	return 0;
}

static __always_inline int wants_tls(void)
{
	return (config.samples & (WANT_TLS | WANT_CERTIFICATES)) != 0;
}

/* What a hello begins: behind it come the certificates of a server, and of a client that was asked for some. */
static __always_inline enum stream_kind tls_stream(void)
{
	return config.samples & WANT_CERTIFICATES ? STREAM_CERTIFICATES : STREAM_TLS;
}

/* Says what a segment begins. */
static __always_inline enum stream_kind recognise(const struct sampler *s, const struct packet *p)
{
	__u32 four, message;

	if (s->there < 4)
		return wants_tls() && peeked(s, p, 0) == TLS_HANDSHAKE ? tls_stream() : STREAM_LOOKING;
	four = peeked(s, p, 0) << 24 | peeked(s, p, 1) << 16 | peeked(s, p, 2) << 8 | peeked(s, p, 3);
	message = s->there > TLS_RECORD_HEADER ? peeked(s, p, TLS_RECORD_HEADER) : TLS_CLIENT_HELLO;
	if (wants_tls() && four >> 16 == (TLS_HANDSHAKE << 8 | 3) && (four >> 8 & 0xff) <= 4 &&
	    (message == TLS_CLIENT_HELLO || message == TLS_SERVER_HELLO ||
	     (message == TLS_CERTIFICATE && config.samples & WANT_CERTIFICATES))) /* whose hello was not seen */
		return tls_stream();
	if (config.samples & WANT_HTTP && is_method(four))
		return STREAM_HTTP;
	if (config.samples & WANT_SSH && four == 0x5353482d) /* "SSH-", RFC 4253 section 4.2 */
		return STREAM_SSH;
	return STREAM_LOOKING;
}

/* Where the hello ends that a segment begins with: with its record, or HELLO_MAX if it goes on in others. */
static __always_inline __u32 hello_end(const struct sampler *s, const struct packet *p)
{
	__u32 record, message;

	if (s->there < TLS_RECORD_HEADER + TLS_MESSAGE_HEADER)
		return HELLO_MAX;
	record = peeked(s, p, 3) << 8 | peeked(s, p, 4);
	message = peeked(s, p, 6) << 16 | peeked(s, p, 7) << 8 | peeked(s, p, 8);
	if (message + TLS_MESSAGE_HEADER > record || record > HELLO_MAX - TLS_RECORD_HEADER)
		return HELLO_MAX;
	return TLS_RECORD_HEADER + record;
}

static __always_inline void begin_message(const struct sampler *s, const struct packet *p, struct stream *st,
					  enum stream_kind kind, __u32 sequence)
{
	st->kind = kind;
	/* What came before its turn belongs to the message that the stream begins with. */
	if (st->first != sequence) {
		st->first = sequence;
		st->ahead_from = 0;
		st->ahead_to = 0;
	}
	st->next = 0;
	st->record = 0;
	st->strange = 0;
	switch (kind) {
	case STREAM_TLS:
		st->need = hello_end(s, p);
		break;
	case STREAM_HTTP: /* each request has what the first one had */
		st->need = REQUEST_MAX;
		st->looks = 1;
		st->sent = 0;
		st->requests++;
		break;
	case STREAM_SSH:
		st->need = BANNER_MAX;
		break;
	default:
		st->need = STREAM_MAX;
	}
}

/* Notes that the message was copied from one offset to another. Of what comes before its turn, one piece is known. */
static __always_inline void advance(struct stream *st, __u32 from, __u32 to)
{
	if (from <= st->next) {
		if (to > st->next)
			st->next = to;
		if (st->ahead_from <= st->next && st->ahead_to > st->next)
			st->next = st->ahead_to;
		return;
	}
	if (from > st->ahead_to || to < st->ahead_from) {
		if (st->ahead_to)
			return;
		st->ahead_from = from;
	}
	if (from < st->ahead_from)
		st->ahead_from = from;
	if (to > st->ahead_to)
		st->ahead_to = to;
}

/* How much of the segment is copied that has the message from an offset on. */
static __always_inline __u32 piece(const struct sampler *s, struct stream *st, __u32 offset)
{
	__u32 end = st->kind == STREAM_BEGUN ? HELLO_MAX : st->need;
	__u32 len = s->there;

	if (offset >= end) /* or before its beginning */
		return 0;
	if (len > end - offset)
		len = end - offset;
	if (len > STREAM_MAX - st->sent)
		len = STREAM_MAX - st->sent;
	st->sent += len;
	advance(st, offset, offset + len);
	return len;
}

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
