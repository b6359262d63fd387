/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The thorough parser, for every frame that the quick one (parse.h) does not take: tags and labels, extension headers,
 * fragments, headers outside the linear part, and all that is not well. It works on a copy of the frame's beginning and is
 * verified on its own, so that it costs the quick path nothing.
 */
#ifndef WEIR_DEEP_H
#define WEIR_DEEP_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "clock.h"
#include "fragments.h"
#include "headers.h"
#include "link.h"
#include "packet.h"
#include "tunnels.h"

#define EXTENSIONS_MAX 8
#define TUNNELS_MAX 2 /* one in the other, as mirrored ones are in ERSPAN */
#define FRAGMENT6_OFFSET 0xfff8 /* RFC 8200 section 4.5 */
#define FRAGMENT6_MORE 0x0001

static __always_inline enum fate deep_ipv4(struct headers *h, struct route *r)
{
	struct iphdr *ip = deep_take(h, sizeof(*ip));
	__u32 header_len, total_len, fragment;

	if (!ip)
		return short_of(h);
	header_len = ip->ihl * 4;
	total_len = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_len < sizeof(*ip) || (total_len && total_len < header_len))
		return FATE_MALFORMED;
	if (!deep_skip(h, header_len - sizeof(*ip)))
		return short_of(h);
	map_ipv4(r->addr[0], ip->saddr);
	map_ipv4(r->addr[1], ip->daddr);
	r->ipv4 = 1;
	r->payload_len = total_len ? total_len - header_len : PAYLOAD_UNKNOWN;
	r->end = total_len ? h->pos + r->payload_len : PAYLOAD_UNKNOWN;
	r->protocol = ip->protocol;
	r->ttl = ip->ttl;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & (IP_OFFSET_MASK | IP_MORE_FRAGMENTS)) {
		r->fragment = fragment & IP_OFFSET_MASK ? FRAGMENT_LATER : FRAGMENT_FIRST;
		r->fragment_id = bpf_ntohs(ip->id);
	}
	return FATE_COUNTED;
}

/* What extension headers begin with (RFC 8200 section 4), and all of a fragment header (section 4.5). */
struct extension {
	__u8 nexthdr;
	__u8 len;
};

struct fragment_header {
	__u8 nexthdr;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* Whether an extension header is next, which says what follows it. Behind the header of a later fragment there is data. */
static __always_inline int goes_on(const struct headers *h, const struct route *r)
{
	__u32 pos = h->pos;

	if (r->fragment == FRAGMENT_LATER)
		return 0;
	switch (r->protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return 1;
	case IPPROTO_MH: /* the message itself, if nothing follows; so it is as yet (RFC 6275 section 6.1.1) */
		barrier_var(pos);
		return pos >= HEADERS_MAX || pos >= h->len || h->bytes[pos] != IPPROTO_NONE;
	}
	return 0;
}

static __always_inline enum fate deep_fragment(struct headers *h, struct route *r)
{
	struct fragment_header *header = deep_take(h, sizeof(*header));
	__u32 offset;

	if (!header)
		return short_of(h);
	offset = bpf_ntohs(header->offset);
	/* One fragment that is the whole datagram is none (RFC 6946). */
	if (offset & (FRAGMENT6_OFFSET | FRAGMENT6_MORE)) {
		r->fragment = offset & FRAGMENT6_OFFSET ? FRAGMENT_LATER : FRAGMENT_FIRST;
		r->fragment_id = bpf_ntohl(header->id);
	}
	r->protocol = header->nexthdr;
	return FATE_COUNTED;
}

/* Takes an extension header that says its own length: AH in units of 4 bytes less 2 (RFC 4302), others of 8 less 1. */
static __always_inline enum fate deep_option(struct headers *h, struct route *r)
{
	struct extension *extension = deep_take(h, sizeof(*extension));
	__u32 len;

	if (!extension)
		return short_of(h);
	len = r->protocol == IPPROTO_AH ? (extension->len + 2) * 4 : (extension->len + 1) * 8;
	r->protocol = extension->nexthdr;
	return deep_skip(h, len - sizeof(*extension)) ? FATE_COUNTED : short_of(h);
}

static __always_inline enum fate deep_extensions(struct headers *h, struct route *r)
{
	int i;

	for (i = 0; i < EXTENSIONS_MAX; i++) {
		__u32 start = h->pos;
		enum fate fate;

		if (!goes_on(h, r))
			return FATE_COUNTED;
		if (r->protocol == IPPROTO_FRAGMENT)
			fate = deep_fragment(h, r);
		else
			fate = deep_option(h, r);
		if (fate != FATE_COUNTED)
			return fate;
		if (r->payload_len == PAYLOAD_UNKNOWN)
			continue;
		if (r->payload_len < h->pos - start)
			return FATE_MALFORMED;
		r->payload_len -= h->pos - start;
	}
	return goes_on(h, r) ? FATE_UNSUPPORTED : FATE_COUNTED;
}

static __always_inline enum fate deep_ipv6(struct headers *h, struct route *r)
{
	struct ipv6hdr *ip = deep_take(h, sizeof(*ip));

	if (!ip)
		return short_of(h);
	if (ip->version != 6)
		return FATE_MALFORMED;
	copy_ipv6(r->addr[0], &ip->saddr);
	copy_ipv6(r->addr[1], &ip->daddr);
	r->payload_len = ip->payload_len ? bpf_ntohs(ip->payload_len) : PAYLOAD_UNKNOWN;
	r->end = ip->payload_len ? h->pos + r->payload_len : PAYLOAD_UNKNOWN;
	r->protocol = ip->nexthdr;
	r->ttl = ip->hop_limit;
	return deep_extensions(h, r);
}

/* How much of a transport header is read, but for TCP: all of its fixed part. 0: the protocol has no ports. */
static __always_inline __u32 transport_len(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE: /* RFC 3828 */
	case IPPROTO_ICMP:    /* RFC 792 */
		return 8;
	case IPPROTO_ICMPV6: /* RFC 4443 section 2.1 */
		return 4;
	case IPPROTO_SCTP: /* RFC 9260 section 3.1 */
	case IPPROTO_DCCP: /* RFC 4340 section 5.1 */
		return 12;
	}
	return 0;
}

