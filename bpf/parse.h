/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The quick parser: TCP and UDP over plain IPv4 or IPv6, untagged or with one VLAN tag, every header where it always is.
 * It says yes or no. What it does not take, for whatever reason, is for the thorough one (deep.h) to judge.
 */
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
#include "packet.h"

#define IP_VERSION_AND_LEN 0x45 /* IPv4, without options */

/* The ports of a TCP or UDP header. */
struct ports {
	__be16 src;
	__be16 dst;
};

/* Reads the transport header, of which payload_len bytes are promised by an IP header with that time to live. */
static __always_inline int parse_transport(void *frame, void *header, void *end, __u8 protocol, __u32 payload_len,
					   const __u8 *ttl, struct packet *p, struct ports *ports)
{
	struct tcphdr *tcp = header;
	__u32 len = sizeof(struct udphdr);

	if (header + len > end)
		return 0;
	ports->src = tcp->source;
	ports->dst = tcp->dest;
	if (protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return 0;
		len = tcp->doff * 4;
		p->tcp_flags = bpf_ntohs(*(__be16 *)(header + 12)) & TCP_CONTROL_BITS;
		if (len < sizeof(*tcp))
			return 0;
	} else if (protocol != IPPROTO_UDP || leads_into_tunnel(p, ports->dst)) {
		return 0;
	}
	p->header_len = header - frame + len;
	if (config.samples) {
		p->transport = header - frame;
		p->payload_len = payload_len - len;
		p->ttl = *ttl;
	}
	return payload_len >= len;
}

static __always_inline void set_ports(struct packet *p, __u8 protocol, const struct ports *ports)
{
	p->key.port[0] = p->from ? ports->dst : ports->src;
	p->key.port[1] = p->from ? ports->src : ports->dst;
	p->key.protocol = protocol;
}

static __always_inline int parse_ipv4(void *frame, void *header, void *end, struct packet *p)
{
	struct iphdr *ip = header;
	struct ports ports;
	__be32 saddr, daddr;
	__u32 total_len;

	if ((void *)(ip + 1) > end)
		return 0;
	total_len = bpf_ntohs(ip->tot_len);
	if (*(__u8 *)header != IP_VERSION_AND_LEN || total_len < sizeof(*ip) ||
	    ip->frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS))
		return 0;
	if (!parse_transport(frame, ip + 1, end, ip->protocol, total_len - sizeof(*ip), &ip->ttl, p, &ports))
		return 0;
	saddr = ip->saddr;
	daddr = ip->daddr;
	p->from = sender_end(compare_ipv4(saddr, daddr), ports.src, ports.dst);
	map_ipv4(p->key.addr[0], p->from ? daddr : saddr);
	map_ipv4(p->key.addr[1], p->from ? saddr : daddr);
	set_ports(p, ip->protocol, &ports);
	return 1;
}

static __always_inline int parse_ipv6(void *frame, void *header, void *end, struct packet *p)
{
	struct ipv6hdr *ip = header;
	struct ports ports;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return 0;
	if (!parse_transport(frame, ip + 1, end, ip->nexthdr, bpf_ntohs(ip->payload_len), &ip->hop_limit, p, &ports))
		return 0;
	p->from = sender_end(compare_ipv6(&ip->saddr, &ip->daddr), ports.src, ports.dst);
	copy_ipv6(p->key.addr[0], p->from ? &ip->daddr : &ip->saddr);
	copy_ipv6(p->key.addr[1], p->from ? &ip->saddr : &ip->daddr);
	set_ports(p, ip->nexthdr, &ports);
	return 1;
}

/* Returns what is behind the link layer's header and its EtherType, or 0 if that cannot be read. */
static __always_inline void *parse_link(void *frame, void *end, struct packet *p, __be16 *ethertype)
{
	struct ethhdr *eth = frame;
	struct vlan_tag *tag = (void *)(eth + 1);

	if (config.link_layer == LINK_NONE) {
		*ethertype = p->ethertype;
		return frame;
	}
	if ((void *)(eth + 1) > end)
		return 0;
	*ethertype = eth->h_proto;
	if (!is_vlan(*ethertype))
		return eth + 1;
	if ((void *)(tag + 1) > end)
		return 0;
	*ethertype = tag->ethertype;
	if (!p->vlan)
		p->vlan = bpf_ntohs(tag->tci) & VLAN_ID_MASK;
	return tag + 1;
}

/* Fills in p and returns 1, or leaves the frame to parse_deep and returns 0. A VLAN tag beside the frame is in p->vlan. */
static __always_inline int parse_quick(void *frame, void *end, struct packet *p)
{
	__be16 ethertype;
	void *header = parse_link(frame, end, p, &ethertype);
	int taken = 0;

	if (!header)
		return 0;
	p->tcp_flags = 0;
	if (ethertype == bpf_htons(ETH_P_IP))
		taken = parse_ipv4(frame, header, end, p);
	else if (ethertype == bpf_htons(ETH_P_IPV6))
		taken = parse_ipv6(frame, header, end, p);
	set_zone(p);
	return taken;
}

#endif
