/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What both parsers share: what they find in a frame, and the arithmetic of keys. */
#ifndef WEIR_PACKET_H
#define WEIR_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "config.h"

#define IP_OFFSET_MASK 0x1fff /* fragment offset, RFC 791 */
#define IP_MORE_FRAGMENTS 0x2000
#define TCP_CONTROL_BITS 0x0fff /* of bytes 12 and 13 of a TCP header, RFC 9293 and RFC 7125 */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct packet {
	struct flow_key key;
	__u8 from;        /* which end of the key sent it: 0 or 1 */
	__u8 outer;       /* bytes in front of the frame that are not the frame's */
	__u8 unopened;    /* it stayed in its tunnel, though what is in tunnels of its kind is counted */
	__u8 filtered;    /* only its weight is wanted: no map is to remember it */
	__u16 tcp_flags;  /* 0 if not TCP */
	__u16 header_len; /* from the frame's start to the end of its transport header */
	__u32 super_len;  /* of a super-packet, which stands for several; else 0 */
	__u16 vlan;       /* id of the outermost tag, 0 without one */
	__be16 ethertype; /* of what the frame begins with, where it has no Ethernet header */
	/* Where samples are wanted: */
	__u32 payload_len; /* what IP promises behind the transport header; PAYLOAD_UNKNOWN if it does not say */
	__u16 transport;   /* from the frame's start to its transport header; 0: none that samples are taken behind */
	__u8 ttl;	   /* or hop limit */
	__u8 sampled;	   /* it was counted, and its sender's packets are looked at */
};

/* A super-packet of more than 64 KiB says 0 (BIG TCP). */
#define PAYLOAD_UNKNOWN (~0U)

#define VLAN_ID_MASK 0x0fff
#define VLAN_TAG_LEN 4

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

static __always_inline int is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

static __always_inline void set_zone(struct packet *p)
{
	p->key.netns = config.netns;
	p->key.zone = config.vlan_zones ? p->vlan : 0;
}

/* Linux's own port for VXLAN is not IANA's. Its contents are only counted if that is set. */
#define VXLAN_PORT_LINUX bpf_htons(8472)

static __always_inline int is_vxlan(__be16 dst)
{
	return dst == config.vxlan_port || dst == VXLAN_PORT_LINUX;
}

/* Whether a UDP port is a tunnel's, which parse_deep looks into to count its contents or to weigh a super-packet. */
static __always_inline int leads_into_tunnel(const struct packet *p, __be16 dst)
{
	if (!config.decap && !p->super_len)
		return 0;
	return is_vxlan(dst) || dst == config.geneve_port || dst == config.gtpu_port;
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

/* Says which end of the key the sender is, given how its address compares with the receiver's. */
static __always_inline __u32 sender_end(int order, __be16 src, __be16 dst)
{
	if (order)
		return order > 0;
	return bpf_ntohs(src) > bpf_ntohs(dst);
}

#endif
