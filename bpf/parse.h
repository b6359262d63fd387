/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From a frame to its connection. */
#ifndef WEIR_PARSE_H
#define WEIR_PARSE_H

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

#define IP_OFFSET_MASK 0x1fff /* fragment offset, RFC 791 */
#define IP_MORE_FRAGMENTS 0x2000
#define TCP_CONTROL_BITS 0x0fff /* of bytes 12 and 13 of a TCP header, RFC 9293 and RFC 7125 */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* A super-packet of more than 64 KiB says 0 (BIG TCP). */
#define PAYLOAD_UNKNOWN (~0U)

/* The read position in a frame. Every header is taken from it, bounds checked. */
struct cursor {
	void *pos;
	void *end;
};

struct packet {
	struct flow_key key;
	__u32 from;       /* which end of the key sent it: 0 or 1 */
	__u32 tcp_flags;  /* 0 if not TCP */
	__u32 header_len; /* from the frame's start to the end of its transport header */
};

/* An IP header reduced to what the rest needs. */
struct network {
	void *transport;    /* where the payload starts */
	__u32 payload_len;  /* bytes the IP header promises behind itself; PAYLOAD_UNKNOWN if it does not say */
	__u8 protocol;
	__u8 later_fragment; /* no transport header here */
};

static __always_inline void *take_header(struct cursor *cur, __u32 len)
{
	void *header = cur->pos;

	if (header + len > cur->end)
		return 0;
	cur->pos = header + len;
	return header;
}

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

/* Takes the Ethernet header and a VLAN tag, if there is one. The EtherType is in network order. */
static __always_inline enum fate parse_link(struct cursor *cur, __be16 *ethertype)
{
	struct ethhdr *eth = take_header(cur, sizeof(*eth));

	if (!eth)
		return FATE_TRUNCATED;
	*ethertype = eth->h_proto;
	if (*ethertype == bpf_htons(ETH_P_8021Q) || *ethertype == bpf_htons(ETH_P_8021AD)) {
		struct vlan_tag *tag = take_header(cur, sizeof(*tag));

		if (!tag)
			return FATE_TRUNCATED;
		*ethertype = tag->ethertype;
	}
	return FATE_COUNTED;
}

/* Writes an IPv4 address as v4-mapped. */
static __always_inline void map_ipv4(__u8 *to, __be32 addr)
{
	*(__u64 *)to = 0;
	*(__u32 *)(to + 8) = bpf_htonl(0xffff);
	*(__u32 *)(to + 12) = addr;
}

static __always_inline void copy_ipv6(__u8 *to, const struct in6_addr *addr)
{
	*(__u64 *)to = *(const __u64 *)&addr->s6_addr[0];
	*(__u64 *)(to + 8) = *(const __u64 *)&addr->s6_addr[8];
}

/* Less, equal, greater: -1, 0, 1, as memcmp would say. */
static __always_inline int compare_ipv4(__be32 a, __be32 b)
{
	if (a == b)
		return 0;
	return bpf_ntohl(a) < bpf_ntohl(b) ? -1 : 1;
}

static __always_inline int compare_ipv6(const struct in6_addr *a, const struct in6_addr *b)
{
	__u64 a_high = bpf_be64_to_cpu(*(const __u64 *)&a->s6_addr[0]);
	__u64 b_high = bpf_be64_to_cpu(*(const __u64 *)&b->s6_addr[0]);
	__u64 a_low = bpf_be64_to_cpu(*(const __u64 *)&a->s6_addr[8]);
	__u64 b_low = bpf_be64_to_cpu(*(const __u64 *)&b->s6_addr[8]);

	if (a_high != b_high)
		return a_high < b_high ? -1 : 1;
	if (a_low != b_low)
		return a_low < b_low ? -1 : 1;
	return 0;
}

static __always_inline enum fate parse_ipv4(struct cursor *cur, struct network *net, struct iphdr **header)
{
	struct iphdr *ip = take_header(cur, sizeof(*ip));
	__u32 header_len, total_len, fragment;

	if (!ip)
		return FATE_TRUNCATED;
	header_len = ip->ihl * 4;
	total_len = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_len < sizeof(*ip) || (total_len && total_len < header_len))
		return FATE_MALFORMED;
	if (!take_header(cur, header_len - sizeof(*ip)))
		return FATE_TRUNCATED;
	fragment = bpf_ntohs(ip->frag_off);
	net->transport = cur->pos;
	net->payload_len = total_len ? total_len - header_len : PAYLOAD_UNKNOWN;
	net->protocol = ip->protocol;
	net->later_fragment = (fragment & IP_OFFSET_MASK) != 0;
	*header = ip;
	return FATE_COUNTED;
}

static __always_inline enum fate parse_ipv6(struct cursor *cur, struct network *net, struct ipv6hdr **header)
{
	struct ipv6hdr *ip = take_header(cur, sizeof(*ip));

	if (!ip)
		return FATE_TRUNCATED;
	if (ip->version != 6)
		return FATE_MALFORMED;
	switch (ip->nexthdr) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
	case IPPROTO_MH:
		return FATE_UNSUPPORTED;
	}
	net->transport = cur->pos;
	net->payload_len = ip->payload_len ? bpf_ntohs(ip->payload_len) : PAYLOAD_UNKNOWN;
	net->protocol = ip->nexthdr;
	net->later_fragment = 0;
	*header = ip;
	return FATE_COUNTED;
}

