/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The tunnels that are looked into, and their headers. A flow in one belongs to the tunnel's zone, which keeps it apart from
 * its equals elsewhere, and by which user space tells what was around it.
 */
#ifndef WEIR_TUNNELS_H
#define WEIR_TUNNELS_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "account.h"
#include "clock.h"
#include "config.h"
#include "headers.h"
#include "packet.h"

#define VXLAN_HAS_VNI 0x08 /* RFC 7348 section 5 */
#define GENEVE_VERSION 0xc0 /* RFC 8926 section 3.4 */
#define GENEVE_OPTIONS_LEN 0x3f
#define GENEVE_CONTROL 0x80
#define GRE_CHECKSUM 0x8000 /* RFC 2784 section 2.1, RFC 2890 section 2 */
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_UNKNOWN 0x4c07 /* what a receiver must not pass over, and every version but 0 */
#define ERSPAN_II 1 /* version of type II, draft-foschiano-erspan-03 section 4 */
#define ERSPAN_III 2 /* of type III */
#define ERSPAN_VERSION_SHIFT 12
#define ERSPAN_SESSION 0x03ff
#define ERSPAN_TAGGED 0x1800 /* of type II: frames have kept their VLAN tags, and the header's VLAN means nothing */
#define ERSPAN_FRAME_TYPE 0x7c00
#define ERSPAN_FRAME_ETHERNET 0x0000
#define ERSPAN_FRAME_IP 0x0800
#define ERSPAN_SUBHEADER 0x0001
#define ERSPAN_SUBHEADER_LEN 8
#define GTPU_V1 0x30	   /* version 1, and GTP, not GTP' (3GPP TS 29.281 section 5.1) */
#define GTPU_KIND 0xf0
#define GTPU_EXTENDED 0x04
#define GTPU_OPTIONAL 0x07 /* any of the flags that bring the four optional octets */
#define GTPU_G_PDU 255
#define GTPU_EXTENSIONS_MAX 4

/* How old a tunnel's seen_ns may be before it is written: the tunnels of a busy gateway are shared by all CPUs. */
#define TUNNEL_SEEN_NS NS_PER_SECOND

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct tunnel);
	__type(value, struct tunnel_zone);
	__uint(max_entries, 1); /* set at load */
} tunnels SEC(".maps");

/* The zones that no tunnel has. User space puts them in, and takes back those of tunnels that are long gone. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, __u32);
	__uint(max_entries, 1); /* set at load */
} free_zones SEC(".maps");

/* When the queue was last found empty. */
__u64 no_zone_ns;

struct vxlan_header {
	__u8 flags;
	__u8 reserved[3];
	__be32 vni; /* in the upper 24 bits */
};

struct geneve_header {
	__u8 version_options;
	__u8 flags;
	__be16 protocol;
	__be32 vni; /* in the upper 24 bits */
};

struct gre_header {
	__be16 flags;
	__be16 protocol;
};

struct erspan_header {
	__be16 version_vlan;
	__be16 session; /* in the lower 10 bits */
	__be32 index;	/* of type III, a time */
};

/* What type III has beside. */
struct erspan_rest {
	__be16 group;
	__be16 frame; /* what kind of frame follows, and whether a subheader comes before it */
};

struct gtpu_header {
	__u8 flags;
	__u8 type;
	__be16 len;
	__be32 teid;
};

struct gtpu_optional {
	__be16 sequence;
	__u8 n_pdu;
	__u8 next;
};

static __always_inline enum layer layer_of(__be16 ethertype)
{
	switch (ethertype) {
	case bpf_htons(ETH_P_TEB):
		return LAYER_LINK;
	case bpf_htons(ETH_P_IP):
		return LAYER_IPV4;
	case bpf_htons(ETH_P_IPV6):
		return LAYER_IPV6;
	}
	return LAYER_NONE;
}

static __always_inline enum layer take_vxlan(struct headers *h, struct tunnel *t)
{
	struct vxlan_header *vxlan = deep_take(h, sizeof(*vxlan));

	if (!vxlan || !(vxlan->flags & VXLAN_HAS_VNI))
		return LAYER_NONE;
	t->kind = TUNNEL_VXLAN;
	t->id = bpf_ntohl(vxlan->vni) >> 8;
	return LAYER_LINK;
}