/* Says where samples are taken, but not of fragments. The transport header ends at p->header_len. */
static __always_inline void deep_place(const struct route *r, struct packet *p, __u32 len)
{
	if (!config.samples || r->fragment)
		return;
	p->transport = p->header_len - len;
	p->payload_len = r->payload_len == PAYLOAD_UNKNOWN ? PAYLOAD_UNKNOWN : r->payload_len - len;
	p->ttl = r->ttl;
}

static __always_inline enum fate deep_tcp(struct headers *h, const struct route *r, struct packet *p)
{
	struct tcphdr *tcp;

	if (r->payload_len < sizeof(*tcp))
		return FATE_MALFORMED;
	tcp = deep_take(h, sizeof(*tcp));
	if (!tcp)
		return short_of(h);
	if (tcp->doff * 4 < sizeof(*tcp) || r->payload_len < tcp->doff * 4)
		return FATE_MALFORMED;
	p->key.port[0] = tcp->source;
	p->key.port[1] = tcp->dest;
	p->tcp_flags = bpf_ntohs(*(__be16 *)((void *)tcp + 12)) & TCP_CONTROL_BITS;
	p->header_len = h->pos - sizeof(*tcp) + tcp->doff * 4;
	deep_place(r, p, tcp->doff * 4);
	return FATE_COUNTED;
}

/* Reads ports, or what stands in their place, as source and destination. */
static __always_inline enum fate deep_transport(struct headers *h, const struct route *r, struct packet *p)
{
	__be16 *header;
	__u32 len;

	p->header_len = h->pos;
	p->key.port[0] = 0;
	p->key.port[1] = 0;
	if (r->fragment == FRAGMENT_LATER)
		return FATE_COUNTED;
	if (r->protocol == IPPROTO_TCP)
		return deep_tcp(h, r, p);
	len = transport_len(r->protocol);
	if (!len)
		return FATE_COUNTED;
	if (r->payload_len < len)
		return FATE_MALFORMED;
	header = deep_take(h, 4);
	if (!header || !deep_skip(h, len - 4))
		return short_of(h);
	if (r->protocol == IPPROTO_ICMP || r->protocol == IPPROTO_ICMPV6) {
		p->key.port[1] = header[0];
		return FATE_COUNTED;
	}
	p->key.port[0] = header[0];
	p->key.port[1] = header[1];
	p->header_len = h->pos;
	if (r->protocol == IPPROTO_UDP)
		deep_place(r, p, len);
	return FATE_COUNTED;
}

/* A first fragment leaves its ports; a later one finds them, if the first came before it, or keeps ports 0. */
static __always_inline void relate(struct route *r, struct packet *p)
{
	struct datagram datagram = {.id = r->fragment_id, .zone = p->key.zone, .netns = p->key.netns};
	struct datagram_flow *known;

	copy_ipv6(datagram.addr[0], (const void *)r->addr[0]);
	copy_ipv6(datagram.addr[1], (const void *)r->addr[1]);
	if (r->ipv4)
		datagram.protocol = r->protocol;
	if (r->fragment == FRAGMENT_FIRST) {
		struct datagram_flow flow = {.seen_ns = coarse_ns(), .protocol = r->protocol};

		flow.port[0] = p->key.port[0];
		flow.port[1] = p->key.port[1];
		bpf_map_update_elem(&fragments, &datagram, &flow, BPF_ANY);
		return;
	}
	known = bpf_map_lookup_elem(&fragments, &datagram);
	if (!known || coarse_ns() - known->seen_ns > FRAGMENT_TIMEOUT_NS)
		return;
	p->key.port[0] = known->port[0];
	p->key.port[1] = known->port[1];
	r->protocol = known->protocol;
}