/* Takes a transport header of at least len bytes, which must lie both in the frame and in the IP payload. */
static __always_inline enum fate take_transport(struct cursor *cur, const struct network *net, __u32 len, void **header)
{
	if (net->payload_len < len)
		return FATE_MALFORMED;
	*header = take_header(cur, len);
	return *header ? FATE_COUNTED : FATE_TRUNCATED;
}

static __always_inline enum fate parse_tcp(struct cursor *cur, const struct network *net, struct packet *p,
					   __be16 *src, __be16 *dst)
{
	enum fate fate;
	void *header;
	struct tcphdr *tcp;

	fate = take_transport(cur, net, sizeof(*tcp), &header);
	if (fate != FATE_COUNTED)
		return fate;
	tcp = header;
	if (tcp->doff * 4 < sizeof(*tcp) || net->payload_len < tcp->doff * 4)
		return FATE_MALFORMED;
	*src = tcp->source;
	*dst = tcp->dest;
	p->tcp_flags = bpf_ntohs(*(__be16 *)(header + 12)) & TCP_CONTROL_BITS;
	p->header_len += tcp->doff * 4;
	return FATE_COUNTED;
}

/*
 * Reads ports, or what stands in their place. Protocols without either, and fragments behind the first, have ports 0.
 * An ICMP message starts with its type and its code, so as one big-endian number they are type * 256 + code.
 */
static __always_inline enum fate parse_transport(struct cursor *cur, const struct network *net, struct packet *p,
						 __be16 *src, __be16 *dst)
{
	enum fate fate;
	void *header;

	*src = 0;
	*dst = 0;
	if (net->later_fragment)
		return FATE_COUNTED;
	switch (net->protocol) {
	case IPPROTO_TCP:
		return parse_tcp(cur, net, p, src, dst);
	case IPPROTO_UDP:
		fate = take_transport(cur, net, sizeof(struct udphdr), &header);
		if (fate != FATE_COUNTED)
			return fate;
		*src = ((struct udphdr *)header)->source;
		*dst = ((struct udphdr *)header)->dest;
		p->header_len += sizeof(struct udphdr);
		return FATE_COUNTED;
	case IPPROTO_ICMP:
		fate = take_transport(cur, net, 8, &header); /* RFC 792 */
		break;
	case IPPROTO_ICMPV6:
		fate = take_transport(cur, net, 4, &header); /* RFC 4443 section 2.1 */
		break;
	default:
		return FATE_COUNTED;
	}
	if (fate == FATE_COUNTED)
		*dst = *(__be16 *)header;
	return fate;
}

/* Says which end of the key the sender is, given how its address compares with the receiver's. */
static __always_inline __u32 sender_end(int order, __be16 src, __be16 dst)
{
	if (order)
		return order > 0;
	return bpf_ntohs(src) > bpf_ntohs(dst);
}

static __always_inline void set_ports(struct packet *p, __u8 protocol, __be16 src, __be16 dst)
{
	p->key.port[0] = p->from ? dst : src;
	p->key.port[1] = p->from ? src : dst;
	p->key.protocol = protocol;
	p->key.pad = 0;
	p->key.zone = 0;
}

static __always_inline enum fate parse_ipv4_packet(struct cursor *cur, void *frame, struct packet *p)
{
	struct network net;
	struct iphdr *ip;
	__be32 saddr, daddr;
	__be16 src, dst;
	enum fate fate;

	fate = parse_ipv4(cur, &net, &ip);
	if (fate != FATE_COUNTED)
		return fate;
	p->header_len = net.transport - frame;
	fate = parse_transport(cur, &net, p, &src, &dst);
	if (fate != FATE_COUNTED)
		return fate;
	saddr = ip->saddr;
	daddr = ip->daddr;
	p->from = sender_end(compare_ipv4(saddr, daddr), src, dst);
	map_ipv4(p->key.addr[0], p->from ? daddr : saddr);
	map_ipv4(p->key.addr[1], p->from ? saddr : daddr);
	set_ports(p, net.protocol, src, dst);
	return FATE_COUNTED;
}

static __always_inline enum fate parse_ipv6_packet(struct cursor *cur, void *frame, struct packet *p)
{
	struct network net;
	struct ipv6hdr *ip;
	__be16 src, dst;
	enum fate fate;

	fate = parse_ipv6(cur, &net, &ip);
	if (fate != FATE_COUNTED)
		return fate;
	p->header_len = net.transport - frame;
	fate = parse_transport(cur, &net, p, &src, &dst);
	if (fate != FATE_COUNTED)
		return fate;
	p->from = sender_end(compare_ipv6(&ip->saddr, &ip->daddr), src, dst);
	copy_ipv6(p->key.addr[0], p->from ? &ip->daddr : &ip->saddr);
	copy_ipv6(p->key.addr[1], p->from ? &ip->saddr : &ip->daddr);
	set_ports(p, net.protocol, src, dst);
	return FATE_COUNTED;
}

/* Fills in p. Any answer but FATE_COUNTED is the packet's fate, and p is not to be used. */
static __always_inline enum fate parse(void *frame, void *frame_end, struct packet *p)
{
	struct cursor cur = {.pos = frame, .end = frame_end};
	__be16 ethertype;
	enum fate fate;

	p->tcp_flags = 0;
	fate = parse_link(&cur, &ethertype);
	if (fate != FATE_COUNTED)
		return fate;
	if (ethertype == bpf_htons(ETH_P_IP))
		return parse_ipv4_packet(&cur, frame, p);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_ipv6_packet(&cur, frame, p);
	return FATE_NOT_IP;
}

#endif
