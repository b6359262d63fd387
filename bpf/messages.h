/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What an end of a TCP connection sends, as a row of messages. What one is, is told by its contents, on any port: a segment that
 * begins as a TLS hello, an SSH banner or an HTTP request does. A message may begin behind others, as after STARTTLS or through a
 * proxy.
 */
#ifndef WEIR_MESSAGES_H
#define WEIR_MESSAGES_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "config.h"
#include "packet.h"
#include "sampler.h"

#define HELLO_MAX 4096
#define REQUEST_MAX 8192
#define BANNER_MAX 255 /* RFC 4253 section 4.2 */
#define LOOKS_MAX 64   /* packets of an end that are looked at */
#define STRANGE_MAX 8  /* segments in a row that carry none of it */
#define STREAM_MAX 16384 /* bytes copied of an end */

#define TLS_HANDSHAKE 22 /* RFC 8446 section 5.1 */
#define TLS_RECORD_HEADER 5
#define TLS_MESSAGE_HEADER 4 /* section 4 */
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2
#define TLS_CERTIFICATE 11

enum stream_kind {
	STREAM_LOOKING, /* for a segment that begins a message */
	STREAM_BEGUN,	/* the SYN was seen, and nothing since */
	STREAM_TLS,
	STREAM_CERTIFICATES,
	STREAM_HTTP,
	STREAM_HTTP_DONE, /* the head of a request was read: another may follow */
	STREAM_SSH,
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

#endif