static __always_inline enum layer take_geneve(struct headers *h, struct tunnel *t)
{
	struct geneve_header *geneve = deep_take(h, sizeof(*geneve));
	enum layer next;

	if (!geneve || geneve->version_options & GENEVE_VERSION || geneve->flags & GENEVE_CONTROL)
		return LAYER_NONE;
	t->kind = TUNNEL_GENEVE;
	t->id = bpf_ntohl(geneve->vni) >> 8;
	next = layer_of(geneve->protocol);
	return deep_skip(h, (geneve->version_options & GENEVE_OPTIONS_LEN) * 4) ? next : LAYER_NONE;
}

/* Takes what type III has behind the part that is as in type II. */
static __always_inline enum layer take_erspan_rest(struct headers *h)
{
	struct erspan_rest *rest = deep_take(h, sizeof(*rest));
	__u32 frame;

	if (!rest)
		return LAYER_NONE;
	frame = bpf_ntohs(rest->frame);
	if (frame & ERSPAN_SUBHEADER && !deep_skip(h, ERSPAN_SUBHEADER_LEN))
		return LAYER_NONE;
	switch (frame & ERSPAN_FRAME_TYPE) {
	case ERSPAN_FRAME_ETHERNET:
		return LAYER_LINK;
	case ERSPAN_FRAME_IP:
		return deep_ip_version(h);
	}
	return LAYER_NONE;
}

/* Takes what is between GRE and a mirrored frame: nothing in type I, which has no sequence numbers in GRE either. */
static __always_inline enum layer take_erspan(struct headers *h, __be16 protocol, __u32 sequenced, struct tunnel *t)
{
	struct erspan_header *erspan;
	__u32 version, session;

	t->kind = TUNNEL_ERSPAN;
	if (protocol == bpf_htons(ETH_P_ERSPAN) && !sequenced)
		return LAYER_LINK;
	erspan = deep_take(h, sizeof(*erspan));
	if (!erspan)
		return LAYER_NONE;
	session = bpf_ntohs(erspan->session);
	t->id = session & ERSPAN_SESSION;
	version = bpf_ntohs(erspan->version_vlan) >> ERSPAN_VERSION_SHIFT;
	if (version != ERSPAN_II || (session & ERSPAN_TAGGED) != ERSPAN_TAGGED)
		t->vlan = bpf_ntohs(erspan->version_vlan) & VLAN_ID_MASK;
	if (protocol == bpf_htons(ETH_P_ERSPAN))
		return version == ERSPAN_II ? LAYER_LINK : LAYER_NONE;
	return version == ERSPAN_III ? take_erspan_rest(h) : LAYER_NONE;
}

static __always_inline enum layer take_gre(struct headers *h, struct tunnel *t)
{
	struct gre_header *gre = deep_take(h, sizeof(*gre));
	enum layer next;
	__u32 flags;

	if (!gre)
		return LAYER_NONE;
	flags = bpf_ntohs(gre->flags);
	next = layer_of(gre->protocol);
	if (flags & GRE_UNKNOWN || (flags & GRE_CHECKSUM && !deep_skip(h, 4)))
		return LAYER_NONE;
	t->kind = TUNNEL_GRE;
	if (flags & GRE_KEY) {
		__be32 *key = deep_take(h, sizeof(*key));

		if (!key)
			return LAYER_NONE;
		t->id = bpf_ntohl(*key);
	}
	if (flags & GRE_SEQUENCE && !deep_skip(h, 4))
		return LAYER_NONE;
	if (gre->protocol == bpf_htons(ETH_P_ERSPAN) || gre->protocol == bpf_htons(ETH_P_ERSPAN2))
		return take_erspan(h, gre->protocol, flags & GRE_SEQUENCE, t);
	return next;
}

/* Takes the extension headers, of which each says its length in units of 4 octets first, and the kind of the next last. */
static __always_inline int skip_gtpu_extensions(struct headers *h, __u8 next)
{
	int i;

	for (i = 0; i < GTPU_EXTENSIONS_MAX && next; i++) {
		__u8 *len = deep_take(h, 1);
		__u8 *kind;

		if (!len || !*len || !deep_skip(h, *len * 4 - 2))
			return 0;
		kind = deep_take(h, 1);
		if (!kind)
			return 0;
		next = *kind;
	}
	return !next;
}

