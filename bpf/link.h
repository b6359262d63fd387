/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the thorough parser takes in front of the IP header: Ethernet, VLAN tags, PPPoE, MPLS labels. */
#ifndef WEIR_LINK_H
#define WEIR_LINK_H

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "config.h"
#include "headers.h"
#include "packet.h"

#define VLAN_TAGS_MAX 3
#define MPLS_LABELS_MAX 4
#define MPLS_BOTTOM 0x100 /* of the stack, RFC 3032 section 2.1 */
#define PPP_IPV4 0x0021   /* RFC 1332 section 2.1 */
#define PPP_IPV6 0x0057   /* RFC 5072 section 2 */

/* Takes the tags in front of the EtherType. p->vlan is that of the first, unless one travelled beside the frame. */
static __always_inline enum fate deep_vlan(struct headers *h, struct packet *p, __be16 *ethertype)
{
	int i;

	for (i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag;

		if (!is_vlan(*ethertype))
			return FATE_COUNTED;
		tag = deep_take(h, sizeof(*tag));
		if (!tag)
			return short_of(h);
		if (!p->vlan)
			p->vlan = bpf_ntohs(tag->tci) & VLAN_ID_MASK;
		*ethertype = tag->ethertype;
	}
	return is_vlan(*ethertype) ? FATE_UNSUPPORTED : FATE_COUNTED;
}

/* RFC 2516 section 4, and the protocol field of the PPP frame behind it (RFC 1661 section 2). */
struct pppoe_header {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
	__be16 protocol;
};

/* Takes a PPPoE session header. What is not IP in it, such as the set-up of the link, keeps its EtherType. */
static __always_inline enum fate deep_pppoe(struct headers *h, __be16 *ethertype)
{
	struct pppoe_header *pppoe = deep_take(h, sizeof(*pppoe));

	if (!pppoe)
		return short_of(h);
	if (pppoe->version_type != 0x11 || pppoe->code)
		return FATE_MALFORMED;
	if (pppoe->protocol == bpf_htons(PPP_IPV4))
		*ethertype = bpf_htons(ETH_P_IP);
	else if (pppoe->protocol == bpf_htons(PPP_IPV6))
		*ethertype = bpf_htons(ETH_P_IPV6);
	return FATE_COUNTED;
}

/* Takes a stack of labels. They do not say what is below; the IP version does, as routers assume (RFC 4928). */
static __always_inline enum fate deep_mpls(struct headers *h, __be16 *ethertype)
{
	enum layer layer;
	int i;

	for (i = 0; i < MPLS_LABELS_MAX; i++) {
		__be32 *label = deep_take(h, sizeof(*label));

		if (!label)
			return short_of(h);
		if (!(*label & bpf_htonl(MPLS_BOTTOM)))
			continue;
		if (h->pos >= h->len)
			return short_of(h);
		layer = deep_ip_version(h);
		if (layer)
			*ethertype = layer == LAYER_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
		return FATE_COUNTED;
	}
	return FATE_UNSUPPORTED;
}

/* Takes everything in front of the IP header. The EtherType is not IP's if there is none. */
static __always_inline enum fate deep_link(struct headers *h, struct packet *p, enum layer from, __be16 *ethertype)
{
	enum fate fate;

	if (from == LAYER_FRAME && config.link_layer == LINK_NONE) {
		*ethertype = p->ethertype;
	} else {
		struct ethhdr *eth = deep_take(h, sizeof(*eth));

		if (!eth)
			return short_of(h);
		*ethertype = eth->h_proto;
	}
	fate = deep_vlan(h, p, ethertype);
	if (fate != FATE_COUNTED)
		return fate;
	switch (*ethertype) {
	case bpf_htons(ETH_P_PPP_SES):
		return deep_pppoe(h, ethertype);
	case bpf_htons(ETH_P_MPLS_UC):
	case bpf_htons(ETH_P_MPLS_MC):
		return deep_mpls(h, ethertype);
	}
	return FATE_COUNTED;
}

#endif