/* Puts the lower endpoint first. The ports stand in p as source and destination. */
static __always_inline void deep_key(const struct route *r, struct packet *p)
{
	const struct in6_addr *src = (const void *)r->addr[0], *dst = (const void *)r->addr[1];
	__be16 src_port = p->key.port[0], dst_port = p->key.port[1];

	p->from = sender_end(compare_ipv6(src, dst), src_port, dst_port);
	copy_ipv6(p->key.addr[0], p->from ? dst : src);
	copy_ipv6(p->key.addr[1], p->from ? src : dst);
	p->key.port[0] = p->from ? dst_port : src_port;
	p->key.port[1] = p->from ? src_port : dst_port;
	p->key.protocol = r->protocol;
}

/*
 * Reads the headers of a packet from one layer on: its addresses into r, the rest into p, the ports as source and
 * destination. A global function: the verifier looks at it once, by itself.
 */
__noinline int deep_read(struct headers *h, struct packet *p, struct route *r, enum layer from)
{
	__be16 ethertype = from == LAYER_IPV6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	enum fate fate = FATE_COUNTED;

	if (!h || !p || !r)
		return FATE_MALFORMED;
	if (from == LAYER_FRAME || from == LAYER_LINK)
		fate = deep_link(h, p, from, &ethertype);
	if (fate != FATE_COUNTED)
		return fate;
	if (ethertype == bpf_htons(ETH_P_IP))
		fate = deep_ipv4(h, r);
	else if (ethertype == bpf_htons(ETH_P_IPV6))
		fate = deep_ipv6(h, r);
	else
		fate = FATE_NOT_IP;
	if (fate != FATE_COUNTED)
		return fate;
	return deep_transport(h, r, p);
}

/* Gives the packet its key: what was read stands in r and, the ports, in p. */
static __always_inline void identify(struct route *r, struct packet *p)
{
	if (r->fragment)
		relate(r, p);
	deep_key(r, p);
}

/* Says which tunnel connections are in whose addresses stand in `inner`. */
static __always_inline void describe_tunnel(struct tunnel *t, const struct route *outer, const struct route *inner,
					    __u16 zone)
{
	int order = compare_ipv6((const void *)inner->addr[0], (const void *)inner->addr[1]);
	int swapped = order > 0 && t->kind != TUNNEL_ERSPAN;

	copy_ipv6(t->outer[0], (const void *)(swapped ? outer->addr[1] : outer->addr[0]));
	copy_ipv6(t->outer[1], (const void *)(swapped ? outer->addr[0] : outer->addr[1]));
	t->around = zone;
}

/*
 * Reads on in a tunnel. 1: what is in it is what r and p tell of now. 0: they stay as they are, but that the headers of a
 * super-packet, of which each segment gets a copy, go on in the tunnel. A global function, as deep_read.
 */
__noinline int unwrap(struct headers *h, struct packet *p, struct route *r)
{
	struct packet inner = {};
	struct route inner_r = {};
	struct tunnel t = {};
	enum layer layer;

	if (!h || !p || !r || r->fragment)
		return 0;
	layer = take_tunnel(h, r->protocol, p->key.port[1], &t);
	if (!layer || deep_read(h, &inner, &inner_r, layer) != FATE_COUNTED)
		return 0;
	p->unopened = is_opened(&t, r->protocol, p->key.port[1]);
	/* The segments of one that ends early are packets of the tunnel, each with another packet in it: they stay together. */
	if (inner_r.end < p->super_len)
		return 0;
	p->header_len = inner.header_len;
	if (!p->unopened || p->filtered)
		return 0;
	describe_tunnel(&t, r, &inner_r, p->key.zone);
	if (inner.vlan) /* or a mirror may have taken the tag out, and told */
		t.vlan = inner.vlan;
	if (!config.vlan_zones)
		t.vlan = 0;
	inner.key.netns = config.netns;
	inner.key.zone = zone_of(&t);
	if (!inner.key.zone)
		return 0;
	inner.super_len = p->super_len;
	*p = inner;
	*r = inner_r;
	return 1;
}

/* Parses the copy of a frame. */
__noinline int parse_deep(struct headers *h, struct packet *p)
{
	struct route *r;
	enum fate fate;
	int i;

	if (!h || !p)
		return FATE_MALFORMED;
	r = &h->route;
	__builtin_memset(r, 0, sizeof(*r));
	h->pos = 0;
	p->tcp_flags = 0;
	p->transport = 0;
	fate = deep_read(h, p, r, LAYER_FRAME);
	if (fate != FATE_COUNTED)
		return fate;
	set_zone(p);
	for (i = 0; i < TUNNELS_MAX && (config.decap || p->super_len) && unwrap(h, p, r); i++)
		;
	if (p->filtered)
		return FATE_FILTERED;
	identify(r, p);
	return FATE_COUNTED;
}

#endif