static __always_inline enum layer take_gtpu(struct headers *h, struct tunnel *t)
{
	struct gtpu_header *gtpu = deep_take(h, sizeof(*gtpu));

	if (!gtpu || (gtpu->flags & GTPU_KIND) != GTPU_V1 || gtpu->type != GTPU_G_PDU)
		return LAYER_NONE;
	t->kind = TUNNEL_GTPU;
	t->id = bpf_ntohl(gtpu->teid);
	if (gtpu->flags & GTPU_OPTIONAL) {
		struct gtpu_optional *optional = deep_take(h, sizeof(*optional));

		if (!optional)
			return LAYER_NONE;
		if (gtpu->flags & GTPU_EXTENDED && !skip_gtpu_extensions(h, optional->next))
			return LAYER_NONE;
	}
	return deep_ip_version(h);
}

static __always_inline enum layer take_udp_tunnel(struct headers *h, __be16 dst, struct tunnel *t)
{
	if (is_vxlan(dst))
		return take_vxlan(h, t);
	if (dst == config.geneve_port)
		return take_geneve(h, t);
	if (dst == config.gtpu_port)
		return take_gtpu(h, t);
	return LAYER_NONE;
}

/* Takes the header of a tunnel, whichever it is, behind the transport header of a packet to dst. */
static __always_inline enum layer take_tunnel(struct headers *h, __u8 protocol, __be16 dst, struct tunnel *t)
{
	switch (protocol) {
	case IPPROTO_UDP:
		return take_udp_tunnel(h, dst, t);
	case IPPROTO_GRE:
		return take_gre(h, t);
	case IPPROTO_IPIP:
		t->kind = TUNNEL_IPIP;
		return LAYER_IPV4;
	case IPPROTO_IPV6:
		t->kind = TUNNEL_IPIP;
		return LAYER_IPV6;
	}
	return LAYER_NONE;
}

/* Whether the contents of the tunnel are counted, and not only looked at to weigh a super-packet. */
static __always_inline int is_opened(const struct tunnel *t, __u8 protocol, __be16 dst)
{
	if (protocol == IPPROTO_UDP && dst == VXLAN_PORT_LINUX && dst != config.vxlan_port)
		return 0;
	return config.decap >> t->kind & 1;
}

/* Tells a tunnel's value from that of another that has the map's element now. */
static __always_inline __u32 check_of(const struct tunnel *t)
{
	const __u32 *words = (const void *)t;
	__u32 check = 0, i;

	for (i = 0; i < sizeof(*t) / sizeof(*words); i++)
		check = (check << 5 | check >> 27) ^ words[i];
	return check;
}

/* Takes a zone from the queue. All CPUs share its lock, so after it was found empty it is left alone for a while. */
static __always_inline int take_zone(__u64 now, __u32 *zone)
{
	if (no_zone_ns && now - no_zone_ns < TUNNEL_SEEN_NS / 100)
		return 0;
	if (!bpf_map_pop_elem(&free_zones, zone))
		return 1;
	no_zone_ns = now;
	return 0;
}

/* Finds the zone of a tunnel, or gives it one. 0: there is none left. */
static __always_inline __u16 zone_of(const struct tunnel *t)
{
	__u64 now = coarse_ns();
	struct tunnel_zone *known = bpf_map_lookup_elem(&tunnels, t);
	__u16 zone;

	if (!known) {
		struct tunnel_zone fresh = {.seen_ns = now, .check = check_of(t)};

		if (!take_zone(now, &fresh.zone))
			return 0;
		/* Another CPU may have been quicker: then its zone is the tunnel's, and this one is free again. */
		if (bpf_map_update_elem(&tunnels, t, &fresh, BPF_NOEXIST))
			bpf_map_push_elem(&free_zones, &fresh.zone, 0);
		known = bpf_map_lookup_elem(&tunnels, t);
		if (!known)
			return 0;
	}
	if (now - known->seen_ns > TUNNEL_SEEN_NS)
		known->seen_ns = now;
	zone = known->zone;
	/* User space may have taken the tunnel out in this instant, and another CPU have put one of its own in its place. */
	return known->check == check_of(t) ? zone : 0;
}

#endif
