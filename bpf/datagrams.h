/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What of UDP is copied: the first Initial datagrams of QUIC, by what they contain, and DHCP, by its ports. */
#ifndef WEIR_DATAGRAMS_H
#define WEIR_DATAGRAMS_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "packet.h"
#include "sampler.h"
#include "streams.h"

#define DATAGRAM_MAX 1500
#define QUIC_LONG_HEADER 0xc0 /* with the fixed bit, RFC 9000 section 17.2 */
#define QUIC_TYPE 0x30
#define QUIC_V1 1
#define QUIC_V1_INITIAL 0x00
#define QUIC_V2 0x6b3343cf /* RFC 9369 section 3 */
#define QUIC_V2_INITIAL 0x10
#define QUIC_CLIENT_MIN 1200 /* bytes of a client's datagram with an Initial packet, RFC 9000 section 14.1 */
#define QUIC_LOOKS_MAX 16    /* datagrams of an end that are looked at, */
#define QUIC_DATAGRAMS_MAX 4 /* and of these that are copied whole */
#define DHCP_DATAGRAMS_MAX 64 /* of an end that are copied in a second: whoever forges more must not have all of the ring */
#define QUIC_HEADER 16	     /* bytes of one that says by its type and time how the connection is opened */

static __always_inline int is_dhcp_port(__be16 port)
{
	switch (port) {
	case bpf_htons(67): /* RFC 2131 section 4.1 */
	case bpf_htons(68):
	case bpf_htons(4011): /* of boot servers: PXE, IANA */
	case bpf_htons(546): /* RFC 8415 section 7.2 */
	case bpf_htons(547):
		return 1;
	}
	return 0;
}

static __always_inline int is_dhcp(const struct flow_key *key)
{
	return config.samples & WANT_DHCP && (is_dhcp_port(key->port[0]) || is_dhcp_port(key->port[1]));
}

static __always_inline int is_initial(const __u8 *header)
{
	__u32 version = header[1] << 24 | header[2] << 16 | header[3] << 8 | header[4];

	if (version == QUIC_V1)
		return (header[0] & QUIC_TYPE) == QUIC_V1_INITIAL;
	return version == QUIC_V2 && (header[0] & QUIC_TYPE) == QUIC_V2_INITIAL;
}

static __always_inline __u32 at_most(__u32 len, __u32 max)
{
	return len < max ? len : max;
}

/*
 * How much of a datagram of DHCP is copied. All clients that have no address yet are one connection, which does not end: it is
 * never done with, and what is copied of it is so in each second anew.
 */
static __always_inline __u32 follow_dhcp(struct sampler *s, const struct packet *p)
{
	struct stream *st = stream_of(s, p);
	__u32 second = s->now_ns / NS_PER_SECOND;

	if (!st)
		return 0;
	if (st->origin != second) {
		st->origin = second;
		st->looks = 0;
	}
	if (st->looks >= DHCP_DATAGRAMS_MAX)
		return 0;
	st->looks++;
	return at_most(s->there, DATAGRAM_MAX);
}

/* How much of a datagram is copied that may be QUIC's. Only those with a long header can have an Initial packet. */
static __always_inline __u32 follow_quic(struct sampler *s, const struct packet *p)
{
	struct stream *st;

	if (s->peeked < 5 || (s->peek[0] & QUIC_LONG_HEADER) != QUIC_LONG_HEADER) {
		settle_end(s, p);
		return 0;
	}
	st = stream_of(s, p);
	if (!st)
		return 0;
	if (++st->looks >= QUIC_LOOKS_MAX)
		settle_end(s, p);
	if (!is_initial(s->peek))
		return config.samples & WANT_QUIC_TIMES && st->sent ? at_most(s->there, QUIC_HEADER) : 0;
	if (s->state & STATE_OPENED_0 << p->from && s->payload < QUIC_CLIENT_MIN)
		return 0;
	if (st->sent >= QUIC_DATAGRAMS_MAX)
		return 0;
	if (++st->sent == QUIC_DATAGRAMS_MAX && !(config.samples & WANT_QUIC_TIMES))
		settle_end(s, p);
	return at_most(s->there, DATAGRAM_MAX);
}

/* Looks at a datagram. Returns how much of its payload is copied. */
__noinline int look_at_datagram(struct packet *p)
{
	struct sampler *s;

	if (!config.samples || !p)
		return 0;
	s = sampler_here();
	if (!s)
		return 0;
	if (is_dhcp(&s->key))
		return follow_dhcp(s, p);
	if (config.samples & WANT_QUIC)
		return follow_quic(s, p);
	settle_end(s, p);
	return 0;
}

#endif
